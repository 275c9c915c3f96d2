"""An aiohttp application served from a thread, with a record of its requests."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from aiohttp.typedefs import Handler

__all__ = ["Received", "Served"]


@dataclass(frozen=True, slots=True)
class Received:
    """One request's head. `target` is as it was sent."""

    method: str
    target: str
    headers: Mapping[str, str]


class Served:
    """A context manager that serves routes on a free port of 127.0.0.1."""

    def __init__(self, *routes: web.RouteDef) -> None:
        self.requests: list[Received] = []
        self._routes = routes
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = asyncio.Event()
        self._port = 0

    @property
    def url(self) -> str:
        """Scheme and authority."""
        return f"http://127.0.0.1:{self._port}"

    def targets(self) -> list[str]:
        """Return what was asked for, oldest first: `GET /v1/models`."""
        return [f"{request.method} {request.target}" for request in self.requests]

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        application = web.Application(middlewares=[self._record], client_max_size=1 << 26)
        application.add_routes(self._routes)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(Received(request.method, request.raw_path, request.headers.copy()))
        return await handler(request)
