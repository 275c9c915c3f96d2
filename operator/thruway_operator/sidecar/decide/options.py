"""Reads the annotations with which a pod configures its sidecar."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from thruway_operator.sidecar.decide.names import HEALTH_PORT, INJECTED, LABEL, OFF, ON, PREFIX
from thruway_operator.sidecar.decide.settings import (
    LOG_LEVELS,
    InjectorError,
    Resources,
    check_bounds,
    check_image,
    check_quantity,
)
from thruway_operator.sidecar.decide.users import check_user

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.sidecar.decide.settings import Images, Settings

__all__ = ["ANNOTATIONS", "Options", "read_options", "unknown_annotations"]

_PARTS: Final = ("envoy", "extproc")
_QUANTITIES: Final = tuple(
    f"{part}-{kind}-{bound}"
    for part in _PARTS
    for kind in ("cpu", "memory")
    for bound in ("request", "limit")
)
ANNOTATIONS: Final = tuple(
    f"{PREFIX}{name}"
    for name in (
        "env",
        "route",
        "port",
        "log-level",
        "image",
        "envoy-image",
        "run-as-user",
        *_QUANTITIES,
    )
)
"""Everything that a user can set on a pod."""


@dataclass(frozen=True, slots=True)
class Options:
    """One pod's sidecar."""

    port: int
    log_level: str
    images: Images
    envoy: Resources
    extproc: Resources
    user: int | None
    """The preferred user ID; None if the platform assigns one."""
    chose_user: bool
    """Whether the pod chose it, so that it is taken as it is."""
    tells: bool
    """Whether applications get variables."""
    route: str
    """The name of the route for these variables; "" lets the injector choose."""
    warnings: tuple[str, ...]


def read_options(annotations: Mapping[str, str], settings: Settings) -> Options:
    """Return the installation's settings as changed by the annotations.

    Raises:
        InjectorError: one of them cannot be used.
    """
    given = {name: annotations.get(f"{PREFIX}{name}") for name in _QUANTITIES}
    image, envoy_image = (annotations.get(f"{PREFIX}{name}") for name in ("image", "envoy-image"))
    user = annotations.get(f"{PREFIX}run-as-user")
    images = settings.images
    if image is not None:
        images = replace(images, thruway=check_image(image, _named("image")))
    if envoy_image is not None:
        images = replace(images, envoy=check_image(envoy_image, _named("envoy-image")))
    return Options(
        port=_port(annotations.get(f"{PREFIX}port"), settings.port),
        log_level=_log_level(annotations.get(f"{PREFIX}log-level"), settings.log_level),
        images=images,
        envoy=_resources("envoy", settings.envoy, given),
        extproc=_resources("extproc", settings.extproc, given),
        user=settings.user if user is None else check_user(user, _named("run-as-user")),
        chose_user=user is not None,
        tells=_tells(annotations.get(f"{PREFIX}env")),
        route=annotations.get(f"{PREFIX}route", ""),
        warnings=tuple(_unknown(annotations)),
    )


def _named(name: str) -> str:
    return f"annotation {PREFIX}{name}"


def unknown_annotations(annotations: Mapping[str, str]) -> list[str]:
    """Return the names that begin like ours, but are unknown."""
    known = {*ANNOTATIONS, INJECTED}
    return sorted(name for name in annotations if name.startswith(PREFIX) and name not in known)


def _unknown(annotations: Mapping[str, str]) -> list[str]:
    # Only a warning: it may be for a newer version that is replacing this one.
    return [
        f"annotation {name[:80]} has no effect: it is a label, so move it to metadata.labels"
        if name == LABEL
        else f"annotation {name[:80]} is unknown and has no effect: check its spelling"
        for name in unknown_annotations(annotations)
    ]


def _port(text: str | None, default: int) -> int:
    if text is None:
        return default
    # The proxy does not run as root, so it cannot listen below 1024.
    if not (text.isascii() and text.isdigit() and 1024 <= int(text) <= 65535):
        raise InjectorError(f"{_named('port')} must be a whole number from 1024 to 65535")
    if int(text) == HEALTH_PORT:
        raise InjectorError(
            f"{_named('port')} is {HEALTH_PORT}, where the sidecar serves health: choose another"
        )
    return int(text)


def _log_level(text: str | None, default: str) -> str:
    if text is None:
        return default
    if text not in LOG_LEVELS:
        raise InjectorError(f"{_named('log-level')} must be one of {', '.join(LOG_LEVELS)}")
    return text


def _tells(text: str | None) -> bool:
    if text is None or text in ON:
        return True
    if text not in OFF:
        raise InjectorError(f'{_named("env")} must be "true" or "false"')
    return False


def _resources(part: str, default: Resources, given: Mapping[str, str | None]) -> Resources:
    changes = {}
    for kind in ("cpu", "memory"):
        for bound in ("request", "limit"):
            name = f"{part}-{kind}-{bound}"
            text = given[name]
            if text is not None:
                changes[f"{kind}_{bound}"] = check_quantity(kind, text, _named(name))
    return check_bounds(replace(default, **changes), f"the sidecar's {part}")
