"""A change while a message is on its way is told by the next one."""

from __future__ import annotations

import asyncio
from typing import Any

from thruway_operator.controller.status.peer_server import PeerServer
from thruway_operator.controller.status.tally import GroupTally, decode, take_in
from thruway_operator.resources.identity import Identity


async def friend(_: Any) -> Identity:
    return Identity("ns", "operator", "pod", "uid")


def test_nothing_is_lost_while_a_message_is_written() -> None:
    async def run() -> dict[str, GroupTally]:
        tallies = {"namespace/a": GroupTally(0)}
        telling = PeerServer(friend, "ns", "operator", tallies)
        messages = telling._watch(b"", None)  # type: ignore[arg-type]
        known: dict[str, GroupTally] = {}
        take_in(known, decode(await anext(messages)))
        # The generator stands at its yield: gRPC is still writing.
        tallies["namespace/a"] = GroupTally(1)
        telling.tell()
        async with asyncio.timeout(20):
            while known != tallies:
                if message := await anext(messages):
                    take_in(known, decode(message))
        await messages.aclose()  # type: ignore[attr-defined]
        return known

    assert asyncio.run(run()) == {"namespace/a": GroupTally(1)}
