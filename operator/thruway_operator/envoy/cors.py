"""Lets the web pages that a route allows read its responses (CORS; Fetch Standard, 3.3).

A filter in the listener keeps the request's Origin if the route allows it. Thruway's own responses
then get CORS headers, and on routes with `clientAuth` the upstream's responses too, if they have
none: browsers send no key with a preflight, so the upstream cannot decide there. Envoy's CORS
filter is not used, because it overwrites the upstream's headers.
`Access-Control-Allow-Credentials` is never sent: cookies are not used, and without them `*` is
valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy.config.route.v3 import route_components_pb2 as route_pb
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2 as state

from thruway_operator import ir
from thruway_operator.envoy.browsers import from_origins
from thruway_operator.envoy.names import ORIGIN_FILTER
from thruway_operator.envoy.wire import any_of, extension

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ORIGIN_NOT_ALLOWED",
    "allowing",
    "cors_headers",
    "origin_filter",
    "preflight_headers",
    "preflight_matches",
]

_ALLOW_ORIGIN = "access-control-allow-origin"
_METHOD = "access-control-request-method"
_HEADERS = "access-control-request-headers"
_PRIVATE = "access-control-request-private-network"

_KEPT = "thruway.origin"
"""The filter state object that holds an allowed Origin."""

ORIGIN_NOT_ALLOWED = ir.Refusal(
    403,
    "origin_not_allowed",
    "This route does not allow this origin: add it to the route's `allowedOrigins`.",
)


def origin_filter() -> dict[str, object]:
    """Return the listener's filter, which is off unless a route allows origins."""
    return {**extension(ORIGIN_FILTER, state.Config()), "disabled": True}


def allowing(pages: ir.Pages) -> dict[str, Any]:
    """Return the settings that enable the filter for a route; empty if it allows no pages."""
    if not pages:
        return {}
    allowed = "%REQ(ORIGIN)%"  # the virtual host has refused all others: see `browsers`
    if not pages.local:
        names = ", ".join(f"'{name}'" for name in pages.origins)
        origin = "request.headers['origin']"
        allowed = f"%CEL({origin} in [{names}] ? {origin} : '')%"
    value = {
        "object_key": _KEPT,
        "factory_key": "envoy.string",
        "format_string": {
            "text_format_source": {"inline_string": allowed},
            "omit_empty_values": True,  # otherwise an absent Origin becomes `-`
        },
        "skip_if_empty": True,
    }
    return {ORIGIN_FILTER: any_of(state.Config(on_request_headers=[value]))}


def cors_headers() -> list[dict[str, object]]:
    """Return the headers that a response gets if its origin is allowed and it has none."""
    missing = f"'{_KEPT}' in filter_state && !('{_ALLOW_ORIGIN}' in response.headers)"
    return [
        _header(_ALLOW_ORIGIN, f"%FILTER_STATE({_KEPT}:PLAIN)%"),
        _header("access-control-expose-headers", f"%CEL({missing} ? '*' : '')%"),
        _header("vary", f"%CEL({missing} ? 'Origin' : '')%", "APPEND_IF_EXISTS_OR_ADD"),
    ]


def preflight_matches(
    match: route_pb.RouteMatch, pages: ir.Pages
) -> tuple[route_pb.RouteMatch, route_pb.RouteMatch]:
    """Return matchers for preflights of allowed pages, and of all pages."""
    allowed, every = (route_pb.RouteMatch(), route_pb.RouteMatch())
    for found in (allowed, every):
        found.CopyFrom(match)
        found.headers.extend(
            [
                route_pb.HeaderMatcher(name=":method", string_match={"exact": "OPTIONS"}),
                route_pb.HeaderMatcher(name=_METHOD, present_match=True),
                route_pb.HeaderMatcher(name="origin", present_match=True),
            ]
        )
    if not pages.local:
        allowed.headers[-1].CopyFrom(from_origins(pages.origins))
    return allowed, every


def preflight_headers(methods: Sequence[str]) -> list[dict[str, object]]:
    """Return the headers of the response to an allowed preflight; `methods`: empty for all."""
    return [
        _header(_ALLOW_ORIGIN, "%REQ(ORIGIN)%"),
        _header("access-control-allow-methods", ", ".join(methods) or f"%REQ({_METHOD})%"),
        _header("access-control-allow-headers", f"%REQ({_HEADERS})%"),
        _header("access-control-allow-private-network", f"%REQ({_PRIVATE})%"),
        _header("access-control-max-age", "600"),
        _header("vary", f"Origin, {_METHOD}, {_HEADERS}"),
    ]


def _header(name: str, value: str, action: str = "ADD_IF_ABSENT") -> dict[str, object]:
    return {"header": {"key": name, "value": value}, "append_action": action}
