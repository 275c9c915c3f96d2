"""Events on transitions, for `kubectl describe`. They are not state, so one may be lost."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.api.route import API_VERSION, KIND
from thruway_operator.controller.status.clock import monotonic
from thruway_operator.kube import ApiError, KubeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thruway_operator.kube import KubeClient

__all__ = ["Events", "transitions"]

_log = logging.getLogger("thruway.status")

_PER_SECOND: Final = 10.0
_BURST: Final = 200.0
_WAITING: Final = 1_000
_KNOWN: Final = 5_000
_MESSAGE: Final = 1_024  # the API server's limit
# Reasons that come and go without a cause worth reporting.
_QUIET: Final = frozenset({"Pending", "NoProxies", "ReplicaSilent", "NotAccepted", "NotLookedUp"})


def transitions(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """Yield type, reason and message of an event for each condition worth reporting."""
    old = {item.get("type"): item for item in before.get("conditions") or ()}
    for item in now["conditions"]:
        if item["type"] == "Ready":
            continue  # it repeats the others
        was = old.get(item["type"], {})
        same = was.get("status") == item["status"] and was.get("reason") == item["reason"]
        if same or item["reason"] in _QUIET:
            continue
        if item["type"] == "ResolvedRefs" and item["status"] == "True" and not _was_bad(was):
            continue  # no reference was missing: the event of Accepted is sufficient
        kind = "Normal" if item["status"] == "True" else "Warning"
        yield kind, item["reason"], item["message"]


def _was_bad(condition: Mapping[str, Any]) -> bool:
    return condition.get("status") == "False"


class Events:
    """Posts Events one after the other; a repeated one increments its count."""

    def __init__(self, client: KubeClient, replica: str) -> None:
        self._client = client
        self._replica = replica
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WAITING)
        self._counts: dict[str, int] = {}
        self._tokens, self._at = _BURST, monotonic()

    def add(
        self, namespace: str, name: str, uid: str, version: int, found: tuple[str, str, str]
    ) -> None:
        """Queue an event about a route, unless there are too many."""
        kind, reason, message = found
        about = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": namespace,
            "name": name,
            "uid": uid,
            "resourceVersion": str(version),
        }
        key = hashlib.blake2b(f"{uid}\0{kind}\0{reason}\0{message}".encode(), digest_size=8)
        body = {
            "metadata": {
                "namespace": namespace,
                "name": f"{name[:200].rstrip('-.')}.{key.hexdigest()}",
            },
            "involvedObject": about,
            "type": kind,
            "reason": reason,
            "message": message[:_MESSAGE],
            "source": {"component": "thruway-operator"},
            "reportingComponent": "thruway-operator",
            "reportingInstance": self._replica,
        }
        if self._queue.full() or not self._may():
            return
        self._queue.put_nowait(body)

    def _may(self) -> bool:
        now = monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._at) * _PER_SECOND)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def run(self) -> None:
        """Post events until cancelled."""
        while True:
            body = await self._queue.get()
            try:
                await self._post(body)
            except KubeError as error:
                _log.info("an event was lost: %s", error)

    async def _post(self, body: dict[str, Any]) -> None:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = body["metadata"]["name"]
        path = f"/api/v1/namespaces/{body['metadata']['namespace']}/events"
        count = self._counts.pop(name, 0) + 1
        if count > 1 and not await self._count_up(f"{path}/{name}", now, count):
            count = 1  # the Event has expired
        if count == 1:
            try:
                first = {"firstTimestamp": now, "lastTimestamp": now, "count": 1}
                await self._client.request("POST", path, body=body | first)
            except ApiError as error:
                if error.status != 409:
                    raise
                count = 2  # another replica or an earlier process posted it; the count is unknown
                await self._count_up(f"{path}/{name}", now, count)
        self._counts[name] = count
        if len(self._counts) > _KNOWN:
            del self._counts[next(iter(self._counts))]

    async def _count_up(self, path: str, now: str, count: int) -> bool:
        """Increment an Event's count; return whether it still existed."""
        try:
            await self._client.request(
                "PATCH",
                path,
                body={"lastTimestamp": now, "count": count},
                content_type="application/merge-patch+json",
            )
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True
