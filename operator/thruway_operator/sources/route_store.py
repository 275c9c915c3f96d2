"""All PassthroughRoutes, as the newest of hints and lists has them.

Every state carries its resourceVersion, and the newer wins, whichever way it came. (They are
comparable numbers: Kubernetes, "API Concepts", "Resource versions", since 1.35 by contract.)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.kube import ApiError, KubeError
from thruway_operator.sources.hints import GROUP, PLURAL, VERSION
from thruway_operator.sources.objects import RouteObject, read_route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Mapping, Sequence

    from thruway_operator.kube import KubeClient

__all__ = ["RouteStore"]

ObjectKey = tuple[str, str]

_PERIOD: Final = 30.0
"""Seconds from one audit to the next, if nothing asks for one."""
_AGAIN: Final = 0.5
"""Seconds after which an audit that failed is tried again."""
_CHUNK: Final = 500
_MANY: Final = 50
"""So many routes that have changed unnoticed are not asked for one by one."""
_GRAVES: Final = 10_000
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_JSON: Final = "application/json"


class RouteStore:
    """Keeps `objects`; calls `on_change(key)` after each change of it, status included.

    `problem` is a sentence while lists fail, None while all is well.
    """

    def __init__(
        self,
        client: KubeClient,
        namespaces: Sequence[str],
        on_change: Callable[[ObjectKey], None],
        on_problem: Callable[[], None] = lambda: None,
    ) -> None:
        self.objects: dict[ObjectKey, RouteObject] = {}
        self.problem: str | None = None
        self._client = client
        self._on_change = on_change
        self._on_problem = on_problem
        self._scopes = tuple(namespaces) or ("",)
        self._gone: dict[ObjectKey, int] = {}
        """As of which version a route is known to be gone, so that nothing older revives it."""
        self._wanted = asyncio.Event()

    def hint(self, kind: str | None, item: Mapping[str, Any]) -> None:
        """Take in an event of kopf's."""
        if kind == "DELETED":
            self._drop(_key(item), _version(item))
            return
        self._put(item)
        if kind is None:
            self.ask_for_audit()  # kopf has listed anew: it may have missed a deletion

    def ask_for_audit(self) -> None:
        """Have an authoritative list soon."""
        self._wanted.set()

    async def load(self) -> None:
        """Ask for the first whole list until it comes."""
        await self._until_done(self._load)

    async def run(self) -> None:
        """Compare with an authoritative list, now and then and when asked, for ever."""
        while True:
            try:
                async with asyncio.timeout(_PERIOD):
                    await self._wanted.wait()
                # One list for a burst of reasons.
                await asyncio.sleep(_AGAIN)
            except TimeoutError:
                pass
            self._wanted.clear()
            await self._until_done(self._audit)

    async def _until_done(self, listing: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await listing()
            except KubeError as error:
                self._tell(_explained(error))
                await asyncio.sleep(_AGAIN)
            else:
                self._tell(None)
                return

    def _tell(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self._on_problem()

    async def _load(self) -> None:
        for scope in self._scopes:
            items, version = await self._pages(scope, _JSON)
            self._drop_missing(scope, {_key(item) for item in items}, version)
            for item in items:
                self._put(item)

    async def _audit(self) -> None:
        stale: list[ObjectKey] = []
        for scope in self._scopes:
            items, version = await self._pages(scope, _METADATA)
            listed = {_key(item): _version(item) for item in items}
            self._drop_missing(scope, listed.keys(), version)
            stale += [key for key, found in listed.items() if self._is_news(key, found)]
        if len(stale) > _MANY:
            await self._load()
            return
        for key in stale:
            await self._ask(key)

    async def _ask(self, key: ObjectKey) -> None:
        """List the one: the right to list is there already, and the list has a version."""
        namespace, name = key
        items, version = await self._pages(namespace, _JSON, f"metadata.name={name}")
        for item in items:
            self._put(item)
        if not items:
            self._drop(key, version)

    async def _pages(
        self, scope: str, accept: str, selector: str = ""
    ) -> tuple[list[Mapping[str, Any]], int]:
        items: list[Mapping[str, Any]] = []
        token = ""
        while True:
            params = {"limit": str(_CHUNK)} | ({"continue": token} if token else {})
            params |= {"fieldSelector": selector} if selector else {}
            page = await self._client.get(_path(scope), params=params, accept=accept)
            items += page.get("items") or ()
            token = page["metadata"].get("continue", "")
            if not token:
                return items, int(page["metadata"]["resourceVersion"])

    def _drop_missing(self, scope: str, listed: Container[ObjectKey], version: int) -> None:
        for key in [k for k in self.objects if k not in listed and (not scope or k[0] == scope)]:
            if self.objects[key].resource_version <= version:
                self._drop(key, version)

    def _is_news(self, key: ObjectKey, version: int) -> bool:
        known = self.objects.get(key)
        return version > (known.resource_version if known else self._gone.get(key, 0))

    def _put(self, item: Mapping[str, Any]) -> None:
        key = _key(item)
        if self._is_news(key, _version(item)):
            self.objects[key] = read_route(item, self.objects.get(key))
            self._gone.pop(key, None)
            self._on_change(key)

    def _drop(self, key: ObjectKey, version: int) -> None:
        known = self.objects.get(key)
        if known and known.resource_version > version:
            return
        self._gone[key] = max(version, self._gone.pop(key, 0))
        if len(self._gone) > _GRAVES:
            del self._gone[next(iter(self._gone))]
        if known:
            del self.objects[key]
            self._on_change(key)


def _path(namespace: str) -> str:
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{scope}/{PLURAL}"


def _key(item: Mapping[str, Any]) -> ObjectKey:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _version(item: Mapping[str, Any]) -> int:
    return int(item["metadata"]["resourceVersion"])


def _explained(error: KubeError) -> str:
    if isinstance(error, ApiError) and error.status == 404:
        return (
            f"the API server does not know {PLURAL}.{GROUP}: install Thruway's CRD "
            "(crds.enabled in the chart)"
        )
    if isinstance(error, ApiError) and error.status in {401, 403}:
        return (
            f"the API server does not let this operator list {PLURAL}.{GROUP}: {error}: bind the "
            "chart's roles to its ServiceAccount"
        )
    return str(error)
