"""Says what to do about a pod that the API server rejects, by the API server's message.

The sidecar's containers belong to the pod, but not to its template: for them, the remedy is an
annotation or a value of the chart.
"""

from __future__ import annotations

import re
from typing import Final

from thruway_operator.diagnose.findings.conventions import BOOTSTRAP, ENVOY, EXTPROC

__all__ = ["remedy_for"]

_ANY: Final = "correct the field that it names in the pod's template; the pod is then retried"
_VALUES: Final = "the chart's values injector.envoy.resources and injector.extproc.resources"
_POLICY: Final = "do what the webhook or policy asks for, in the pod's template or its namespace"
_ABOUT_OURS: Final = (
    "the sidecar's containers are rejected: allow them there, or change them with the annotations "
    "thruway.dev/* of the pod's template or the chart's values injector.*; or opt out with the "
    'label thruway.dev/inject: "false"'
)
_REMEDIES: Final = {
    "failed calling webhook": "find out why the webhook that it names does not respond",
    "denied the request": _POLICY,
    "denied request": _POLICY,
    "looking up service account": "create the ServiceAccount, or name another in the template",
    "violates PodSecurity": "make the template meet the namespace's Pod Security Standard",
}
"""Remedies by a part of the API server's message."""

# The injector puts its three containers first, but for a mesh's.
_OURS: Final = re.compile(rf"spec\.initContainers\[[0-2]\]|{BOOTSTRAP}|{EXTPROC}|{ENVOY}")
_OUR_RESOURCES: Final = re.compile(r"spec\.initContainers\[[0-2]\]\.resources\.(\w+)")
_UNSPECIFIED: Final = re.compile(r"must specify ((?:limits|requests)\.(?:cpu|memory))")
_QUOTA: Final = re.compile(r"exceeded quota.*?requested: ((?:limits|requests)\.(?:cpu|memory))")
_RANGE: Final = re.compile(
    r"(?:maximum|minimum) (cpu|memory) (?:usage|limit)|limit to request ratio"
)


def remedy_for(message: str) -> str:
    """Return what to do about a rejected pod."""
    found = _about_resources(message)
    if found:
        return found
    if _ours(message):
        return _ABOUT_OURS
    return next((_REMEDIES[part] for part in _REMEDIES if part in message), _ANY)


def _ours(message: str) -> bool:
    return _OURS.search(message) is not None


def _about_resources(message: str) -> str:
    """Return the remedy for a ResourceQuota, a LimitRange, or resources that contradict."""
    found = _UNSPECIFIED.search(message)
    if found and _ours(message):
        return f"set {_annotations(found[1])} in the pod's template, or {_VALUES}"
    if found:
        return "set it for the containers that it names, in the pod's template"
    if found := _QUOTA.search(message):
        return (
            "raise the ResourceQuota, or request less in the pod's template, and for its sidecar "
            f"with {_annotations(found[1])}"
        )
    if "exceeded quota" in message:
        return "raise the ResourceQuota, or request less in the pod's template"
    if found := _RANGE.search(message):
        resource = f"limits.{found[1] or 'memory'}"
        return (
            "keep to the namespace's LimitRange, in the pod's template, and for its sidecar with "
            f"{_annotations(resource)}, or {_VALUES}"
        )
    if found := _OUR_RESOURCES.search(message):
        which = f"thruway.dev/*-{found[1].removesuffix('s')}"
        return f"correct the annotations {which} in the pod's template, or {_VALUES}"
    return ""


def _annotations(resource: str) -> str:
    """Return the two annotations for a resource such as `limits.cpu`."""
    bound, kind = resource.split(".")
    names = (
        f"thruway.dev/{part}-{kind}-{bound.removesuffix('s')}" for part in ("envoy", "extproc")
    )
    return f"the annotations {' and '.join(names)}"
