"""What is known about each namespace: its labels, its user IDs and its routes.

The operator's event loop writes it, and the webhook's thread reads it. So shared values are
replaced as a whole, never changed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.kube.reflector import Reflector
from thruway_operator.sidecar.decide import Namespace, RouteFacts, facts_of
from thruway_operator.sidecar.decide.names import LABEL
from thruway_operator.sidecar.decide.users import RANGE, read_range

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thruway_operator.api.route import PassthroughRoute
    from thruway_operator.kube import KubeClient

__all__ = ["Directory"]

_LABELS: Final = (LABEL, "istio-injection", "istio.io/rev")


class Directory:
    """The whole cluster's directory, or that of watched namespaces, whose labels we may not read.

    `on_change` is called when the set of namespaces that `wanted` returns may have changed.
    """

    def __init__(
        self, client: KubeClient, watched: Sequence[str], on_change: Callable[[], None]
    ) -> None:
        self._watched = frozenset(watched)
        self._on_change = on_change
        self._routes: dict[str, dict[str, RouteFacts]] = {}
        self._namespaces: Reflector[Namespace] | None = None
        if not watched:
            self._namespaces = Reflector(
                client,
                "/api/v1/namespaces",
                lambda _, item: _read(item),
                lambda _: on_change(),
                metadata_only=True,
            )

    async def run(self) -> None:
        """Follow the namespaces until cancelled."""
        if self._namespaces is None:
            await asyncio.Event().wait()
        else:
            await self._namespaces.run()

    @property
    def problem(self) -> str | None:
        """A sentence that says why namespaces cannot be followed, or None."""
        return self._namespaces.problem if self._namespaces else None

    def route_changed(self, key: tuple[str, str], route: PassthroughRoute | None) -> None:
        """Store a route, or remove the one with this namespace and name."""
        namespace, name = key
        before = self._routes.get(namespace, {})
        after = {other: facts for other, facts in before.items() if other != name}
        if route is not None:
            after[name] = facts_of(route)
        if after:
            self._routes[namespace] = after
        else:
            self._routes.pop(namespace, None)
        if bool(before) != bool(after):
            self._on_change()

    def namespace(self, name: str) -> Namespace:
        """Return what the injector must know about a namespace."""
        found = self._namespaces.items.get(("", name)) if self._namespaces else None
        return found or Namespace(name)

    def routes(self, namespace: str) -> tuple[RouteFacts, ...]:
        """Return the namespace's routes."""
        return tuple(self._routes.get(namespace, {}).values())

    @property
    def wanted(self) -> frozenset[str]:
        """The namespaces whose pods may have a sidecar that needs the operator's CA."""
        if self._namespaces is None:
            return self._watched
        labelled = (
            name
            for (_, name), found in self._namespaces.items.items()
            if found.labels.get(LABEL) == "enabled"
        )
        # Do not write to a namespace that is gone or is being deleted.
        there = {name for _, name in self._namespaces.items}
        return frozenset(labelled) | (there & self._routes.keys())


def _read(item: Mapping[str, Any]) -> Namespace | None:
    metadata = item["metadata"]
    if metadata.get("deletionTimestamp"):
        return None
    labels = metadata.get("labels") or {}
    kept = {name: labels[name] for name in _LABELS if name in labels}
    users = read_range((metadata.get("annotations") or {}).get(RANGE))
    return Namespace(metadata["name"], kept, users)
