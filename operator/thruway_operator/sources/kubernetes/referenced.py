"""Watches Secrets and ConfigMaps, but keeps only those that a route references."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from thruway_operator.kube import ApiError, KubeError
from thruway_operator.kube.reflector import Reflector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from thruway_operator.kube import KubeClient
    from thruway_operator.resources.keys import ObjectKey

__all__ = ["Referenced"]

T = TypeVar("T")

_AGAIN: Final = 0.5
_AT_ONCE: Final = 16


class Referenced(Generic[T]):
    """The wanted objects of one kind, in all namespaces or in some.

    A newly wanted object was dropped when the list contained it, so it is requested; `pending` is
    true until the response arrives. `on_change` is called after a change of `values` or `pending`.
    """

    def __init__(
        self,
        client: KubeClient,
        plural: str,
        read: Callable[[Mapping[str, Any]], T],
        namespaces: Sequence[str],
        on_change: Callable[[], None],
        *,
        field_selector: str = "",
        on_problem: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._plural = plural
        self._read = read
        self._on_change = on_change
        self._wanted: frozenset[ObjectKey] = frozenset()
        self._asking: dict[ObjectKey, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._reflectors = {
            scope: Reflector(
                client,
                _path(scope, plural),
                self._keep,
                lambda _: on_change(),
                params={"fieldSelector": field_selector} if field_selector else {},
                on_problem=on_problem,
            )
            for scope in (tuple(namespaces) or ("",))
        }

    @property
    def pending(self) -> bool:
        """Whether a wanted object is still being requested."""
        return bool(self._asking)

    @property
    def problems(self) -> Iterator[str]:
        """The problems of the lists and watches."""
        return (r.problem for r in self._reflectors.values() if r.problem is not None)

    @property
    def values(self) -> dict[ObjectKey, T]:
        """The wanted objects that exist."""
        return {
            key: value
            for reflector in self._reflectors.values()
            for key, value in reflector.items.items()
        }

    def want(self, keys: frozenset[ObjectKey]) -> None:
        """Keep only these objects."""
        new, old = keys - self._wanted, self._wanted - keys
        self._wanted = keys
        for key in old:
            if task := self._asking.pop(key, None):
                task.cancel()
            if reflector := self._reflector(key):
                reflector.forget(key)
        for key in new:
            reflector = self._reflector(key)
            # Before the first list, nothing was dropped: the list contains the wanted objects.
            if reflector and reflector.synced.is_set():
                self._asking[key] = asyncio.create_task(self._ask(key, reflector))

    async def synced(self) -> None:
        """Wait for the first complete list."""
        for reflector in self._reflectors.values():
            await reflector.synced.wait()

    async def run(self) -> None:
        """List and watch until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for reflector in self._reflectors.values():
                    tasks.create_task(reflector.run())
        finally:
            for task in self._asking.values():
                task.cancel()

    def _reflector(self, key: ObjectKey) -> Reflector[T] | None:
        return self._reflectors.get("") or self._reflectors.get(key[0])

    def _keep(self, key: ObjectKey, item: Mapping[str, Any]) -> T | None:
        return self._read(item) if key in self._wanted else None

    async def _ask(self, key: ObjectKey, reflector: Reflector[T]) -> None:
        try:
            while not await self._requested(key, reflector):
                pass
        finally:
            if self._asking.get(key) is asyncio.current_task():
                del self._asking[key]
                self._on_change()

    async def _requested(self, key: ObjectKey, reflector: Reflector[T]) -> bool:
        """Request and store the object; return False if that failed or a relist intervened."""
        lists = reflector.lists
        try:
            async with self._slots:
                item = await self._client.get(f"{_path(key[0], self._plural)}/{key[1]}")
        except ApiError as error:
            if error.status == 404:
                return True
            await asyncio.sleep(_AGAIN)
            return False
        except KubeError:
            await asyncio.sleep(_AGAIN)
            return False
        if lists != reflector.lists:
            return False
        reflector.put(item)
        return True


def _path(namespace: str, plural: str) -> str:
    return f"/api/v1/namespaces/{namespace}/{plural}" if namespace else f"/api/v1/{plural}"
