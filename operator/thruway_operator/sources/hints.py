"""kopf's events on PassthroughRoute: quick hints of what has changed, never the truth.

kopf gives no barrier and loses deletions over a relist (measured: docs/operator.md), so whatever it
says is compared with versions, and authoritative lists decide.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

import kopf

from thruway_operator.kube.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thruway_operator.kube.access import Access

__all__ = ["Hints"]

_log = logging.getLogger("thruway.hints")

GROUP, VERSION, PLURAL = "thruway.dev", "v1alpha1", "passthroughroutes"

_AGAIN: Final = 0.5
"""Seconds between two attempts, of kopf's own and of ours to start kopf again."""


class Hints:
    """Runs kopf in a thread, and calls `on_event(type, object)` on this event loop.

    The type is ADDED, MODIFIED, DELETED, or None for what a list of kopf's own held. A thread of
    its own, because kopf takes the signals of the main one over, and 5,000 events of its first list
    cost seconds that xDS must not wait for.
    """

    def __init__(
        self,
        access: Access,
        namespaces: Sequence[str],
        on_event: Callable[[str | None, Mapping[str, Any]], None],
    ) -> None:
        self._access = access
        self._namespaces = list(namespaces)
        self._on_event = on_event
        self._stop = threading.Event()

    async def run(self) -> None:
        """Give hints until cancelled; whenever kopf ends, start it again."""
        loop = asyncio.get_running_loop()
        while True:
            ended = asyncio.Event()
            self._stop = threading.Event()
            thread = threading.Thread(
                target=self._kopf, args=(loop, ended), name="kopf", daemon=True
            )
            thread.start()
            try:
                await ended.wait()
            finally:
                self._stop.set()
            await asyncio.to_thread(thread.join)
            _log.debug("kopf ended; starting it again")
            await asyncio.sleep(_AGAIN)

    def _kopf(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        try:
            asyncio.run(self._operator(loop))
        except Exception as error:  # noqa: BLE001 - whatever ends kopf: it is started again
            _log.debug("kopf gave up: %s", type(error).__name__)
        finally:
            # A loop that is closed has no use for hints.
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended.set)

    async def _operator(self, loop: asyncio.AbstractEventLoop) -> None:
        registry = kopf.OperatorRegistry()
        access = self._access

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401 - kopf's form
            return kopf.AiohttpSession(
                server=access.server,
                aiohttp_session=open_session(access),
                default_namespace=access.namespace,
            )

        @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
        async def event(**given: Any) -> None:  # noqa: ANN401 - kopf's form
            raw = given["event"]
            loop.call_soon_threadsafe(self._on_event, raw["type"], raw["object"])

        await kopf.operator(
            registry=registry,
            settings=_settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
        )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # it writes nothing: status and events are ours
    settings.scanning.disabled = True  # no watch of CRDs and namespaces, no rights for it
    # It exits when retries run out.
    settings.networking.error_backoffs = itertools.repeat(_AGAIN)
    settings.watching.reconnect_backoff = 0.1
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 300
    return settings
