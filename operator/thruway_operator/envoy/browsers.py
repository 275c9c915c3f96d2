"""Keeps web pages of other origins away from a proxy on loopback, so that none can use the key.

Any page may send requests to `http://localhost:4000`. Browsers send the page's origin in Origin.
If they send none (images, links), Sec-Fetch-Site decides (Fetch Standard). It does not replace
Origin, because `localhost` and `127.0.0.1` are different sites to a browser. A page whose own name
resolves to 127.0.0.1 (DNS rebinding) still sends that name in Host.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envoy.config.route.v3 import route_components_pb2 as route_pb

from thruway_operator import ir
from thruway_operator.envoy.wire import serialized

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["from_origins", "refuse_foreign_hosts", "refuse_foreign_pages", "with_origins"]

# RFC 6761, 6.3: every name below `localhost` is the machine itself.
_LOCAL = r"([a-z0-9_-]+\.)*localhost|127(\.[0-9]{1,3}){3}|\[::1\]|0\.0\.0\.0"
_PORT = r"(:[0-9]{1,5})?"

_FOREIGN_ORIGIN = ir.Refusal(
    403,
    "foreign_origin",
    "This proxy serves only its own machine, and a web page or app from elsewhere sent this. To "
    "allow its origin, name it in the route's `allowedOrigins` or with --allow-origin.",
)
_FOREIGN_HOST = ir.Refusal(
    403,
    "foreign_host",
    "This proxy is for programs on its own machine: call it as localhost or 127.0.0.1, or list "
    "the host name in the route's `hostnames`.",
)


def refuse_foreign_hosts(domain: str) -> list[tuple[route_pb.RouteMatch, ir.Refusal]]:
    """Return matches for what this domain's virtual host rejects from every client."""
    if domain != "*":
        return []
    expression = f"(?i:({_LOCAL}){_PORT})"
    return [(_matching(*_is_not(":authority", expression)), _FOREIGN_HOST)]


def refuse_foreign_pages(
    domain: str, origins: Sequence[str]
) -> list[tuple[route_pb.RouteMatch, ir.Refusal]]:
    """Return matches for what it rejects from pages that `origins` does not name."""
    hosts = _LOCAL if domain == "*" else f"{_LOCAL}|{_as_pattern(domain)}"
    ours = "|".join([f"(?i:https?://({hosts}){_PORT})", *map(re.escape, origins)])
    navigation = [_is_absent("origin"), _is("sec-fetch-site", "cross-site")]
    return [
        (_matching(*_is_not("origin", ours)), _FOREIGN_ORIGIN),
        (_matching(*navigation), _FOREIGN_ORIGIN),
    ]


def from_origins(origins: Sequence[str]) -> route_pb.HeaderMatcher:
    """Return a matcher for requests of these origins."""
    expression = {"safe_regex": {"regex": "|".join(map(re.escape, origins))}}
    return route_pb.HeaderMatcher(name="origin", string_match=expression)


def with_origins(body: bytes, origins: Sequence[str]) -> bytes:
    """Return a serialized route that matches requests of these origins only."""
    route = route_pb.Route.FromString(body)
    route.match.headers.append(from_origins(origins))
    return serialized(route)


def _as_pattern(domain: str) -> str:
    return domain.replace(".", r"\.").replace("*", "[a-z0-9._-]+")


def _matching(*headers: route_pb.HeaderMatcher) -> route_pb.RouteMatch:
    return route_pb.RouteMatch(prefix="/", headers=list(headers))


def _is(name: str, value: str) -> route_pb.HeaderMatcher:
    return route_pb.HeaderMatcher(name=name, string_match={"exact": value, "ignore_case": True})


def _is_absent(name: str) -> route_pb.HeaderMatcher:
    return route_pb.HeaderMatcher(name=name, present_match=True, invert_match=True)


def _is_not(name: str, pattern: str) -> tuple[route_pb.HeaderMatcher, ...]:
    expression = {"safe_regex": {"regex": pattern}}
    return (
        route_pb.HeaderMatcher(name=name, present_match=True),
        route_pb.HeaderMatcher(name=name, string_match=expression, invert_match=True),
    )
