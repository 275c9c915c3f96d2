"""Keeps web pages out of a proxy on loopback, so that none can spend the key.

Any page may send requests to `http://localhost:4000`. Browsers say where a page is from, in Origin
or Sec-Fetch-Site (Fetch Standard), and a page that has its own name resolve to 127.0.0.1 (DNS
rebinding) still says that name in Host.
"""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2 as route_pb

from thruway_operator import ir

__all__ = ["refuse_foreign_pages"]

_OURS = r"localhost|127(\.[0-9]{1,3}){3}|\[::1\]|0\.0\.0\.0"
_PORT = r"(:[0-9]{1,5})?"

_FOREIGN_ORIGIN = ir.Refusal(
    403,
    "foreign_origin",
    "This proxy is for programs on its own machine: web pages from elsewhere may not use it.",
)
_FOREIGN_HOST = ir.Refusal(
    403,
    "foreign_host",
    "This proxy is for programs on its own machine: call it as localhost or 127.0.0.1, or list "
    "the host name in the route's `hostnames`.",
)


def refuse_foreign_pages(domain: str) -> list[tuple[route_pb.RouteMatch, ir.Refusal]]:
    """Return what is refused in the virtual host of this domain, before any route is tried."""
    ours = _OURS if domain == "*" else f"{_OURS}|{_as_pattern(domain)}"
    refused = [
        (_matching(_is("sec-fetch-site", "cross-site")), _FOREIGN_ORIGIN),
        (_matching(*_is_not("origin", f"https?://({ours}){_PORT}")), _FOREIGN_ORIGIN),
    ]
    if domain == "*":
        refused.append((_matching(*_is_not(":authority", f"({ours}){_PORT}")), _FOREIGN_HOST))
    return refused


def _as_pattern(domain: str) -> str:
    return domain.replace(".", r"\.").replace("*", "[^/]+")


def _matching(*headers: route_pb.HeaderMatcher) -> route_pb.RouteMatch:
    return route_pb.RouteMatch(prefix="/", headers=list(headers))


def _is(name: str, value: str) -> route_pb.HeaderMatcher:
    return route_pb.HeaderMatcher(name=name, string_match={"exact": value, "ignore_case": True})


def _is_not(name: str, pattern: str) -> tuple[route_pb.HeaderMatcher, ...]:
    expression = {"safe_regex": {"regex": f"(?i){pattern}"}}
    return (
        route_pb.HeaderMatcher(name=name, present_match=True),
        route_pb.HeaderMatcher(name=name, string_match=expression, invert_match=True),
    )
