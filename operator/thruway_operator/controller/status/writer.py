"""Writes statuses by server-side apply: only with the Lease, only changes, at a limited rate."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from thruway_operator.api.route import API_VERSION, KIND
from thruway_operator.controller.status.clock import monotonic
from thruway_operator.kube import ApiError, KubeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from thruway_operator.kube import KubeClient

__all__ = ["MANAGER", "Target", "Writer"]

_log = logging.getLogger("thruway.status")

Target: TypeAlias = tuple[str, str, int]
"""Namespace, name and resourceVersion of a route."""

MANAGER: Final = "thruway-operator"

SETTLE: Final = 0.2
"""Seconds that a change waits for its consequences, mostly ACKs: one write instead of two."""
REST: Final = 4.0
"""Minimum seconds between two writes to one route."""
_AGAIN: Final = 0.5
_LATEST: Final = 30.0
"""Seconds until a failed write is retried: initially, and at most."""
_AT_ONCE: Final = 16


class Writer:
    """Writes the status of marked routes when each is due.

    `desired(route)` returns the status that a route should have and where to write it, or None if
    there is nothing to write. `written` is called with the API server's response.
    """

    def __init__(
        self,
        client: KubeClient,
        desired: Callable[[str], tuple[dict[str, Any], Target] | None],
        written: Callable[[str, dict[str, Any]], None],
        may_write: Callable[[], bool],
    ) -> None:
        self._client = client
        self._desired = desired
        self._written = written
        self._may_write = may_write
        self._due: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._busy: set[str] = set()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: dict[str, int] = {}
        self._said = ""

    def mark(self, routes: Iterable[str], *, after: float = SETTLE) -> None:
        """Check these routes in `after` seconds, or once the last write is long enough ago."""
        at = monotonic() + after
        for route in routes:
            # The earliest time counts. So a route that changes constantly is still written from
            # time to time, and a route that waits for a retry is checked soon after a change.
            due = max(at, self._last.get(route, 0.0) + REST)
            self._due[route] = min(due, self._due.get(route, due))
        self._wake.set()

    def forget(self, route: str) -> None:
        """Forget a deleted route."""
        self._due.pop(route, None)
        self._last.pop(route, None)
        self._failures.pop(route, None)

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                self._start_what_is_due()
                self._wake.clear()
                free = [at for route, at in self._due.items() if route not in self._busy]
                pause = max(0.0, min(free) - monotonic()) if free else None
                if free and not self._may_write():
                    pause = _AGAIN  # nothing signals that we hold the Lease again
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks:
                task.cancel()

    def _start_what_is_due(self) -> None:
        if not self._may_write():
            return
        now = monotonic()
        due = [r for r, at in self._due.items() if at <= now and r not in self._busy]
        for route in due:
            del self._due[route]
            if self._desired(route) is None:
                continue
            self._busy.add(route)
            task = asyncio.create_task(self._write(route))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write(self, route: str) -> None:
        try:
            async with self._slots:
                # Check again, because it may have waited behind thousands of writes.
                found = self._desired(route)
                if found is None:
                    return
                if not self._may_write():
                    self.mark([route])
                    return
                await self._apply(route, *found)
        finally:
            self._busy.discard(route)
            self._wake.set()

    async def _apply(self, route: str, status: dict[str, Any], target: Target) -> None:
        namespace, name, version = target
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            # The known version prevents a write to an object that was recreated, or that the next
            # holder of the Lease has written. (The API server ignores a uid.)
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version)},
            "status": status,
        }
        path = f"/apis/{API_VERSION}/namespaces/{namespace}/passthroughroutes/{name}/status"
        params = {"fieldManager": MANAGER, "force": "true"}
        try:
            answer = await self._client.request(
                "PATCH",
                path,
                params=params,
                body=body,
                content_type="application/apply-patch+yaml",
            )
        except ApiError as error:
            if error.status == 404:
                return
            if error.status == 409:  # a newer version will arrive soon
                self.mark([route], after=_AGAIN)
                return
            self._warn_once(str(error.status), f"the API server rejects that of {route}: {error}")
            self._try_again(route)
        except KubeError as error:
            self._warn_once("away", str(error))
            self._try_again(route)
        else:
            self._warn_once("", "")
            self._failures.pop(route, None)
            self._last[route] = monotonic()
            if route in self._due:  # it was marked during this write
                self._due[route] = max(self._due[route], self._last[route] + REST)
            self._written(route, answer)

    def _try_again(self, route: str) -> None:
        failures = self._failures[route] = self._failures.get(route, 0) + 1
        self.mark([route], after=min(_AGAIN * 2 ** (failures - 1), _LATEST))

    def _warn_once(self, trouble: str, sentence: str) -> None:
        """Log each kind of problem once, not for each of thousands of routes."""
        if trouble and trouble != self._said:
            _log.warning("statuses cannot be written: %s", sentence)
        self._said = trouble
