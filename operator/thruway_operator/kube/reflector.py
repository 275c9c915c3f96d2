"""List and watch of one kind: what is there now, and a call for each change.

The list is the truth; the watch keeps it fresh. After a restart of the API server, a 410 or a
silence the list is asked again and what vanished meanwhile is dropped (Kubernetes: "API Concepts",
"Efficient detection of changes"). What was known stays known while the API server is away.
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

__all__ = ["ObjectKey", "Reflector"]

ObjectKey = tuple[str, str]
"""Namespace ("" for what has none) and name."""

_JSON: Final = "application/json"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_EVENT: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

_CHUNK: Final = 500
_WATCH: Final = 290
"""Seconds after which the API server ends a watch, to be asked for the next one."""
_SILENCE: Final = 75.0
"""Seconds without a byte after which a watch counts as dead; bookmarks come once a minute."""
_FIRST_DELAY, _LAST_DELAY = 0.1, 1.0

T = TypeVar("T")


class _Expired(Exception):  # noqa: N818 - what is the case
    """The API server no longer knows what came after our version: list again."""


class Reflector(Generic[T]):
    """Keeps `items` as the API server has them, each as `keep` makes it (None: not kept).

    `on_change` is called after `items` has changed, with the key. `on_deleted` is called
    for every deletion that the watch sees, of what is not kept, too. `problem` is a sentence while
    the API server is away or refuses, None while all is well; `on_problem` is told when it changes.
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
        on_deleted: Callable[[ObjectKey], None] = lambda _: None,
    ) -> None:
        self.items: dict[ObjectKey, T] = {}
        self.synced = asyncio.Event()
        """Set once the first whole list is in."""
        self.problem: str | None = None
        self.lists = 0
        """How many whole lists have come in."""
        self._client = client
        self._path = path
        self._keep = keep
        self._on_change = on_change
        self._on_problem = on_problem
        self._on_deleted = on_deleted
        self._params = dict(params or {})
        self._accept = _METADATA if metadata_only else _JSON
        self._accept_event = _METADATA_EVENT if metadata_only else _JSON

    async def run(self) -> None:
        """List and watch for ever."""
        delay = _FIRST_DELAY
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self._list()
                    delay = _FIRST_DELAY
                version = await self._watch(version)
                # It ends by itself after minutes; one that ends at once must not be asked forever.
                await asyncio.sleep(_FIRST_DELAY)
                delay = _FIRST_DELAY
            except _Expired:
                version = None
                # Not at once: a server that expires everything would be asked without pause.
                await asyncio.sleep(_FIRST_DELAY * random.uniform(0.5, 1.0))  # noqa: S311
            except KubeError as error:
                if isinstance(error, ApiError):
                    version = None
                self._is_ill(error)
                await asyncio.sleep(delay * random.uniform(0.7, 1.0))  # noqa: S311
                delay = min(delay * 1.7, _LAST_DELAY)

    async def _list(self) -> str:
        seen: set[ObjectKey] = set()
        token = ""
        while True:
            params = {**self._params, "limit": str(_CHUNK)}
            if token:
                params["continue"] = token
            try:
                page = await self._client.get(self._path, params=params, accept=self._accept)
            except ApiError as error:
                if error.status == 410:
                    raise _Expired from error
                raise
            for item in page.get("items") or ():
                seen.add(self.put(item))
            token = page["metadata"].get("continue", "")
            if not token:
                break
        for key in [key for key in self.items if key not in seen]:
            self.drop(key)
        self.lists += 1
        self._is_well()
        self.synced.set()
        return str(page["metadata"]["resourceVersion"])

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
                self._is_well()
                async for line in lines:
                    version = self._event(json.loads(line))
        except ApiError as error:
            if error.status == 410:
                raise _Expired from error
            raise
        except ValueError as error:
            raise Unreachable("the API server's answer to a watch cannot be read") from error
        return version

    def _event(self, event: Mapping[str, Any]) -> str:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            if item.get("code") == 410:
                raise _Expired
            raise ApiError(
                int(item.get("code") or 500), str(item.get("reason")), str(item.get("message"))
            )
        if kind == "DELETED":
            self._on_deleted(_key(item))
            self.drop(_key(item))
        elif kind != "BOOKMARK":
            self.put(item)
        return str(item["metadata"]["resourceVersion"])

    def put(self, item: Mapping[str, Any]) -> ObjectKey:
        """Take in an object as the API server has it; return its key."""
        key = _key(item)
        value = self._keep(key, item)
        if value is None:
            self.drop(key)
        elif self.items.get(key) != value:
            self.items[key] = value
            self._on_change(key)
        return key

    def drop(self, key: ObjectKey) -> None:
        """Forget an object, until it comes again."""
        if self.items.pop(key, None) is not None:
            self._on_change(key)

    def _is_well(self) -> None:
        if self.problem is not None:
            self.problem = None
            self._on_problem()

    def _is_ill(self, error: KubeError) -> None:
        if self.problem != str(error):
            self.problem = str(error)
            self._on_problem()


def _key(item: Mapping[str, Any]) -> ObjectKey:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
