"""Stands in for kopf's hints, which only save time.

kopf has a thread and a clock of its own, and prints a traceback if it is stopped while it starts.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thruway_operator.sources.kubernetes import cluster

if TYPE_CHECKING:
    import pytest

__all__ = ["without_hints"]


class _NoHints:
    def __init__(self, *_: object) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()


def without_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operator work without them for the rest of the test."""
    monkeypatch.setattr(cluster, "Hints", _NoHints)
