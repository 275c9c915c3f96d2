"""The observed state of one route, except for what its proxies hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.translate import Verdict

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
    url: str
    upstream: str
    digests: Mapping[str, str]
    """The digest of the fragment that each group of proxies gets for it, by group; empty if the
    route is refused."""
