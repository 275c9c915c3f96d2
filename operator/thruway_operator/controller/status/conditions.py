"""Computes the status of a route from what is known about it. Pure; the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.translate.verdict import NOT_LOOKED_UP, Condition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thruway_operator.controller.status.observed import Observed
    from thruway_operator.controller.status.tally import GroupTally

__all__ = ["Proxies", "count", "programmed_reason", "status_of", "was_programmed"]

_MESSAGE: Final = 2_000
"""Maximum characters of a message, because Envoy may quote a whole route."""

# Contains no number: otherwise every new pod would change the message and cause a write.
_ALL_SERVE: Final = Condition("Programmed", True, "Programmed", "All connected proxies serve it.")
# True, because there is nothing to wait for: a pipeline may apply a route before its first pod.
_NO_PROXIES: Final = Condition(
    "Programmed", True, "NoProxies", "No proxy serves it yet. Each will as soon as it connects."
)


@dataclass(frozen=True, slots=True)
class Proxies:
    """What the proxies of all replicas hold of a route."""

    connected: int = 0
    programmed: int = 0
    behind: bool = False
    """Whether a replica with proxies does not offer them the current content yet."""
    rejected: str = ""

    @property
    def all_hold(self) -> bool:
        """Whether there are proxies, and all of them hold the current content."""
        return 0 < self.connected == self.programmed and not self.behind


def count(
    route: str, digests: Mapping[str, str], replicas: Sequence[Mapping[str, GroupTally]]
) -> Proxies:
    """Sum up the replicas' reports about a route, given the digest of its content in each group."""
    connected = programmed = 0
    behind, rejected = False, ""
    for group, wanted in digests.items():
        for replica in replicas:
            tally = replica.get(group)
            if tally is None:
                continue
            connected += tally.connected
            share = tally.shares.get(route)
            if share is None or share.digest != wanted:
                behind |= tally.connected > 0
                continue
            programmed += share.proxies
            rejected = rejected or share.rejected
    return Proxies(connected, programmed, behind, rejected)


def status_of(
    observed: Observed,
    proxies: Proxies,
    previous: Mapping[str, Any],
    now: str,
    *,
    silent: Sequence[str] = (),
    patient: bool = False,
    starting: bool = False,
) -> dict[str, Any]:
    """Return the whole status.

    `previous` is the current status, `now` the time (RFC 3339). `silent` names live replicas that
    do not report what their proxies hold. With `patient`, Programmed stays True if only some
    proxies, which have just joined, lack the route. With `starting`, proxies may still reconnect to
    an operator that has just started, so their absence means nothing.
    """
    accepted, resolved = _verdict(observed)
    programmed = _programmed(accepted, proxies, silent, starting=starting)
    if patient and programmed.reason == "Pending" and was_programmed(observed, previous):
        first = programmed_reason(previous) == _NO_PROXIES.reason
        programmed = _NO_PROXIES if first else _ALL_SERVE
    ready = _ready(accepted, resolved, programmed)
    conditions = (ready, accepted, resolved, programmed)
    status: dict[str, Any] = {
        "observedGeneration": observed.generation,
        "conditions": [_condition(item, observed, previous, now) for item in conditions],
        "proxies": {"connected": proxies.connected, "programmed": proxies.programmed},
    }
    if observed.url:
        status["url"] = observed.url
    if observed.upstream:
        status["upstream"] = observed.upstream
    return status


def _verdict(observed: Observed) -> tuple[Condition, Condition]:
    verdict = observed.verdict
    if verdict is None:
        problem = observed.problem or "the route cannot be read"
        return Condition("Accepted", False, "Invalid", problem), NOT_LOOKED_UP
    return verdict.accepted, verdict.resolved_refs


def _ready(*conditions: Condition) -> Condition:
    """Sum up the others, for tools that know only this condition, such as kstatus.

    It is True if they all are, and False with the first of them that is False. A route whose
    proxies are being programmed is neither.
    """
    kind = "Ready"
    lacking = [item for item in conditions if not item.status]
    failed = [item for item in lacking if item.status is False and item.reason != "Pending"]
    if failed:
        return Condition(kind, False, failed[0].reason, failed[0].message)
    if lacking:
        return Condition(kind, None, lacking[0].reason, lacking[0].message)
    if _NO_PROXIES in conditions:
        return Condition(kind, True, _NO_PROXIES.reason, _NO_PROXIES.message)
    message = "The route is valid, and all connected proxies serve it."
    return Condition(kind, True, "Ready", message)


def _programmed(
    accepted: Condition, proxies: Proxies, silent: Sequence[str], *, starting: bool
) -> Condition:
    kind = "Programmed"
    if not accepted.status:
        message = "The route is not accepted, so no proxy serves it: see Accepted."
        return Condition(kind, False, "NotAccepted", message)
    if proxies.rejected:
        message = f"Envoy rejects the route's configuration: {proxies.rejected}"
        return Condition(kind, False, "Rejected", message)
    if silent:
        message = (
            f"Operator replica {', '.join(silent)} does not report what its proxies serve: see its "
            "log."
        )
        return Condition(kind, None, "ReplicaSilent", message)
    if not proxies.connected and starting:
        message = "The operator has just started, and its proxies may not have reconnected yet."
        return Condition(kind, None, "Pending", message)
    if not proxies.connected:
        return _NO_PROXIES
    if proxies.all_hold:
        return _ALL_SERVE
    message = f"{proxies.programmed} of {proxies.connected} proxies serve its current version."
    return Condition(kind, False, "Pending", message)


def programmed_reason(status: Mapping[str, Any]) -> str:
    """Return the reason of a status' Programmed condition."""
    return str(_find("Programmed", status).get("reason", ""))


def was_programmed(observed: Observed, previous: Mapping[str, Any]) -> bool:
    """Whether a status reports that all proxies hold the route's current generation."""
    found = _find("Programmed", previous)
    return found.get("status") == "True" and found.get("observedGeneration") == observed.generation


def _condition(
    item: Condition, observed: Observed, previous: Mapping[str, Any], now: str
) -> dict[str, Any]:
    before = _find(item.type, previous)
    status = {True: "True", False: "False", None: "Unknown"}[item.status]
    same = before.get("status") == status and before.get("lastTransitionTime")
    return {
        "type": item.type,
        "status": status,
        "reason": item.reason,
        "message": item.message[:_MESSAGE],
        "observedGeneration": observed.generation,
        "lastTransitionTime": before["lastTransitionTime"] if same else now,
    }


def _find(kind: str, status: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (item for item in status.get("conditions") or () if item.get("type") == kind)
    return next(found, {})
