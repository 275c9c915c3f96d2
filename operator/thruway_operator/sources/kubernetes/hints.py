"""kopf's events on PassthroughRoute: early hints of changes, not authoritative.

kopf does not signal the end of its first list, and loses deletions during a relist (measured: see
docs/operator.md). So the versions in its events are compared, and authoritative lists decide.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import kopf

from thruway_operator.kube.kopf_thread import KopfThread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thruway_operator.kube.access import Access

__all__ = ["Hints"]

GROUP, VERSION, PLURAL = "thruway.dev", "v1alpha1", "passthroughroutes"


class Hints:
    """Runs kopf in a thread, and calls `on_event(type, object)` on this event loop.

    The type is ADDED, MODIFIED, DELETED, or None for an object in kopf's own list.
    """

    def __init__(
        self,
        access: Access,
        namespaces: Sequence[str],
        on_event: Callable[[str | None, Mapping[str, Any]], None],
    ) -> None:
        self._access = access
        self._namespaces = namespaces
        self._on_event = on_event

    async def run(self) -> None:
        """Run until cancelled."""
        loop = asyncio.get_running_loop()

        def register(registry: kopf.OperatorRegistry, _: kopf.OperatorSettings) -> None:
            @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
            async def event(**given: Any) -> None:  # noqa: ANN401 - kopf's form
                raw = given["event"]
                loop.call_soon_threadsafe(self._on_event, raw["type"], raw["object"])

        await KopfThread(self._access, self._namespaces, register, watching=True).run()
