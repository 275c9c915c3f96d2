"""Finds pods that could not be created because the API server or a webhook refused them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thruway_operator.diagnose.findings.conventions import examined
from thruway_operator.diagnose.findings.events import last_word
from thruway_operator.diagnose.findings.refusals import remedy_for
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.states import Trouble
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["OWNERS", "Owner", "check_creation", "refused_owners", "why_never_made"]

Owner = tuple[str, str]
"""Kind and name of an object that creates pods."""

OWNERS: Final = {
    "ReplicaSet": "replicasets",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "Job": "jobs",
    "ReplicationController": "replicationcontrollers",
}
"""Kinds that create pods, and their plurals."""


def refused_owners(facts: Facts) -> list[Owner]:
    """Return the owners of refused pods, each once; the API server keeps Events for an hour."""
    found = [_owner(event) for event in facts.refusals.items]
    return [owner for owner in dict.fromkeys(found) if owner[0] in OWNERS]


def check_creation(facts: Facts) -> Iterator[Step]:
    """Yield whether pods are currently refused; with POD, only those of the same owner."""
    name = "creation"
    if not facts.refusals.there:
        yield unchecked(name, facts.refusals.reason)
        return
    blind = ""
    for owner in _asked_about(facts):
        trouble = _trouble(facts, owner)
        if trouble:
            yield failed(name, *trouble)
            return
        answer = facts.owners.get(owner)
        if answer is not None and not (answer.there or answer.absent):
            blind = f"pods of {' '.join(owner)} were refused, but {answer.reason}"
    if blind:
        yield unchecked(name, blind)
        return
    yield good(name, f"no pod of namespace {facts.namespace} is refused")


def why_never_made(facts: Facts) -> str:
    """Return why the requested pod does not exist, and what to do; "" if that is unknown."""
    for owner in refused_owners(facts):
        if _akin(facts.pod, owner[1]):
            trouble = _trouble(facts, owner)
            if trouble:
                return ": ".join(trouble)
    return ""


def _akin(pod: str, owner: str) -> bool:
    """Return whether the name of a pod, or a Deployment's name in its place, fits the owner."""
    return f"{pod}-".startswith(f"{owner}-") or owner.startswith(f"{pod}-")


def _asked_about(facts: Facts) -> list[Owner]:
    refused = refused_owners(facts)
    if not facts.pod:
        return refused
    pods = examined(facts)
    references = [ref for pod in pods for ref in pod["metadata"].get("ownerReferences") or ()]
    owners = {(str(ref["kind"]), str(ref["name"])) for ref in references}
    return [owner for owner in refused if owner in owners]


def _trouble(facts: Facts, owner: Owner) -> Trouble | None:
    """Return the problem if the owner still lacks pods; a refused pod may exist by now."""
    answer = facts.owners.get(owner)
    if answer is None or not answer.there or not _lacks(owner[0], answer.value):
        return None
    uid = answer.value["metadata"].get("uid")
    events = [event for event in facts.refusals.items if _owner(event) == owner]
    said = last_word(event for event in events if event["involvedObject"].get("uid") in {None, uid})
    if not said:  # all Events are about a deleted object with the same name
        return None
    message = said.removeprefix("Error creating: ")
    return f"{' '.join(owner)} cannot create its pods: {message}", remedy_for(said)


def _owner(event: Object) -> Owner:
    involved = event["involvedObject"]
    return str(involved.get("kind")), str(involved.get("name"))


def _lacks(kind: str, owner: Object) -> bool:
    spec: dict[str, Any] = owner.get("spec") or {}
    status: dict[str, Any] = owner.get("status") or {}
    if kind == "DaemonSet":
        wanted = int(status.get("desiredNumberScheduled", 0))
        return int(status.get("currentNumberScheduled", 0)) < wanted
    if kind == "Job":
        return int(status.get("active", 0)) < _wanted_by_job(spec, status)
    return int(status.get("replicas", 0)) < int(spec.get("replicas", 1))


def _wanted_by_job(spec: dict[str, Any], status: dict[str, Any]) -> int:
    ended = any(
        item.get("type") in {"Complete", "Failed"} and item.get("status") == "True"
        for item in status.get("conditions") or ()
    )
    if ended or spec.get("suspend"):
        return 0
    wanted, completions = int(spec.get("parallelism", 1)), spec.get("completions")
    if completions is None:
        return wanted
    return min(wanted, int(completions) - int(status.get("succeeded", 0)))
