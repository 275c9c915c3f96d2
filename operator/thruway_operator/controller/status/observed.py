"""The observed state of one route, except for what its proxies hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thruway_operator.controller.status.tally import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.translate import Verdict
    from thruway_operator.xds.protocol.resources import Fragment

__all__ = ["Observed"]


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One route as the API server has it, and its translation. Compared by identity."""

    uid: str
    generation: int
    resource_version: int
    status: Mapping[str, Any]
    verdict: Verdict | None
    """None if its spec could not be read; `problem` then says why."""
    problem: str
    groups: tuple[str, ...]
    """The groups of proxies that serve it; empty if it is refused."""
    url: str
    upstream: str
    fragments: Mapping[str, Fragment] = field(repr=False)
    """The fragment that each group gets for it."""
    digests: Mapping[str, str] = field(init=False)
    """The digests of these fragments, by group."""

    def __post_init__(self) -> None:
        found = {group: digest(fragment) for group, fragment in self.fragments.items()}
        object.__setattr__(self, "digests", found)
