"""Renders each route's share of the configuration, and assembles shares into a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from envoy.config.route.v3 import route_components_pb2, route_pb2

from thruway_operator import ir
from thruway_operator.envoy.browsers import with_origins
from thruway_operator.envoy.clusters import (
    authority_secret,
    certificate_secret,
    cluster_name,
    credential_secret,
    login_secret,
    proxy_cluster_name,
    render_cluster,
    render_proxy_cluster,
    tunnels,
)
from thruway_operator.envoy.names import ROUTE_CONFIG, SYSTEM_CA
from thruway_operator.envoy.routes import (
    clusters_of,
    first_routes,
    foreign_pages,
    last_routes,
    render_routes,
)
from thruway_operator.envoy.secrets import render_authority, render_certificate, render_credential
from thruway_operator.envoy.wire import joined, serialized
from thruway_operator.xds.protocol.resources import CLUSTER, ROUTE, SECRET, Fragment, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.xds.protocol.resources import Snapshot

__all__ = ["Renderer", "RouteShare", "assemble", "render_fragments"]

_VIRTUAL_HOSTS = 2  # RouteConfiguration.virtual_hosts
_ROUTES = 3  # VirtualHost.routes


@dataclass(frozen=True, slots=True)
class RouteShare:
    """What one route adds to the RouteConfiguration: serialized routes for some host names."""

    hostnames: tuple[str, ...]
    routes: tuple[bytes, ...]
    origins: tuple[str, ...] = ()
    """Origins of pages that may call it on a proxy that rejects other pages."""


class Renderer:
    """Renders routes, and again only those whose digest changed.

    `system_ca` is the CA bundle (PEM) for upstreams that name none.
    """

    def __init__(self, system_ca: str) -> None:
        self._system_ca = Resource.of(SECRET, SYSTEM_CA, render_authority(SYSTEM_CA, system_ca))
        self._fragments: dict[str, Fragment] = {}
        self._shared: WeakValueDictionary[str, Resource] = WeakValueDictionary()
        """Clusters and CA bundles, whose names are hashes of their content."""

    def render(self, groups: Mapping[str, ir.Config]) -> dict[str, dict[str, Fragment]]:
        """Return the fragments of each group by the route's id; forget all other routes."""
        before, self._fragments = self._fragments, {}
        return {
            group: {route.id: self._fragment(route, config, before) for route in config.routes}
            for group, config in groups.items()
        }

    def _fragment(
        self, route: ir.Route, config: ir.Config, before: Mapping[str, Fragment]
    ) -> Fragment:
        digest = f"{route.digest}{self._system_ca.version}"
        for known in (self._fragments.get(route.id), before.get(route.id)):
            if known is not None and known.digest == digest:
                self._fragments[route.id] = known
                return known
        rendered = self._render(route, config, digest)
        self._fragments[route.id] = rendered
        return rendered

    def _render(self, route: ir.Route, config: ir.Config, digest: str) -> Fragment:
        clusters: dict[str, Resource] = {}
        secrets: dict[str, Resource] = {}
        endpoints = clusters_of(route)
        for endpoint, upgrades in endpoints:
            if endpoint.proxy and tunnels(endpoint, upgrades=upgrades):
                resource = self._proxy(endpoint.proxy, endpoint.connect_timeout)
                clusters[resource.name] = resource
        for endpoint, upgrades in endpoints:
            resource = self._cluster(endpoint, upgrades=upgrades)
            clusters[resource.name] = resource
            for secret in self._secrets(endpoint, config):
                secrets[secret.name] = secret
        share = RouteShare(route.hostnames, tuple(render_routes(route)), route.pages.origins)
        return Fragment(route.id, digest, tuple(clusters.values()), tuple(secrets.values()), share)

    def _secrets(self, endpoint: ir.Endpoint, config: ir.Config) -> Iterator[Resource]:
        for credential in endpoint.injected:
            name = credential_secret(endpoint, credential)
            yield _credential(name, config.secrets[credential.secret])
        if endpoint.tls:
            yield self._authority(endpoint.tls.ca, config)
            if client := endpoint.tls.client:
                name = certificate_secret(endpoint, client)
                body = render_certificate(name, config.certificates[client])
                yield Resource.of(SECRET, name, body)
        if proxy := endpoint.proxy:
            if proxy.login:
                yield _credential(login_secret(proxy), config.secrets[proxy.login])
            if proxy.secure:
                yield self._system_ca

    def _authority(self, ca: str, config: ir.Config) -> Resource:
        if not ca:
            return self._system_ca
        name = authority_secret(ca)
        return self._share(SECRET, name, lambda: render_authority(name, config.authorities[ca]))

    def _cluster(self, endpoint: ir.Endpoint, *, upgrades: bool) -> Resource:
        name = cluster_name(endpoint, upgrades=upgrades)
        return self._share(CLUSTER, name, lambda: render_cluster(endpoint, upgrades=upgrades))

    def _proxy(self, proxy: ir.ForwardProxy, connect_timeout: int) -> Resource:
        name = proxy_cluster_name(proxy, connect_timeout)
        return self._share(CLUSTER, name, lambda: render_proxy_cluster(proxy, connect_timeout))

    def _share(self, type_url: str, name: str, body: Callable[[], bytes]) -> Resource:
        if (found := self._shared.get(name)) is None:
            found = self._shared[name] = Resource.of(type_url, name, body())
        return found


def render_fragments(config: ir.Config, system_ca: str) -> dict[str, Fragment]:
    """Return each route's fragment by the route's id, rendered from scratch."""
    return Renderer(system_ca).render({"": config})[""]


def assemble(
    fragments: Sequence[Fragment],
    *,
    keep_browsers_out: bool = False,
    allowed_origins: tuple[str, ...] = (),
) -> Snapshot:
    """Return the snapshot of these fragments; the same for any order of them.

    `keep_browsers_out` is for a proxy on loopback: web pages of other origins get 403, except those
    of `allowed_origins`, and those that a route allows on its paths.
    """
    ordered = sorted(fragments, key=lambda fragment: fragment.id)
    pages = ir.Pages(allowed_origins, local=True) if keep_browsers_out else ir.Pages()
    body = _route_configuration(ordered, pages)
    routes = Resource.of(ROUTE, ROUTE_CONFIG, body)
    return {
        CLUSTER: _by_name(resource for fragment in ordered for resource in fragment.clusters),
        SECRET: _by_name(resource for fragment in ordered for resource in fragment.secrets),
        ROUTE: {ROUTE_CONFIG: routes},
    }


def _by_name(resources: Iterable[Resource]) -> dict[str, Resource]:
    return {resource.name: resource for resource in resources}


def _credential(name: str, value: SecretValue) -> Resource:
    return Resource.of(SECRET, name, render_credential(name, value.reveal()))


@lru_cache(maxsize=1024)
def _frame(
    domain: str, pages: ir.Pages
) -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]:
    foreign = foreign_pages(domain, pages.origins) if pages.local else []
    first = first_routes(domain, keep_browsers_out=pages.local)
    return tuple(first), tuple(foreign), tuple(last_routes(pages))


def _route_configuration(fragments: Sequence[Fragment], pages: ir.Pages) -> bytes:
    shares = [fragment.routes for fragment in fragments if isinstance(fragment.routes, RouteShare)]
    domains = sorted({name for share in shares for name in share.hostnames} | {"*"})
    # A client may or may not name the port; hostnames are compared without it.
    head = route_pb2.RouteConfiguration(name=ROUTE_CONFIG, ignore_port_in_host_matching=True)
    hosts = ((_VIRTUAL_HOSTS, _virtual_host(domain, shares, pages)) for domain in domains)
    return serialized(head) + joined(hosts)


def _virtual_host(domain: str, shares: Sequence[RouteShare], pages: ir.Pages) -> bytes:
    first, foreign, last = _frame(domain, pages)
    here = [
        share
        for share in shares
        if not share.hostnames or any(_covers(name, domain) for name in share.hostnames)
    ]
    allowed = [
        with_origins(route, share.origins)
        for share in here
        if pages.local and share.origins
        for route in share.routes
    ]
    routes = [route for share in here for route in share.routes]
    head = route_components_pb2.VirtualHost(name=domain, domains=[domain])
    every = (*first, *allowed, *foreign, *routes, *last)
    return serialized(head) + joined((_ROUTES, route) for route in every)


def _covers(hostname: str, domain: str) -> bool:
    # Envoy uses only the most specific virtual host, so it contains the routes of wider names too.
    if hostname == domain:
        return True
    return hostname.startswith("*.") and domain.endswith(hostname[1:])
