"""kopf in a thread of its own, started again whenever it ends.

A thread, because kopf takes the signals of the main one over, and 5,000 events of its first list
cost seconds that xDS must not wait for.
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
    from collections.abc import Callable, Sequence

    from thruway_operator.kube.access import Access

__all__ = ["KopfThread"]

_log = logging.getLogger("thruway.kopf")

_IDENTITY: Final[Any] = "thruway"
_AGAIN: Final = 0.5
"""Seconds between two attempts, of kopf's own and of ours to start kopf again."""


class KopfThread:
    """Runs kopf with the handlers that `register` puts into its registry and settings.

    Handlers run in the thread's event loop.
    """

    def __init__(
        self,
        access: Access,
        namespaces: Sequence[str],
        register: Callable[[kopf.OperatorRegistry, kopf.OperatorSettings], None],
        *,
        name: str = "kopf",
    ) -> None:
        self._access = access
        self._namespaces = list(namespaces)
        self._register = register
        self._name = name
        self._stop = threading.Event()
        self._said = ""

    async def run(self) -> None:
        """Run until cancelled; whenever kopf ends, start it again."""
        loop = asyncio.get_running_loop()
        while True:
            ended = asyncio.Event()
            self._stop = threading.Event()
            thread = threading.Thread(
                target=self._kopf, args=(loop, ended), name=self._name, daemon=True
            )
            thread.start()
            try:
                await ended.wait()
            finally:
                self._stop.set()
            await asyncio.to_thread(thread.join)
            _log.debug("%s ended; starting it again", self._name)
            await asyncio.sleep(_AGAIN)

    def _kopf(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        try:
            asyncio.run(self._operator())
        except Exception as error:  # noqa: BLE001 - whatever ends kopf: it is started again
            self._say(f"{self._name} ended ({type(error).__name__}: {str(error)[:200]})")
        finally:
            # A loop that is closed has no use for it.
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended.set)

    def _say(self, problem: str) -> None:
        """Warn, once: what it would have told in an instant now waits for the next whole list."""
        if problem != self._said:
            _log.warning("%s; starting it again, again and again", problem)
        self._said = problem

    async def _operator(self) -> None:
        registry, settings = kopf.OperatorRegistry(), _settings()
        access = self._access

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401 - kopf's form
            return kopf.AiohttpSession(
                server=access.server,
                aiohttp_session=open_session(access),
                default_namespace=access.namespace,
            )

        self._register(registry, settings)
        await kopf.operator(
            registry=registry,
            settings=settings,
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            # By default the user's name, and the user of a pod has none: kopf would end at once.
            identity=_IDENTITY,
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
