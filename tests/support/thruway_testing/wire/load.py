"""Traffic in the background while something is done to Thruway, and an account of it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["Load"]


@dataclass
class Load:
    """Clients that send one request after the other, and streams that are open all the time.

    `urls` get POSTs of a small JSON body in turn; `streams` are GETs that never end. `failures`
    says what went wrong with each request that was not answered 200, `cut` which streams ended.
    """

    urls: Sequence[str]
    streams: Sequence[str] = ()
    clients: int = 8
    pause: float = 0.0
    """Seconds that a client rests after each answer, to leave the machine to something else."""
    headers: dict[str, str] = field(default_factory=dict)
    done: int = 0
    failures: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    streaming: int = 0

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=connector, headers=self.headers
        ) as session:
            streams = [asyncio.create_task(self._hold(session, url)) for url in self.streams]
            clients = [
                asyncio.create_task(self._send(session, start)) for start in range(self.clients)
            ]
            await asyncio.gather(*clients)
            for task in streams:
                task.cancel()
            await asyncio.gather(*streams, return_exceptions=True)

    async def _send(self, session: aiohttp.ClientSession, start: int) -> None:
        number = start
        while not self._stop.is_set():
            url = self.urls[number % len(self.urls)]
            number += 1
            try:
                async with session.post(url, json={"model": "gpt-5", "input": "x"}) as answer:
                    body = await answer.read()
                    if answer.status != 200:
                        self.failures.append(f"{url}: {answer.status} {body[:300]!r}")
            except (aiohttp.ClientError, TimeoutError) as error:
                self.failures.append(f"{url}: {error!r}")
            self.done += 1
            await asyncio.sleep(self.pause)

    async def _hold(self, session: aiohttp.ClientSession, url: str) -> None:
        try:
            async with session.get(url) as answer:
                self.streaming += 1
                async for _ in answer.content.iter_any():
                    pass
            self.cut.append(f"{url}: ended ({answer.status})")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.cut.append(f"{url}: {error!r}")
