"""The event loop's clock, by which its timeouts and sleeps also run. Tests replace the loop."""

from __future__ import annotations

import asyncio

__all__ = ["monotonic"]


def monotonic() -> float:
    """Return the seconds of the running event loop's clock."""
    return asyncio.get_running_loop().time()
