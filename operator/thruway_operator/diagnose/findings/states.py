"""Finds problems of containers in a pod's status, each with its remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thruway_operator.diagnose.findings.conventions import (
    ENVOY,
    EXTPROC,
    annotations_of,
    containers,
    name_of,
    namespace_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from thruway_operator.diagnose.findings.facts import Object

__all__ = ["Trouble", "container_status", "first_trouble", "is_ready"]

Trouble = tuple[str, str]
"""What is wrong, and what to do."""

_IMAGE: Final = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CREATE: Final = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_LIMITS: Final = {
    ENVOY: "annotation thruway.dev/envoy-memory-limit of the pod",
    EXTPROC: "annotation thruway.dev/extproc-memory-limit of the pod",
}


def is_ready(pod: Object) -> bool:
    """Return whether a pod is ready."""
    return _condition(pod, "Ready").get("status") == "True"


def container_status(pod: Object, name: str) -> dict[str, Any]:
    """Return a container's status; empty if there is none."""
    status = pod.get("status") or {}
    of = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return next((item for item in of if item.get("name") == name), {})


def first_trouble(pod: Object, names: Collection[str] | None = None) -> Trouble | None:
    """Return the first problem of a pod, or of these containers in it; None if there is none."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return (
            f"it cannot be scheduled: {str(scheduled.get('message', '')).rstrip('. ')}",
            "free resources on a node, or lower the pod's requests",
        )
    for item in containers(pod):
        if names is None or item["name"] in names:
            trouble = _trouble(pod, item)
            if trouble:
                return trouble
    return None


def _trouble(pod: Object, container: dict[str, Any]) -> Trouble | None:
    name, status = container["name"], container_status(pod, container["name"])
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting, dead = state.get("waiting") or {}, state.get("terminated") or {}
    reason = waiting.get("reason", "")
    detail = str(waiting.get("message", "")).rstrip(". ")
    if reason in _IMAGE:
        return (
            f"the image {container.get('image', '')} of container {name} cannot be pulled "
            f"({reason}): {detail}",
            _image_remedy(pod, name),
        )
    if reason in _CREATE:
        remedy = f"kubectl -n {namespace_of(pod)} describe pod {name_of(pod)}"
        return f"container {name} cannot be created ({reason}): {detail}", remedy
    before = dead or last.get("terminated") or {}
    down = reason == "CrashLoopBackOff" or dead.get("exitCode", 0) != 0
    if before.get("reason") == "OOMKilled" and (down or not status.get("ready", True)):
        times = status.get("restartCount", 0)
        return (
            f"container {name} exceeded its memory limit (OOMKilled, {times} restarts)",
            f"raise its limit with {_LIMITS.get(name, 'the value resources of the chart')}",
        )
    if down:
        log = f"kubectl -n {namespace_of(pod)} logs {name_of(pod)} -c {name} --previous"
        code = before.get("exitCode", "?")
        times = status.get("restartCount", 0)
        what = f"container {name} keeps exiting (exit code {code}, {times} restarts)"
        return what, f"see its log: {log}"
    return None


def _image_remedy(pod: Object, name: str) -> str:
    which = "thruway.dev/envoy-image" if name == ENVOY else "thruway.dev/image"
    if which in annotations_of(pod):
        return f"correct the pod's annotation {which}, or give the pod an imagePullSecret"
    return (
        "check the chart's values image and envoyImage, and that the pod has an imagePullSecret "
        "if the registry requires a login"
    )


def _condition(pod: Object, kind: str) -> dict[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((item for item in conditions if item.get("type") == kind), {})
