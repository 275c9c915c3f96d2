"""Envoy routes of one IR route, and the fixed routes around all of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3 import base_pb2 as core
from envoy.config.route.v3 import route_components_pb2 as route_pb
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2 as ext_proc

from thruway_extproc.rule import CLIENT_HEADER, KEPT_ASIDE, KEY_HEADER, METADATA_KEY, encode
from thruway_operator import ir
from thruway_operator.envoy.browsers import refuse_foreign_hosts, refuse_foreign_pages
from thruway_operator.envoy.clientauth import client_auth_filters
from thruway_operator.envoy.clusters import cluster_name, needs_twin
from thruway_operator.envoy.cors import (
    ORIGIN_NOT_ALLOWED,
    allowing,
    cors_headers,
    preflight_headers,
    preflight_matches,
)
from thruway_operator.envoy.handshakes import DISGUISE
from thruway_operator.envoy.names import EXT_PROC_FILTER, GUARD_FILTER, METADATA
from thruway_operator.envoy.wire import any_of, duration, escaped, serialized

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf import any_pb2

__all__ = [
    "clusters_of",
    "first_routes",
    "foreign_pages",
    "last_routes",
    "render_routes",
]

# Our filters and Envoy add these headers to requests; Thruway forwards none of them.
_ADDED_HERE = (
    CLIENT_HEADER,
    KEY_HEADER,
    *KEPT_ASIDE.values(),
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-expected-rq-timeout-ms",
)

_APPEND = core.HeaderValueOption
_METHOD = ":method"
_NO_PAGES = ir.Pages()
_NO_FILTERS: Mapping[str, Any] = {}
_OFF = any_of(route_pb.FilterConfig(disabled=True))


def render_routes(route: ir.Route) -> list[bytes]:
    """Return the serialized Envoy routes of one route, in the order in which they match."""
    rendered: list[route_pb.Route] = []
    filters = allowing(route.pages)
    for branch in route.branches:
        name = _name(route, branch)
        for match in branch.matches:
            refused = isinstance(branch.outcome, ir.Refusal) and route.pages
            if refused or _handles_preflights(route):
                preflights = _preflights(name, _path(match), route.pages, route.methods)
                rendered += [_formatted(item, route) for item in preflights]
            if isinstance(branch.outcome, ir.Refusal):
                refusing = _refusing(name, _path(match), branch.outcome, filters)
                rendered.append(_formatted(refusing, route))
            else:
                forwarding = _forwarding(route, branch, match, branch.outcome)
                rendered += [_formatted(item, route) for item in forwarding]
    return [serialized(item) for item in rendered]


def _handles_preflights(route: ir.Route) -> bool:
    """Whether preflights end here: they carry no key, and not every method is allowed."""
    forbidden = bool(route.pages and route.methods) and "OPTIONS" not in route.methods
    return route.clients is not None or forbidden


def last_routes(pages: ir.Pages = _NO_PAGES) -> list[bytes]:
    """Return the routes that respond if no other does, readable for these pages."""
    refusal = ir.Refusal(
        404,
        "route_not_found",
        "No PassthroughRoute serves this path. Check the base URL: its host name, and its path, "
        "which must be a route's path, with or without a version such as /v1 after it.",
    )
    match = route_pb.RouteMatch(prefix="/")
    routes = _preflights("", match, pages) if pages else []
    routes.append(_refusing("", match, refusal, allowing(pages)))
    return [serialized(route) for route in routes]


def first_routes(domain: str, *, keep_browsers_out: bool) -> list[bytes]:
    """Return the routes that reject requests to this domain before any other route is tried."""
    hosts = refuse_foreign_hosts(domain) if keep_browsers_out else []
    return [_tunnels(), _two_hosts(), _dot_segments(), *_refusals(hosts)]


def foreign_pages(domain: str, origins: Sequence[str]) -> list[bytes]:
    """Return the routes that reject pages of other machines, unless `origins` names them."""
    return _refusals(refuse_foreign_pages(domain, origins))


def _refusals(pairs: Iterable[tuple[route_pb.RouteMatch, ir.Refusal]]) -> list[bytes]:
    return [serialized(_refusing("", match, refusal)) for match, refusal in pairs]


def _preflights(
    name: str, match: route_pb.RouteMatch, pages: ir.Pages, methods: Sequence[str] = ()
) -> list[route_pb.Route]:
    # Browsers send no key with a preflight, so the upstream cannot decide.
    allowed, every = preflight_matches(match, pages)
    routes = [_refusing(name, every, ORIGIN_NOT_ALLOWED)]
    if pages:
        responding = _responding(name, allowed, route_pb.DirectResponseAction(status=204))
        responding.response_headers_to_add.extend(
            [core.HeaderValueOption(**item) for item in preflight_headers(methods)]
        )
        routes.insert(0, responding)
    return routes


def _tunnels() -> bytes:
    # No other route matches CONNECT; without this one, filters would run without their settings.
    refusal = ir.Refusal(
        405,
        "connect_not_supported",
        "This is not a forward proxy: remove it from HTTP_PROXY and HTTPS_PROXY, and make it the "
        "base URL of the SDK.",
    )
    match = route_pb.RouteMatch(connect_matcher={})
    route = _refusing("", match, refusal)
    # RFC 9110, 15.5.6: a 405 lists the allowed methods.
    route.response_headers_to_add.extend(
        [_header("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
    )
    return serialized(route)


def _two_hosts() -> bytes:
    # RFC 9112, 3.2: 400. Envoy joins them by a comma, which no host name has.
    refusal = ir.Refusal(
        400,
        "malformed_request",
        "The request has more than one Host header. Send one.",
    )
    headers = [{"name": ":authority", "string_match": {"contains": ","}}]
    match = route_pb.RouteMatch(prefix="/", headers=headers)
    return serialized(_refusing("", match, refusal))


def _dot_segments() -> bytes:
    # A path that could leave its route.
    refusal = ir.Refusal(
        400,
        "path_has_dot_segments",
        "The path contains a `.` or `..` segment, plain or escaped. Send the path without it.",
    )
    dots = r"(?i)[^?]*(/|\\|%2f|%5c)(\.|%2e){1,2}((/|\\|%2f|%5c|;|%3b).*)?"
    match = route_pb.RouteMatch(safe_regex={"regex": dots})
    return serialized(_refusing("", match, refusal))


def clusters_of(route: ir.Route) -> list[tuple[ir.Endpoint, bool]]:
    """Return the endpoints of a route, each with whether it is the WebSocket twin."""
    found: dict[tuple[ir.Endpoint, bool], None] = {}
    for branch in route.branches:
        if isinstance(branch.outcome, ir.Target):
            endpoint = branch.outcome.endpoint
            found[endpoint, False] = None
            if needs_twin(endpoint):
                found[endpoint, True] = None
    return list(found)


def _formatted(rendered: route_pb.Route, route: ir.Route) -> route_pb.Route:
    """Add the format of the route's errors, which `errorformats` reads."""
    if route.error_format is not ir.ErrorFormat.OPENAI:
        rendered.metadata.filter_metadata[METADATA]["format"] = route.error_format
    return rendered


def _name(route: ir.Route, branch: ir.Branch) -> str:
    return f"{route.id}#{branch.name}" if branch.name else route.id


def _path(match: ir.Match) -> route_pb.RouteMatch:
    if match.exact:
        return route_pb.RouteMatch(path=match.path)
    return route_pb.RouteMatch(path_separated_prefix=match.path)


def _forwarding(
    route: ir.Route, branch: ir.Branch, match: ir.Match, target: ir.Target
) -> list[route_pb.Route]:
    name = _name(route, branch)
    pages = allowing(route.pages)
    filters = {**client_auth_filters(route), **pages}
    cors = cors_headers() if pages and _handles_preflights(route) else []
    plain = _path(match)
    if route.methods:
        plain.headers.append(_one_of(_METHOD, route.methods))
    routes = []
    if needs_twin(target.endpoint):
        upgrade = _path(match)
        upgrade.headers.extend([*plain.headers, _upgrades_to_websocket()])
        routes.append(_forward(name, upgrade, target, filters, upgrades=True))
    routes.append(_forward(name, plain, target, filters, upgrades=not needs_twin(target.endpoint)))
    if not _decides_itself(target.response):
        for forwarding in routes:
            forwarding.response_headers_to_add.extend(
                [core.HeaderValueOption(**item) for item in cors]
            )
    if route.methods:
        refusal = ir.Refusal(
            405,
            "method_not_allowed",
            f"This route allows only {', '.join(route.methods)}.",
        )
        refusing = _refusing(name, _path(match), refusal, pages)
        refusing.response_headers_to_add.append(_header("allow", ", ".join(route.methods)))
        routes.append(refusing)
    return routes


def _forward(
    name: str,
    match: route_pb.RouteMatch,
    target: ir.Target,
    filters: dict[str, Any],
    *,
    upgrades: bool,
) -> route_pb.Route:
    twin = upgrades and needs_twin(target.endpoint)
    action = route_pb.RouteAction(
        cluster=cluster_name(target.endpoint, upgrades=twin),
        timeout=duration(target.request_timeout),
        idle_timeout=duration(target.idle_timeout),
        retry_policy=_retry(target.retry),
        upgrade_configs=(
            [{"upgrade_type": "websocket", "enabled": {"value": True}}] if upgrades else []
        ),
    )
    rules = target.response
    return route_pb.Route(
        name=name,
        match=match,
        route=action,
        request_headers_to_remove=[*_ADDED_HERE, *target.client_headers_removed],
        request_headers_to_add=DISGUISE if upgrades and not target.request_timeout else [],
        response_headers_to_remove=list(rules.remove),
        response_headers_to_add=[
            *(_header(key, value) for key, value in rules.set),
            *(_header(key, value, append=True) for key, value in rules.add),
        ],
        typed_per_filter_config={EXT_PROC_FILTER: _rule(target), **filters},
    )


def _rule(target: ir.Target) -> any_pb2.Any:
    metadata = {"key": METADATA_KEY, "value": encode(target.rule)}
    return any_of(ext_proc.ExtProcPerRoute(overrides={"grpc_initial_metadata": [metadata]}))


def _retry(retry: ir.Retry | None) -> route_pb.RetryPolicy | None:
    if retry is None:
        return None
    return route_pb.RetryPolicy(retry_on=",".join(retry.on), num_retries={"value": retry.attempts})


def _refusing(
    name: str,
    match: route_pb.RouteMatch,
    refusal: ir.Refusal,
    filters: Mapping[str, Any] = _NO_FILTERS,
) -> route_pb.Route:
    # The listener's local_reply_config formats the body and the code.
    response = route_pb.DirectResponseAction(
        status=refusal.status, body={"inline_string": refusal.message}
    )
    refusing = _responding(name, match, response, filters)
    refusing.metadata.filter_metadata[METADATA].update({"code": refusal.code})
    return refusing


def _responding(
    name: str,
    match: route_pb.RouteMatch,
    response: route_pb.DirectResponseAction,
    filters: Mapping[str, Any] = _NO_FILTERS,
) -> route_pb.Route:
    return route_pb.Route(
        name=name,
        match=match,
        direct_response=response,
        typed_per_filter_config={EXT_PROC_FILTER: _OFF, GUARD_FILTER: _OFF, **filters},
    )


def _decides_itself(rules: ir.HeaderRules) -> bool:
    """Tell whether the route's own rules write the header that lets pages read responses."""
    return any(name == "access-control-allow-origin" for name, _ in (*rules.set, *rules.add))


def _upgrades_to_websocket() -> route_pb.HeaderMatcher:
    return route_pb.HeaderMatcher(
        name="upgrade", string_match={"exact": "websocket", "ignore_case": True}
    )


def _one_of(name: str, values: tuple[str, ...]) -> route_pb.HeaderMatcher:
    pattern = "|".join(re.escape(value) for value in values)
    return route_pb.HeaderMatcher(name=name, string_match={"safe_regex": {"regex": pattern}})


def _header(name: str, value: str, *, append: bool = False) -> core.HeaderValueOption:
    return core.HeaderValueOption(
        header={"key": name, "value": escaped(value)},
        append_action=(
            _APPEND.APPEND_IF_EXISTS_OR_ADD if append else _APPEND.OVERWRITE_IF_EXISTS_OR_ADD
        ),
    )
