"""Checks the application's own containers, which a sidecar may keep from starting."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.conventions import (
    HEALTH_PORT,
    SIDECAR,
    annotations_of,
    containers,
    ended,
    has_sidecar,
    name_of,
    namespace_of,
    restart,
)
from thruway_operator.diagnose.findings.states import container_status, first_trouble
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["PORT", "check_application", "crashing", "says_port_in_use"]

_NAME: Final = "application"
PORT: Final = "thruway.dev/port"
"""Annotation of pods with the port of the sidecar."""
# As Go, Node.js, Python, Java, Rust, nginx and .NET say it.
_IN_USE: Final = re.compile(r"address (?:is )?(?:already )?in use|EADDRINUSE", re.IGNORECASE)


def says_port_in_use(log: str) -> bool:
    """Return whether a program's log says that it could not listen on its port."""
    return _IN_USE.search(log) is not None


def crashing(pod: Object) -> list[str]:
    """Return the application's containers that keep exiting or have failed."""
    return [
        name
        for name in _own(pod)
        if (container_status(pod, name).get("lastState") or {}).get("terminated")
        or ((container_status(pod, name).get("state") or {}).get("terminated") or {}).get(
            "exitCode"
        )
    ]


def _own(pod: Object) -> list[str]:
    return [item["name"] for item in containers(pod) if item["name"] not in SIDECAR]


def check_application(facts: Facts, pod: Object) -> Iterator[Step]:
    """Yield whether the application's containers run."""
    name = name_of(pod)
    if ended(pod):
        yield unchecked(_NAME, f"pod {name} has ended or is being deleted")
        return
    yield _clash(facts, pod) or _states(pod) or good(_NAME, f"the containers of pod {name} run")


def _clash(facts: Facts, pod: Object) -> Step | None:
    if not has_sidecar(pod):
        return None
    port = annotations_of(pod).get(PORT, "4000")
    for name in crashing(pod):
        found = facts.crashes.get((name_of(pod), name))
        if found is not None and found.value:
            message = (
                f"container {name} of pod {name_of(pod)} keeps exiting, and its log says that its "
                f"port is in use: the sidecar listens on {port} and {HEALTH_PORT}"
            )
            remedy = (
                f"annotate the pod's template with {PORT} and another port, or change the port of "
                f"the container; then {restart(pod)}"
            )
            return failed(_NAME, message, remedy)
    return None


def _states(pod: Object) -> Step | None:
    """Report what keeps the application from running, although it is hardly our fault."""
    trouble = first_trouble(pod, _own(pod))
    if trouble:
        return failed(_NAME, f"pod {name_of(pod)}: {trouble[0]}", trouble[1])
    for name in _own(pod):
        state = container_status(pod, name).get("state") or {}
        if "waiting" in state or not state:
            where = f"kubectl -n {namespace_of(pod)} describe pod {name_of(pod)}"
            message = f"container {name} of pod {name_of(pod)} is not running yet"
            return unchecked(_NAME, f"{message}; if this persists: {where}")
    return None
