"""Says what to do about a pod that the API server rejects, by the API server's message.

The sidecar's containers belong to the pod, but not to its template: for them, the remedy is an
annotation or a value of the chart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.conventions import BOOTSTRAP, ENVOY, EXTPROC

if TYPE_CHECKING:
    from collections.abc import Sequence

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

# The injector puts its three containers first, but for a mesh's. OpenShift leaves out `spec`.
_FIRST: Final = r"\.initContainers\[[0-2]\]"
_OURS: Final = re.compile(rf"{_FIRST}|{BOOTSTRAP}|{EXTPROC}|{ENVOY}")
_OUR_RESOURCES: Final = re.compile(rf"{_FIRST}\.resources\.(\w+)")
_FIELD: Final = re.compile(r"\.(?:initC|c)ontainers\[\d+\]")
_OUR_USER: Final = (
    "set the annotation thruway.dev/run-as-user of the pod's template, or the chart's value "
    "injector.runAsUser, to assigned"
)

# In a quota, `cpu` is `requests.cpu`.
_UNSPECIFIED: Final = re.compile(r"(?:(limits)\.|requests\.|\b)(cpu|memory) for: ([^;]+)")
_EXCEEDED: Final = re.compile(r"(?:(limits)\.|requests\.|[ ,])(cpu|memory)=")
_RANGE: Final = re.compile(r"(cpu|memory) usage per \w+ is .*?(request|limit) is")
_RATIO: Final = re.compile(r"(cpu|memory) max limit to request ratio")


def remedy_for(message: str) -> str:
    """Return what to do about a rejected pod."""
    return _about_resources(message) or _about_users(message) or _other(message)


def _other(message: str) -> str:
    if _ours(message):
        return _ABOUT_OURS
    return next((_REMEDIES[part] for part in _REMEDIES if part in message), _ANY)


def _ours(message: str) -> bool:
    return _OURS.search(message) is not None


def _about_users(message: str) -> str:
    """Return the remedy for a user ID: of the sidecar, or of a container that is not named."""
    if "runAsUser" not in message:
        return ""
    if _ours(message):
        return _OUR_USER
    if _FIELD.search(message) or _other(message) is not _POLICY:
        return ""
    return f"{_POLICY}; for its sidecar, {_OUR_USER}"


def _about_resources(message: str) -> str:
    """Return the remedy for a ResourceQuota, a LimitRange, or resources that contradict."""
    if "must specify" in message and (unspecified := _UNSPECIFIED.findall(message)):
        return _about_unspecified(unspecified)
    if "exceeded quota" in message:
        return _about_quota(message)
    if names := _in_range(message):
        return (
            "keep to the namespace's LimitRange, in the pod's template, and for its sidecar with "
            f"{_annotations(names)}, or {_VALUES}"
        )
    if found := _OUR_RESOURCES.search(message):
        which = f"thruway.dev/*-{found[1].removesuffix('s')}"
        return f"correct the annotations {which} in the pod's template, or {_VALUES}"
    return ""


def _about_unspecified(found: Sequence[tuple[str, str, str]]) -> str:
    ours = [_suffix(kind, bound) for bound, kind, containers in found if _ours(containers)]
    others = "set it for the containers that it names, in the pod's template"
    if not ours:
        return others
    everyone = ",".join(containers for *_, containers in found).split(",")
    more = "" if all(map(_ours, everyone)) else "; set it also for the other containers it names"
    return f"set {_annotations(ours)} in the pod's template, or {_VALUES}{more}"


def _about_quota(message: str) -> str:
    requested = message.partition("requested:")[2].partition(", used:")[0]
    names = [_suffix(kind, bound) for bound, kind in _EXCEEDED.findall(requested)]
    sidecar = f", and for its sidecar with {_annotations(names)}" if names else ""
    return f"raise the ResourceQuota, or request less in the pod's template{sidecar}"


def _in_range(message: str) -> list[str]:
    bounds = [_suffix(kind, bound) for kind, bound in _RANGE.findall(message)]
    return bounds + [_suffix(kind, "limit") for kind in _RATIO.findall(message)]


def _suffix(kind: str, bound: str) -> str:
    """Return the end of the name of an annotation: without a bound, for the request."""
    return f"{kind}-{bound.removesuffix('s') or 'request'}"


def _annotations(suffixes: Sequence[str]) -> str:
    """Return the annotations for a suffix such as `cpu-limit`: two for each."""
    names = [
        f"thruway.dev/{part}-{suffix}"
        for suffix in dict.fromkeys(suffixes)
        for part in ("envoy", "extproc")
    ]
    return f"the annotations {', '.join(names[:-1])} and {names[-1]}"
