"""Waits until proxies hold what they are offered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thruway_operator.xds import XdsServer
    from thruway_operator.xds.protocol.publisher import GroupStatus

__all__ = ["wait_programmed"]


async def wait_programmed(server: XdsServer, group: str, within: float) -> GroupStatus:
    """Wait until all connected proxies (at least one) hold what the group is offered.

    Return the status, which names rejected fragments; raise TimeoutError after `within` seconds.
    """
    async with asyncio.timeout(within):
        while not (status := server.status(group)).settled:
            await asyncio.sleep(0.005)
    return status
