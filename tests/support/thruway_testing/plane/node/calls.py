"""Steady traffic: requests, and streams of a few seconds each. Runs in pods, too."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Self

import aiohttp

from thruway_testing.wire.load import Load

__all__ = ["Traffic"]

_EVENTS = 8
_PACE = 0.5  # seconds between two events of a stream: each lasts as long as a short answer


class Traffic(Load):
    """Also streams, one after the other, each event of which the client confirms."""

    whole = 0

    @classmethod
    def of(cls, base: str, key: str) -> Self:
        """Return what calls the route at that URL with that key."""
        return cls(
            [f"{base}/v1/responses"],
            [f"{base}/v1/lockstep"] * 4,
            clients=4,
            pause=0.02,
            headers={"Authorization": f"Bearer {key}"},
        )

    async def _hold(self, session: aiohttp.ClientSession, url: str) -> None:
        while not self._stop.is_set():
            try:
                await self._stream(session, f"{url}/{uuid.uuid4().hex}")
                self.whole += 1
            except (aiohttp.ClientError, TimeoutError, AssertionError) as error:
                self.cut.append(repr(error))

    async def pace(self) -> None:
        """Wait between an event and its confirmation."""
        await asyncio.sleep(_PACE)

    async def _stream(self, session: aiohttp.ClientSession, url: str) -> None:
        seen = 0
        async with session.get(url, params={"events": _EVENTS}) as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                assert json.loads(line[6:])["n"] == seen
                await self.pace()
                async with session.post(f"{url}/ack", json={"n": seen}) as ack:
                    assert ack.status < 300, await ack.text()
                seen += 1
        assert seen == _EVENTS, f"the stream ended after {seen} events"
