"""`/healthz` and `/readyz`, for kubelet and for whoever is on call."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

__all__ = ["Health", "HealthError"]


class HealthError(Exception):
    """The health endpoint cannot be served; the message is a sentence."""


class Health:
    """Answers by what it is told.

    `ready` says whether proxies are served: it stays true while the API server is away, for then
    proxies that come back need us most. `problems` is shown with either answer; `figures` are
    gauges by name, for `/metrics`.
    """

    def __init__(
        self,
        ready: Callable[[], bool],
        problems: Callable[[], list[str]],
        figures: Callable[[], Mapping[str, float]],
    ) -> None:
        self._figures = figures
        self._ready = ready
        self._problems = problems

    @contextlib.asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while the context lasts; yield the port.

        Raises:
            HealthError: the port is taken, or not ours to take.
        """
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host or None, port)
            try:
                await site.start()
            except OSError as error:
                raise HealthError(
                    f"cannot serve /healthz on port {port} ({error.strerror}): choose another "
                    "address with --health-listen"
                ) from error
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        # That this answers says that the event loop turns; a part that dies ends the process.
        return self._answer("ok", 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        return self._answer("ready", 200) if self._ready() else self._answer("starting", 503)

    def _answer(self, status: str, code: int) -> web.Response:
        body = json.dumps({"status": status, "problems": self._problems()})
        return web.Response(text=body + "\n", status=code, content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        figures = {
            "ready": float(self._ready()),
            "problems": float(len(self._problems())),
            **self._figures(),
        }
        lines = [
            line
            for name, value in figures.items()
            for line in (
                f"# TYPE thruway_operator_{name} gauge",
                f"thruway_operator_{name} {value:g}",
            )
        ]
        return web.Response(text="\n".join(lines) + "\n")
