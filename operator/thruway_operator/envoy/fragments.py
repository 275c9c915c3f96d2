"""One route's share of the configuration, and a snapshot made of many shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

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
from thruway_operator.envoy.names import ROUTE_CONFIG
from thruway_operator.envoy.routes import (
    clusters_of,
    first_routes,
    foreign_pages,
    last_routes,
    render_routes,
)
from thruway_operator.envoy.secrets import render_authority, render_certificate, render_credential
from thruway_operator.envoy.wire import joined, serialised
from thruway_operator.xds.protocol.resources import CLUSTER, ROUTE, SECRET, Fragment, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.xds.protocol.resources import Snapshot

__all__ = ["RouteShare", "assemble", "render_fragments"]

_VIRTUAL_HOSTS = 2  # RouteConfiguration.virtual_hosts
_ROUTES = 3  # VirtualHost.routes


@dataclass(frozen=True, slots=True)
class RouteShare:
    """What one route adds to the RouteConfiguration: serialised routes for some host names."""

    hostnames: tuple[str, ...]
    routes: tuple[bytes, ...]
    origins: tuple[str, ...] = ()
    """Pages that may call it on a proxy that keeps others out."""


def render_fragments(config: ir.Config, system_ca: str) -> dict[str, Fragment]:
    """Return each route's fragment by the route's id; an unchanged route is not rendered again.

    `system_ca` is the CA bundle (PEM) for upstreams that name none.
    """
    return {route.id: _fragment(route, config, system_ca) for route in config.routes}


def assemble(
    fragments: Sequence[Fragment],
    *,
    keep_browsers_out: bool = False,
    allowed_origins: tuple[str, ...] = (),
) -> Snapshot:
    """Return the snapshot of these fragments; the same for any order of them.

    `keep_browsers_out` is for a proxy on loopback: web pages from elsewhere get 403, except those
    of `allowed_origins` and, on its paths, those that a route allows.
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


def _fragment(route: ir.Route, config: ir.Config, system_ca: str) -> Fragment:
    endpoints = clusters_of(route)
    secrets = {}
    for endpoint, _ in endpoints:
        for credential in endpoint.injected:
            name = credential_secret(endpoint, credential)
            secrets[name] = _credential(name, config.secrets[credential.secret])
        if endpoint.tls:
            name = authority_secret(endpoint.tls.ca)
            pem = config.authorities[endpoint.tls.ca] if endpoint.tls.ca else system_ca
            secrets[name] = _authority(name, pem)
            if client := endpoint.tls.client:
                name = certificate_secret(endpoint, client)
                secrets[name] = _certificate(name, config.certificates[client])
        if proxy := endpoint.proxy:
            if proxy.login:
                name = login_secret(proxy)
                secrets[name] = _credential(name, config.secrets[proxy.login])
            if proxy.secure:
                secrets[authority_secret("")] = _authority(authority_secret(""), system_ca)
    proxies = {
        (endpoint.proxy, endpoint.connect_timeout): None
        for endpoint, upgrades in endpoints
        if endpoint.proxy and tunnels(endpoint, upgrades=upgrades)
    }
    return Fragment(
        id=route.id,
        clusters=(
            *(_proxy(proxy, connect_timeout) for proxy, connect_timeout in proxies),
            *(_cluster(endpoint, upgrades) for endpoint, upgrades in endpoints),
        ),
        secrets=tuple(secrets.values()),
        routes=_share(route),
    )


_SHARES: WeakKeyDictionary[ir.Route, RouteShare] = WeakKeyDictionary()
"""Rendered routes. They hold the keys of clients, so none outlives its route."""


def _share(route: ir.Route) -> RouteShare:
    if (found := _SHARES.get(route)) is None:
        found = _SHARES[route] = _rendered(route)
    return found


def _rendered(route: ir.Route) -> RouteShare:
    return RouteShare(route.hostnames, tuple(render_routes(route)), route.pages.origins)


@lru_cache(maxsize=16384)
def _cluster(endpoint: ir.Endpoint, upgrades: bool) -> Resource:
    name = cluster_name(endpoint, upgrades=upgrades)
    return Resource.of(CLUSTER, name, render_cluster(endpoint, upgrades=upgrades))


@lru_cache(maxsize=1024)
def _proxy(proxy: ir.ForwardProxy, connect_timeout: int) -> Resource:
    name = proxy_cluster_name(proxy, connect_timeout)
    return Resource.of(CLUSTER, name, render_proxy_cluster(proxy, connect_timeout))


def _credential(name: str, value: SecretValue) -> Resource:
    return Resource.of(SECRET, name, render_credential(name, value.reveal()))


@lru_cache(maxsize=64)
def _authority(name: str, pem: str) -> Resource:
    return Resource.of(SECRET, name, render_authority(name, pem))


def _certificate(name: str, pair: ir.ClientCertificate) -> Resource:
    return Resource.of(SECRET, name, render_certificate(name, pair))


@lru_cache(maxsize=1024)
def _frame(domain: str, pages: ir.Pages) -> tuple[list[bytes], list[bytes], list[bytes]]:
    foreign = foreign_pages(domain, pages.origins) if pages.local else []
    return (
        first_routes(domain, keep_browsers_out=pages.local),
        foreign,
        last_routes(pages),
    )


def _route_configuration(fragments: Sequence[Fragment], pages: ir.Pages) -> bytes:
    shares = [fragment.routes for fragment in fragments if isinstance(fragment.routes, RouteShare)]
    domains = sorted({name for share in shares for name in share.hostnames} | {"*"})
    # A client may or may not name the port; hostnames are compared without it.
    head = route_pb2.RouteConfiguration(name=ROUTE_CONFIG, ignore_port_in_host_matching=True)
    hosts = ((_VIRTUAL_HOSTS, _virtual_host(domain, shares, pages)) for domain in domains)
    return serialised(head) + joined(hosts)


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
    return serialised(head) + joined((_ROUTES, route) for route in every)


def _covers(hostname: str, domain: str) -> bool:
    # Envoy picks one virtual host, the most specific; so it holds the routes of wider names too.
    if hostname == domain:
        return True
    return hostname.startswith("*.") and domain.endswith(hostname[1:])
