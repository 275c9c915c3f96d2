"""List and watch of one kind: what exists now, and a call for each change.

The list is authoritative, and the watch keeps it current. After a restart of the API server, a 410
or a silent watch, the reflector lists again and drops objects that vanished meanwhile (Kubernetes:
"API Concepts", "Efficient detection of changes"). While the API server is unavailable, known
objects are kept.

Objects may also arrive in other ways (`put`, `drop`). Each state carries its resourceVersion, and
the newer one wins. (They are comparable numbers: "API Concepts", "Resource versions", guaranteed
since 1.35.)
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from thruway_operator.kube.client import ApiError, KubeError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thruway_operator.kube.client import KubeClient
    from thruway_operator.resources.keys import ObjectKey

__all__ = ["Reflector"]

_JSON: Final = "application/json"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_EVENT: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

_CHUNK: Final = 500
_WATCH: Final = 290
"""Seconds after which the API server ends a watch, and we start the next one."""
_SILENCE: Final = 75.0
"""Seconds without a byte after which a watch counts as dead; bookmarks arrive once a minute."""
_FIRST_DELAY, _LAST_DELAY = 0.1, 1.0
_GRAVES: Final = 10_000
"""How many deletions are remembered, so that an older state does not revive an object."""

T = TypeVar("T")


class _Expired(Exception):  # noqa: N818 - named after the API server's reason
    """The API server no longer has the changes since our version: list again."""


class Reflector(Generic[T]):
    """Keeps `items` in sync with the API server, each converted by `keep` (None: not kept).

    `on_change` is called with the key after `items` has changed. `problem` is a sentence, made by
    `explain`, while the API server is unavailable or rejects requests, and None otherwise;
    `on_problem` is called when it changes.
    """

    def __init__(
        self,
        client: KubeClient,
        path: str,
        keep: Callable[[ObjectKey, Mapping[str, Any]], T | None],
        on_change: Callable[[ObjectKey], None],
        *,
        params: Mapping[str, str] | None = None,
        metadata_only: bool = False,
        on_problem: Callable[[], None] = lambda: None,
        explain: Callable[[KubeError], str] = str,
    ) -> None:
        self.items: dict[ObjectKey, T] = {}
        self.synced = asyncio.Event()
        """Set once the first complete list has arrived."""
        self.problem: str | None = None
        self.lists = 0
        """How many complete lists have arrived."""
        self._client = client
        self._path = path
        self._keep = keep
        self._on_change = on_change
        self._on_problem = on_problem
        self._explain = explain
        self._versions: dict[ObjectKey, int] = {}
        """The version of each item."""
        self._gone: dict[ObjectKey, int] = {}
        """The version at which each object was deleted."""
        self._newest = 0
        self._params = dict(params or {})
        self._accept = _METADATA if metadata_only else _JSON
        self._accept_event = _METADATA_EVENT if metadata_only else _JSON

    async def run(self) -> None:
        """List and watch until cancelled."""
        delay = _FIRST_DELAY
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self._list()
                    delay = _FIRST_DELAY
                version = await self._watch(version)
                # A watch ends after minutes. If it ends immediately, do not retry in a busy loop.
                await asyncio.sleep(_FIRST_DELAY)
                delay = _FIRST_DELAY
            except _Expired:
                version = None
                # Pause first: a server that expires every version would be asked in a busy loop.
                await asyncio.sleep(_FIRST_DELAY * random.uniform(0.5, 1.0))  # noqa: S311
            except KubeError as error:
                if isinstance(error, ApiError):
                    version = None
                self._failed(error)
                await asyncio.sleep(delay * random.uniform(0.7, 1.0))  # noqa: S311
                delay = min(delay * 1.7, _LAST_DELAY)

    async def _list(self) -> str:
        seen: set[ObjectKey] = set()
        newest = self._newest
        token = ""
        while True:
            params = {**self._params, "limit": str(_CHUNK)}
            if token:
                params["continue"] = token
            try:
                found = await self._client.get(self._path, params=params, accept=self._accept)
            except ApiError as error:
                if error.status == 410:
                    raise _Expired from error
                raise
            version, items, token = _page(found)
            if int(version) < newest:  # etcd was restored from a backup
                self._versions.clear()
                self._gone.clear()
                self._newest = newest = 0
            for item in items:
                seen.add(self.put(item))
            if not token:
                break
        for key in [key for key in self.items if key not in seen]:
            self.drop(key, int(version))
        self.lists += 1
        self._recovered()
        self.synced.set()
        return version

    async def _watch(self, version: str) -> str:
        params = {
            **self._params,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH),
        }
        try:
            async with self._client.lines(
                self._path, params=params, accept=self._accept_event, silence=_SILENCE
            ) as lines:
                self._recovered()
                async for line in lines:
                    kind, item = _event(line)
                    self._take_in(kind, item)
                    version = str(_version(item))
        except ApiError as error:
            if error.status == 410:
                raise _Expired from error
            raise
        return version

    def _take_in(self, kind: str, item: Mapping[str, Any]) -> None:
        if kind == "DELETED":
            self.drop(_key(item), _version(item))
        elif kind != "BOOKMARK":
            self.put(item)

    def put(self, item: Mapping[str, Any]) -> ObjectKey:
        """Store an object, unless a newer state is known; return its key."""
        key, version = _key(item), _version(item)
        if version <= max(self._versions.get(key, 0), self._gone.get(key, 0)):
            return key
        self._newest = max(version, self._newest)
        value = self._keep(key, item)
        if value is None:
            self.forget(key)
            return key
        self._versions[key] = version
        if self.items.get(key) != value:
            self.items[key] = value
            self._on_change(key)
        return key

    def drop(self, key: ObjectKey, version: int) -> None:
        """Record that an object was deleted at this version, unless a newer state is known."""
        if self._versions.get(key, 0) > version:
            return
        self._gone[key] = max(version, self._gone.pop(key, 0))
        if len(self._gone) > _GRAVES:
            del self._gone[next(iter(self._gone))]
        self.forget(key)

    def forget(self, key: ObjectKey) -> None:
        """Drop an object until it arrives again."""
        self._versions.pop(key, None)
        if self.items.pop(key, None) is not None:
            self._on_change(key)

    def _recovered(self) -> None:
        if self.problem is not None:
            self.problem = None
            self._on_problem()

    def _failed(self, error: KubeError) -> None:
        problem = self._explain(error)
        if self.problem != problem:
            self.problem = problem
            self._on_problem()


def _key(item: Mapping[str, Any]) -> ObjectKey:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(item: Mapping[str, Any]) -> int:
    return int(item["metadata"]["resourceVersion"])


# A load balancer may respond instead of the API server, with anything.
_UNREADABLE: Final = (AttributeError, KeyError, TypeError, ValueError)


def _page(page: Mapping[str, Any]) -> tuple[str, list[Mapping[str, Any]], str]:
    """Return a page's version, its objects, and the token of the next page or ""."""
    try:
        metadata, items = page["metadata"], list(page.get("items") or ())
        for item in items:
            _key(item), _version(item)
        return str(_version(page)), items, str(metadata.get("continue") or "")
    except _UNREADABLE as error:
        raise Unreachable("the API server's response to a list cannot be read") from error


def _event(line: bytes) -> tuple[str, Mapping[str, Any]]:
    """Return the type and object of one line of a watch; raise ApiError for an ERROR."""
    try:
        event = json.loads(line)
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            code, reason, message = item.get("code"), item.get("reason"), item.get("message")
            raise ApiError(int(code or 500), str(reason), str(message))
        _version(item)
        if kind != "BOOKMARK":
            _key(item)
    except _UNREADABLE as error:
        raise Unreachable("the API server's response to a watch cannot be read") from error
    return str(kind), item
