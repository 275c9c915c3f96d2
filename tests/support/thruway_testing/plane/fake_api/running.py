"""Serves a fake API server in the running event loop, and connects clients to it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from thruway_operator.kube import Access, KubeClient
from thruway_testing.plane.fake_api.server import FakeApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

__all__ = ["SocketClient", "background", "running"]


class SocketClient(KubeClient):
    """The product's client, over a Unix socket: what one end has sent, the other can read at once.

    So the fake clock never jumps while bytes are on their way.
    """

    def __init__(self, access: Access, socket: Path) -> None:
        super().__init__(access)
        self._socket = socket
        self._twins: list[SocketClient] = []

    def twin(self, who: str) -> SocketClient:
        """Return another client, with another credential; it is closed with this one."""
        access = Access(self.access.server, False, lambda: f"Bearer {who}")
        self._twins.append(SocketClient(access, self._socket))
        return self._twins[-1]

    async def close(self) -> None:
        for twin in self._twins:
            await twin.close()
        await super().close()

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self._socket), limit=64)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


@contextlib.asynccontextmanager
async def background(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run these while the context lasts; fail if one of them ends before."""
    tasks = [asyncio.create_task(item) for item in work]
    try:
        yield
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[FakeApi, SocketClient]]:
    """Serve while the context lasts; yield the server and a client."""
    api = FakeApi()
    runner = web.AppRunner(
        api.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "api"
        await web.UnixSite(runner, str(socket)).start()
        tcp = web.TCPSite(runner, "127.0.0.1", 0)
        await tcp.start()
        port = next(address[1] for address in runner.addresses if isinstance(address, tuple))
        access = Access(f"http://127.0.0.1:{port}", False, lambda: "Bearer made-up")
        try:
            async with SocketClient(access, socket) as client:
                yield api, client
        finally:
            await asyncio.sleep(0)  # a connection that is being accepted could not be closed
            await runner.cleanup()
