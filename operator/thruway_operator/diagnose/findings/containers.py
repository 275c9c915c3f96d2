"""Checks a pod's sidecar by the pod's spec and status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thruway_operator.diagnose.findings.conventions import (
    AUDIENCE,
    ENVOY,
    EXTPROC,
    SIDECAR,
    TOKEN_VOLUME,
    containers,
    ended,
    name_of,
    namespace_of,
    restart,
)
from thruway_operator.diagnose.findings.events import last_word
from thruway_operator.diagnose.findings.states import container_status, first_trouble
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_containers"]

_NAME = "containers"


def check_containers(facts: Facts, pod: Object) -> Iterator[Step]:
    """Yield whether the sidecar's containers are complete and running."""
    name = name_of(pod)
    if ended(pod):
        yield unchecked(_NAME, f"pod {name} has ended or is being deleted")
        return
    yield (
        _parts(pod)
        or _token(pod)
        or _states(facts, pod)
        or good(_NAME, f"pod {name}: {EXTPROC} and {ENVOY} run{_restarts(pod)}")
    )


def _parts(pod: Object) -> Step | None:
    there = {item["name"]: item for item in containers(pod)}
    missing = [name for name in SIDECAR if name not in there]
    if missing:
        message = f"pod {name_of(pod)} has a part of a sidecar, but no container {missing[0]}"
        remedy = f"check which other webhooks change pods, and {restart(pod)}"
        return failed(_NAME, message, remedy)
    return None


def _token(pod: Object) -> Step | None:
    """Check the token with which Envoy authenticates to the operator."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    volume = next((item for item in volumes if item["name"] == TOKEN_VOLUME), None)
    sources = ((volume or {}).get("projected") or {}).get("sources") or ()
    audiences = [(item.get("serviceAccountToken") or {}).get("audience") for item in sources]
    name, remedy = name_of(pod), f"check which other webhooks change pods, and {restart(pod)}"
    if AUDIENCE not in audiences:
        what = f"volume {TOKEN_VOLUME} of pod {name}"
        message = (
            f"{what} does not exist"
            if volume is None
            else f"{what} has no token with audience {AUDIENCE}"
        )
        return failed(_NAME, message, remedy)
    envoy = next(item for item in containers(pod) if item["name"] == ENVOY)
    if all(item["name"] != TOKEN_VOLUME for item in envoy.get("volumeMounts") or ()):
        message = f"volume {TOKEN_VOLUME} of pod {name} is not mounted into {ENVOY}"
        return failed(_NAME, message, remedy)
    return None


def _states(facts: Facts, pod: Object) -> Step | None:
    name = name_of(pod)
    trouble = first_trouble(pod, SIDECAR)
    if trouble:
        return failed(_NAME, f"pod {name}: {trouble[0]}", trouble[1])
    waiting = [item for item in SIDECAR if not _begun(container_status(pod, item))]
    mount = _mount(facts, pod)
    if waiting and mount:
        message = f"pod {name} waits for a volume: {mount}"
        return failed(_NAME, message, "create the object that it names; kubelet then retries")
    if waiting:
        where = f"kubectl -n {namespace_of(pod)} describe pod {name}"
        message = f"container {waiting[0]} of pod {name} is not running yet"
        return failed(_NAME, message, f"if this persists: {where}")
    for item in (EXTPROC, ENVOY):
        if container_status(pod, item).get("started") is False:
            log = f"kubectl -n {namespace_of(pod)} logs {name} -c {item}"
            message = (
                f"container {item} of pod {name} runs, but its startup probe has not passed yet"
            )
            return failed(_NAME, message, f"if this persists, see its log: {log}")
    return None


def _begun(status: dict[str, Any]) -> bool:
    state = status.get("state") or {}
    return "running" in state or "terminated" in state


def _mount(facts: Facts, pod: Object) -> str:
    """Return kubelet's latest message about a volume of the pod that cannot be mounted."""
    uid = pod["metadata"].get("uid")
    return last_word(
        item for item in facts.mounts.items if item["involvedObject"].get("uid") == uid
    )


def _restarts(pod: Object) -> str:
    counts = {name: container_status(pod, name).get("restartCount", 0) for name in (EXTPROC, ENVOY)}
    said = [_restarted(pod, name, count) for name, count in counts.items() if count]
    return f"; restarted: {', '.join(said)}" if said else ""


def _restarted(pod: Object, name: str, count: int) -> str:
    last = (container_status(pod, name).get("lastState") or {}).get("terminated") or {}
    reason = f", last for {last['reason']}" if last.get("reason") else ""
    return f"{name} {count} time{'s' * (count > 1)}{reason}"
