"""All PassthroughRoutes: listed and watched, with kopf's events as hints.

The reflector decides what exists. A hint only saves time, and an older state never replaces a
newer one, whichever way it arrived.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from thruway_operator.kube import ApiError, KubeError
from thruway_operator.kube.reflector import Reflector
from thruway_operator.sources.kubernetes.hints import GROUP, PLURAL, VERSION
from thruway_operator.sources.kubernetes.objects import RouteObject, read_route

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thruway_operator.kube import KubeClient
    from thruway_operator.resources.keys import ObjectKey

__all__ = ["RouteStore"]


class RouteStore:
    """The routes of all namespaces or of some.

    `on_change(key)` is called after each change, including changes of a status.
    """

    def __init__(
        self,
        client: KubeClient,
        namespaces: Sequence[str],
        on_change: Callable[[ObjectKey], None],
        on_problem: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_change = on_change
        self.objects: dict[ObjectKey, RouteObject] = {}
        self._reflectors = {
            scope: Reflector(
                client,
                _path(scope),
                self._read,
                self._changed,
                on_problem=on_problem,
                explain=_explained,
            )
            for scope in (tuple(namespaces) or ("",))
        }

    @property
    def problem(self) -> str | None:
        """A sentence that says why routes cannot be listed or watched; None while they can."""
        return next((r.problem for r in self._reflectors.values() if r.problem), None)

    def hint(self, kind: str | None, item: Mapping[str, Any]) -> None:
        """Process an event from kopf; the type None means an object in kopf's own list."""
        metadata = item["metadata"]
        reflector = self._reflectors.get("") or self._reflectors.get(metadata["namespace"])
        if reflector is None:
            return
        if kind == "DELETED":
            key = (metadata["namespace"], metadata["name"])
            reflector.drop(key, int(metadata["resourceVersion"]))
        else:
            reflector.put(item)

    async def synced(self) -> None:
        """Wait for the first complete list."""
        for reflector in self._reflectors.values():
            await reflector.synced.wait()

    async def run(self) -> None:
        """List and watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors.values():
                tasks.create_task(reflector.run())

    def _read(self, key: ObjectKey, item: Mapping[str, Any]) -> RouteObject:
        return read_route(item, self.objects.get(key))

    def _changed(self, key: ObjectKey) -> None:
        reflector = self._reflectors.get("") or self._reflectors[key[0]]
        if (found := reflector.items.get(key)) is not None:
            self.objects[key] = found
        else:
            self.objects.pop(key, None)
        self._on_change(key)


def _path(namespace: str) -> str:
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{scope}/{PLURAL}"


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
