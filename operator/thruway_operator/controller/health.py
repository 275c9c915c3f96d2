"""`/healthz`, `/readyz` and `/metrics`, for kubelet, Prometheus and people on call."""

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
    """Reports the operator's health.

    `ready` returns whether proxies are served. It stays true while the API server is unavailable,
    because proxies that reconnect need the operator most then. `problems` are shown in both
    responses; `figures` are gauges by name, for `/metrics`.
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
            HealthError: the port is in use, or binding to it is not permitted.
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
        # A response proves that the event loop runs; if a part fails, the process exits.
        return self._respond("ok", 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        return self._respond("ready", 200) if self._ready() else self._respond("starting", 503)

    def _respond(self, status: str, code: int) -> web.Response:
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
