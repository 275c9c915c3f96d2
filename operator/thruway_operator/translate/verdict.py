"""What translation says of each route: Kubernetes conditions, with a reason and a sentence."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Condition", "Refused", "Verdict"]


class Refused(Exception):  # noqa: N818 - a verdict, not a fault
    """A route cannot be accepted. `reason` is a CamelCase word, `message` a whole sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as in the Kubernetes API conventions (without times, which status adds)."""

    type: str
    status: bool | None
    """True, False, or None where it is unknown."""
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one route."""

    id: str
    generation: int
    accepted: Condition
    resolved_refs: Condition

    @property
    def good(self) -> bool:
        """Whether the route is served as its author meant it."""
        return bool(self.accepted.status and self.resolved_refs.status)

    @property
    def complaints(self) -> list[Condition]:
        """The conditions that are not as they should be; of a refused route only the refusal."""
        if not self.accepted.status:
            return [self.accepted]
        return [] if self.resolved_refs.status else [self.resolved_refs]
