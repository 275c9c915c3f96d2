"""The names that injector, chart and operator agree on, and which pods request a sidecar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thruway_operator.sidecar.decide.names import (
    BOOTSTRAP,
    CA_CONFIG_MAP,
    ENVOY,
    EXTPROC,
    HEALTH_PORT,
    HEALTH_PORT_NAME,
    LABEL,
    OFF,
    ON,
    OUR_CONTAINERS,
    TOKEN_VOLUME,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.diagnose.findings.facts import Facts, Object

__all__ = [
    "AUDIENCE",
    "AUTHORITY",
    "BOOTSTRAP",
    "ENVOY",
    "EXTPROC",
    "HEALTH_PORT",
    "HEALTH_PORT_NAME",
    "INJECT",
    "OPERATOR",
    "ROUTE",
    "SIDECAR",
    "TOKEN_VOLUME",
    "WEBHOOKS",
    "annotations_of",
    "asks",
    "containers",
    "ended",
    "examined",
    "has_sidecar",
    "labels_of",
    "name_of",
    "namespace_of",
    "restart",
    "wants",
]

INJECT: Final = LABEL
ROUTE: Final = "thruway.dev/route"
"""Annotation of pods that names the route for OPENAI_BASE_URL."""
AUTHORITY: Final = CA_CONFIG_MAP
SIDECAR: Final = OUR_CONTAINERS
AUDIENCE: Final = "thruway-xds"
"""The same as in `kube.tokens`, which is not pure and cannot be imported here."""
OPERATOR: Final = "app.kubernetes.io/name=thruway,app.kubernetes.io/component=operator"
WEBHOOKS: Final = ".inject.thruway.dev"
"""The suffix of the injector's webhook names."""


def labels_of(item: Object) -> Mapping[str, str]:
    """Return an object's labels."""
    return item["metadata"].get("labels") or {}


def annotations_of(item: Object) -> Mapping[str, str]:
    """Return an object's annotations."""
    return item["metadata"].get("annotations") or {}


def name_of(item: Object) -> str:
    """Return an object's name."""
    return str(item["metadata"]["name"])


def namespace_of(item: Object) -> str:
    """Return an object's namespace."""
    return str(item["metadata"].get("namespace", ""))


def asks(pod: Object) -> bool | None:
    """Return what a pod's own label requests; None if it is absent or unknown."""
    value = labels_of(pod).get(INJECT)
    return True if value in ON else False if value in OFF else None


def wants(facts: Facts, pod: Object) -> bool:
    """Return whether the labels request a sidecar; the pod's overrides its namespace's."""
    own = asks(pod)
    if own is not None:
        return own
    return labels_of(facts.namespace_object.value or {"metadata": {}}).get(INJECT) == "enabled"


def has_sidecar(pod: Object) -> bool:
    """Return whether a pod contains any part of a sidecar."""
    return any(item["name"] in SIDECAR for item in containers(pod))


def containers(pod: Object) -> list[dict[str, Any]]:
    """Return all containers of a pod."""
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def ended(pod: Object) -> bool:
    """Return whether a pod has ended or is being deleted."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in {"Succeeded", "Failed"} or "deletionTimestamp" in pod["metadata"]


def examined(facts: Facts) -> list[Object]:
    """Return the pods to check: the named one, or all that have not ended."""
    return [pod for pod in facts.pods.items if facts.pod or not ended(pod)]


def restart(pod: Object) -> str:
    """Return how to recreate a pod."""
    namespace, name = namespace_of(pod), name_of(pod)
    owners = pod["metadata"].get("ownerReferences") or ()
    owner = next((item for item in owners if item.get("controller")), {"kind": "", "name": ""})
    kind, of = owner["kind"], owner["name"]
    template = labels_of(pod).get("pod-template-hash", "")
    if kind == "ReplicaSet" and template and of.endswith(f"-{template}"):
        kind, of = "Deployment", of.removesuffix(f"-{template}")
    if kind in {"Deployment", "StatefulSet", "DaemonSet"}:
        return f"kubectl -n {namespace} rollout restart {kind.lower()}/{of}"
    if kind == "Job":
        return f"delete and recreate Job {of}"
    return f"delete and recreate pod {name}"
