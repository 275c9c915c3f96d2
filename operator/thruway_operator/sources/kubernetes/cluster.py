"""Watches a cluster: routes, the objects they reference, and the gateway's namespaces."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator.kube.reflector import Reflector
from thruway_operator.resources.model import ForwardProxies
from thruway_operator.sources.kubernetes.hints import Hints
from thruway_operator.sources.kubernetes.objects import config_map_texts, secret_values
from thruway_operator.sources.kubernetes.referenced import Referenced
from thruway_operator.sources.kubernetes.routes import RouteStore
from thruway_operator.translate import Resources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thruway_operator.api.route import PassthroughRoute
    from thruway_operator.kube import KubeClient
    from thruway_operator.resources.keys import ObjectKey
    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.sources.kubernetes.objects import RouteObject

__all__ = ["ClusterSource", "Watched"]

# These are never credentials for an upstream, and are by far the largest Secrets.
_NO_CREDENTIALS: Final = ",".join(
    f"type!={kind}"
    for kind in (
        "helm.sh/release.v1",
        "kubernetes.io/service-account-token",
        "kubernetes.io/dockerconfigjson",
        "kubernetes.io/dockercfg",
        "bootstrap.kubernetes.io/token",
    )
)


@dataclass(frozen=True, slots=True)
class Watched:
    """Which namespaces are watched, and whose routes the shared gateway accepts."""

    namespaces: tuple[str, ...] = ()
    """Empty: all."""
    gateway_selector: str | None = None
    """Label selector of the namespaces whose routes the gateway accepts; None: see below."""
    gateway_namespaces: tuple[str, ...] = ()
    """The names of those namespaces, if the operator may not read Namespaces."""


class ClusterSource:
    """Follows the cluster; calls `on_change` when anything relevant may have changed.

    `on_route` is called for each route that changes, even if only its status does, or vanishes.
    """

    def __init__(
        self,
        client: KubeClient,
        watched: Watched,
        on_change: Callable[[], None],
        *,
        proxies: ForwardProxies | None = None,
        on_route: Callable[[ObjectKey, PassthroughRoute | None], None] = lambda *_: None,
    ) -> None:
        self._on_route = on_route
        self._proxies = proxies or ForwardProxies()
        self._on_change = on_change
        self._watched = watched
        self._references: dict[ObjectKey, tuple[tuple[str, ObjectKey], ...]] = {}
        self._touched: set[ObjectKey] = set()
        self.ready = False
        names = watched.namespaces
        self.routes = RouteStore(client, names, self._route_changed, on_change)
        self.secrets: Referenced[dict[str, SecretValue]] = Referenced(
            client,
            "secrets",
            secret_values,
            names,
            on_change,
            field_selector=_NO_CREDENTIALS,
            on_problem=on_change,
        )
        self.config_maps: Referenced[dict[str, str]] = Referenced(
            client,
            "configmaps",
            config_map_texts,
            names,
            on_change,
            on_problem=on_change,
        )
        self._namespaces = self._selected(client)
        self._hints = Hints(client.access, names, self.routes.hint)

    def _selected(self, client: KubeClient) -> Reflector[bool] | None:
        if self._watched.gateway_selector is None:
            return None
        return Reflector(
            client,
            "/api/v1/namespaces",
            lambda _key, _item: True,
            lambda _: self._on_change(),
            params={"labelSelector": self._watched.gateway_selector},
            metadata_only=True,
            on_problem=self._on_change,
        )

    async def run(self) -> None:
        """Follow until cancelled. `ready` becomes true after the first lists of all kinds."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.routes.run())
            await self.routes.synced()
            self._want()
            tasks.create_task(self.secrets.run())
            tasks.create_task(self.config_maps.run())
            if self._namespaces:
                tasks.create_task(self._namespaces.run())
            await self.secrets.synced()
            await self.config_maps.synced()
            if self._namespaces:
                await self._namespaces.synced.wait()
            self.ready = True
            self._want()
            self._on_change()
            tasks.create_task(self._hints.run())

    @property
    def problems(self) -> list[str]:
        """The problems that keep it from following the cluster, as sentences, each once."""
        found = [self.routes.problem, *self.secrets.problems, *self.config_maps.problems]
        if self._namespaces:
            found.append(self._namespaces.problem)
        return list(dict.fromkeys(problem for problem in found if problem))

    @property
    def pending(self) -> bool:
        """Whether an object that a route references is still being requested."""
        return self.secrets.pending or self.config_maps.pending

    @property
    def gateway_namespaces(self) -> frozenset[str]:
        """The namespaces whose routes the gateway accepts."""
        selected = (name for _, name in (self._namespaces.items if self._namespaces else ()))
        return frozenset((*self._watched.gateway_namespaces, *selected))

    @property
    def objects(self) -> Mapping[ObjectKey, RouteObject]:
        """All routes as the API server has them, including unreadable ones."""
        return self.routes.objects

    def resources(self) -> Resources:
        """Return the current resources, as the input of translation."""
        routes = (item.route for item in self.routes.objects.values())
        return Resources(
            routes=tuple(route for route in routes if route is not None),
            secrets=self.secrets.values,
            config_maps=self.config_maps.values,
            proxies=self._proxies,
        )

    def _route_changed(self, key: ObjectKey) -> None:
        self._touched.add(key)
        found = self.routes.objects.get(key)
        self._on_route(key, found.route if found else None)
        if self.ready:
            self._want()
        self._on_change()

    def _want(self) -> None:
        """Keep the objects that the routes currently reference."""
        changed = False
        for key in self._touched:
            changed |= self._refer(key)
        self._touched.clear()
        if changed:
            named = {item for items in self._references.values() for item in items}
            self.secrets.want(frozenset(key for kind, key in named if kind == "Secret"))
            self.config_maps.want(frozenset(key for kind, key in named if kind == "ConfigMap"))

    def _refer(self, key: ObjectKey) -> bool:
        """Record what a route refers to now; return whether that changed."""
        item = self.routes.objects.get(key)
        named = item.route.objects if item and item.route else ()
        before = self._references.pop(key, ())
        if named:
            self._references[key] = named
        return named != before
