"""The verdict on each route: Kubernetes conditions, with a reason and a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from thruway_operator.api.route import PassthroughRoute
    from thruway_operator.translate.translated import Translated

__all__ = ["NOT_LOOKED_UP", "Condition", "Refused", "Verdict", "conflicted", "verdict_of"]


class Refused(Exception):  # noqa: N818 - a verdict, not a fault
    """A route cannot be accepted. `reason` is a CamelCase word, `message` a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as in the Kubernetes API conventions (without times, which status adds)."""

    type: str
    status: bool | None
    """True, False, or None if it is unknown."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of translation for one route."""

    id: str
    generation: int
    accepted: Condition
    resolved_refs: Condition
    slips: tuple[str, ...] = ()
    """Probable mistakes in the Secrets of a route that is served nevertheless."""

    @property
    def good(self) -> bool:
        """Whether the route is served as its author intended."""
        return bool(self.accepted.status and self.resolved_refs.status)

    @property
    def complaints(self) -> list[Condition]:
        """The conditions that report a fault; for a rejected route only the rejection."""
        if not self.accepted.status:
            return [self.accepted]
        return [] if self.resolved_refs.status else [self.resolved_refs]


_ACCEPTED: Final = Condition("Accepted", True, "Accepted", "The route is valid.")
_RESOLVED: Final = Condition("ResolvedRefs", True, "ResolvedRefs", "All references were found.")
NOT_LOOKED_UP: Final = Condition(
    "ResolvedRefs",
    None,
    "NotLookedUp",
    "The route is not accepted, so its references were not looked up.",
)


def conflicted(winner: PassthroughRoute) -> Refused:
    """Return the rejection of a route that collides with an older one."""
    return Refused(
        "Conflicted",
        f"path collides with {winner.spec.path} of the older route {winner.id}, which keeps "
        "the path: use another path, or other hostnames",
    )


def verdict_of(route: PassthroughRoute, outcome: Translated | Refused) -> Verdict:
    """Return the verdict for the outcome of a route's translation."""
    if isinstance(outcome, Refused):
        accepted = Condition("Accepted", False, outcome.reason, outcome.message)
        return Verdict(route.id, route.generation, accepted, NOT_LOOKED_UP)
    resolved = _RESOLVED
    if outcome.failures:
        message = "; ".join(dict.fromkeys(failure.message for failure in outcome.failures))
        resolved = Condition("ResolvedRefs", False, outcome.failures[0].reason, message)
    elif outcome.slips:
        message = f"{_RESOLVED.message[:-1]}, but {'; '.join(outcome.slips)}."
        resolved = Condition("ResolvedRefs", True, "ResolvedRefs", message)
    return Verdict(route.id, route.generation, _ACCEPTED, resolved, tuple(outcome.slips))
