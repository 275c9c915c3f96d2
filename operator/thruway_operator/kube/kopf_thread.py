"""Runs kopf in its own thread, and restarts it whenever it ends.

It needs a thread because kopf takes over the main thread's signals, and because the 5,000 events of
its first list take seconds, for which xDS must not wait.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

import kopf
from kopf._cogs.structs.references import Insights

from thruway_operator.kube.session import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import ClientSession

    from thruway_operator.kube.access import Access

__all__ = ["KopfThread"]

_log = logging.getLogger("thruway.kopf")

_IDENTITY: Final[Any] = "thruway"
_AGAIN: Final = 0.5
"""Seconds between two attempts of kopf's own, and initially of ours to restart kopf."""
_LATEST: Final = 8.0
"""Maximum seconds between two of our attempts, which double while kopf keeps ending."""
_CLOSING: Final = 0.25
"""Seconds in which TLS connections close (aiohttp: "Graceful Shutdown")."""
_RAN: Final = 30.0
"""Seconds after which kopf's end does not count as one more failed attempt."""


class KopfThread:
    """Runs kopf with the handlers and settings that `register` sets.

    Handlers run in the thread's event loop. `watching`: the handlers are for events of resources,
    which kopf looks for only when it starts. If they do not exist yet, it is restarted.
    """

    def __init__(
        self,
        access: Access,
        namespaces: Sequence[str],
        register: Callable[[kopf.OperatorRegistry, kopf.OperatorSettings], None],
        *,
        name: str = "kopf",
        watching: bool = False,
    ) -> None:
        self._access = access
        self._namespaces = list(namespaces)
        self._register = register
        self._name = name
        self._watching = watching
        self._stop = threading.Event()
        self._said = ""

    async def run(self) -> None:
        """Run until cancelled; restart kopf whenever it ends."""
        loop = asyncio.get_running_loop()
        pause = _AGAIN
        while True:
            started = loop.time()
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
            _log.debug("%s ended; restarting it", self._name)
            pause = _AGAIN if loop.time() - started > _RAN else min(pause * 2, _LATEST)
            await asyncio.sleep(pause)

    def _kopf(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        try:
            asyncio.run(self._operator())
        except Exception as error:  # noqa: BLE001 - kopf is restarted after any error
            self._warn_once(f"{self._name} ended ({type(error).__name__}: {str(error)[:200]})")
        finally:
            # A closed loop no longer needs the notification.
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended.set)

    def _warn_once(self, problem: str) -> None:
        """Warn once: without kopf's hints, some changes wait for the next complete list."""
        if problem != self._said:
            _log.warning("%s; retrying until it works", problem)
        self._said = problem

    async def _operator(self) -> None:
        registry, settings = kopf.OperatorRegistry(), _settings()
        access = self._access
        sessions: list[ClientSession] = []

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401 - kopf's form
            sessions.append(open_session(access))
            return kopf.AiohttpSession(
                server=access.server,
                aiohttp_session=sessions[-1],
                default_namespace=access.namespace,
            )

        self._register(registry, settings)
        insights = Insights()
        found = asyncio.create_task(self._stop_if_nothing_is_found(insights))
        try:
            await kopf.operator(
                registry=registry,
                settings=settings,
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                # The default is the user's name, which a pod's user lacks: kopf would end
                # immediately.
                identity=_IDENTITY,
                stop_flag=self._stop,
                insights=insights,
            )
        finally:
            # A thread of kopf's waits for the flag, and the event loop cannot close before it ends.
            self._stop.set()
            found.cancel()
            for session in sessions:  # kopf does not close its session after an error
                await session.close()
            await asyncio.sleep(_CLOSING)

    async def _stop_if_nothing_is_found(self, insights: Insights) -> None:
        await insights.ready_resources.wait()
        if self._watching and not insights.watched_resources:
            self._stop.set()


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # we write status and events ourselves
    # Otherwise kopf kills the whole process if it does not end within ten minutes of an error.
    settings.process.ultimate_exiting_timeout = None
    settings.scanning.disabled = True  # do not watch CRDs and namespaces: we lack the permissions
    # kopf exits when its retries run out.
    settings.networking.error_backoffs = itertools.repeat(_AGAIN)
    settings.watching.reconnect_backoff = 0.1
    settings.watching.server_timeout = 290
    settings.watching.client_timeout = 300
    return settings
