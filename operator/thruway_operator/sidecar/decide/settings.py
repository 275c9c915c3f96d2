"""An installation's settings for sidecars, which a pod's annotations can override."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

__all__ = [
    "ENVOY_RESOURCES",
    "EXTPROC_RESOURCES",
    "LOG_LEVELS",
    "Images",
    "InjectorError",
    "Resources",
    "Settings",
    "check_bounds",
    "check_image",
    "check_quantity",
    "read_resources",
]

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

_FACTORS: Final = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
_DECIMAL: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_SUFFIXES: Final = {"cpu": ("", "m"), "memory": ("", *"kMGTPE", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")}
# Characters of registry, path, tag and digest: https://github.com/distribution/reference
_IMAGE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/-]*(@[a-z0-9]+:[0-9a-f]{32,})?")


class InjectorError(Exception):
    """A setting or manifest cannot be used; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images of the containers that are added."""

    thruway: str
    envoy: str
    thruway_pull_policy: str = "IfNotPresent"
    envoy_pull_policy: str = "IfNotPresent"


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of one container, as Kubernetes quantities; "" omits one."""

    cpu_request: str = ""
    memory_request: str = ""
    cpu_limit: str = ""
    memory_limit: str = ""

    def manifest(self) -> dict[str, dict[str, str]]:
        """Return them in a pod's form."""
        found = {
            "requests": {"cpu": self.cpu_request, "memory": self.memory_request},
            "limits": {"cpu": self.cpu_limit, "memory": self.memory_limit},
        }
        said = {
            kind: {name: value for name, value in values.items() if value}
            for kind, values in found.items()
        }
        return {kind: values for kind, values in said.items() if values}


ENVOY_RESOURCES: Final = Resources(cpu_request="20m", memory_request="64Mi", memory_limit="512Mi")
EXTPROC_RESOURCES: Final = Resources(cpu_request="20m", memory_request="96Mi", memory_limit="256Mi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One installation's settings."""

    version: str
    """Thruway's version, for the annotation of injected pods."""
    namespace: str
    """Where Thruway itself runs: its own pods get no sidecar."""
    operator: str
    """Host and port of the xDS server."""
    images: Images
    port: int = 4000
    log_level: str = "warning"
    envoy: Resources = ENVOY_RESOURCES
    extproc: Resources = EXTPROC_RESOURCES
    pull_secrets: tuple[str, ...] = ()
    """Names of Secrets in the pod's namespace, with the logins of the images' registries."""
    user: int | None = 65533
    """The user ID of the sidecar's containers; None if the platform assigns one."""
    private_metrics: bool = False
    """Whether only the pod itself may read its Envoy's metrics."""
    drain: int = 30
    """Maximum number of seconds for which an ending pod waits for its streams."""


def read_resources(data: object, part: str) -> Resources:
    """Return a container's `resources`.

    Raises:
        InjectorError: they are invalid, or name more than cpu and memory.
    """
    wrong = InjectorError(f"resources of {part} may contain cpu and memory in requests and limits")
    if not isinstance(data, dict) or not data.keys() <= {"requests", "limits"}:
        raise wrong
    found = {}
    for bounds, values in data.items():
        if not isinstance(values, dict) or not values.keys() <= {"cpu", "memory"}:
            raise wrong
        for kind, value in values.items():
            if value is None:  # how users of Helm remove a default
                continue
            what = f"{kind} in {bounds} of {part}"
            found[f"{kind}_{bounds.removesuffix('s')}"] = check_quantity(kind, str(value), what)
    return check_bounds(Resources(**found), part)


def check_bounds(resources: Resources, part: str) -> Resources:
    """Return resources whose requests are within their limits, as Kubernetes requires.

    Raises:
        InjectorError: they are not; the sentence calls the container `part`.
    """
    for kind, request, limit in (
        ("cpu", resources.cpu_request, resources.cpu_limit),
        ("memory", resources.memory_request, resources.memory_limit),
    ):
        if request and limit and _amount(request) > _amount(limit):
            raise InjectorError(
                f"{kind} request {request} of {part} is more than its limit {limit}: lower the "
                "one or raise the other"
            )
    return resources


def _amount(quantity: str) -> Decimal:
    number = quantity.rstrip("kKMGTPEim")
    return Decimal(number) * _FACTORS[quantity.removeprefix(number)]


def check_quantity(kind: str, text: str, what: str) -> str:
    """Return a quantity of `cpu` or `memory`.

    Raises:
        InjectorError: it is invalid (Kubernetes: "Resource Management for Pods and Containers").
    """
    for suffix in _SUFFIXES[kind]:
        number = text.removesuffix(suffix) if suffix else text
        if text.endswith(suffix) and _DECIMAL.fullmatch(number):
            return text
    example = "200m or 1.5" if kind == "cpu" else "128Mi or 1Gi"
    raise InjectorError(f"{what} is not a quantity of {kind}: use one such as {example}")


def check_image(text: str, what: str) -> str:
    """Return the name of an image.

    Raises:
        InjectorError: it is invalid.
    """
    if len(text) > 512 or not _IMAGE.fullmatch(text):
        raise InjectorError(
            f"{what} is not an image: use one such as registry.example/thruway/thruway:1.0"
        )
    return text
