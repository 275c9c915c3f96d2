"""Which of Envoy's routes takes a request: its RouteConfiguration, read as Envoy reads it.

Only what our renderer writes is understood; anything else is an error, not a guess. Source of the
rules: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/route/v3/route_components.proto
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.unknown_fields import UnknownFieldSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envoy.config.route.v3 import route_components_pb2 as route_pb
    from envoy.config.route.v3 import route_pb2
    from envoy.type.matcher.v3 import string_pb2

    EnvoyRoute = route_pb.Route

__all__ = ["EnvoyRoute", "Request", "find_route", "host_without_port"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head. `target` and the values are bytes as Latin-1; names are lower case."""

    method: str
    host: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    fragment: bool = False
    """Whether the URL that it was read from has a fragment, which is not sent."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def values(self, name: str) -> list[str]:
        """Return every value of a header, pseudo headers included."""
        pseudo = {":method": self.method, ":authority": self.host, ":path": self.target}
        if name in pseudo:
            return [pseudo[name]]
        return [value for key, value in self.headers if key == name]


def host_without_port(host: str) -> str:
    """Return a Host header's name in lower case; an IPv6 address keeps its brackets."""
    return re.sub(r":[0-9]*$", "", host).lower() if not host.endswith("]") else host.lower()


def find_route(config: route_pb2.RouteConfiguration, request: Request) -> route_pb.Route | None:
    """Return the route that takes the request; None only if there is no virtual host for it."""
    host = _virtual_host(config.virtual_hosts, host_without_port(request.host))
    if host is None:
        return None
    return next((route for route in host.routes if _takes(route.match, request)), None)


def _virtual_host(hosts: Sequence[route_pb.VirtualHost], name: str) -> route_pb.VirtualHost | None:
    # The exact name, then the longest `*.name`, then `*`.
    best: tuple[int, route_pb.VirtualHost] | None = None
    for host in hosts:
        for domain in host.domains:
            if domain == name:
                return host
            fits = domain == "*" or (
                domain.startswith("*.") and name.endswith(domain[1:]) and name != domain[1:]
            )
            if fits and (best is None or len(domain) > best[0]):
                best = len(domain), host
    return best[1] if best else None


def _takes(match: route_pb.RouteMatch, request: Request) -> bool:
    return _path_fits(match, request) and all(
        _header_fits(header, request) for header in match.headers
    )


def _path_fits(match: route_pb.RouteMatch, request: Request) -> bool:
    kind, path = match.WhichOneof("path_specifier"), request.path
    others = {field.name for field, _ in match.ListFields()} - {kind, "headers"}
    if others or len(UnknownFieldSet(match)):
        raise NotImplementedError("a route matches by what is not understood here")
    if kind == "path":
        return path == str(match.path)
    if kind == "path_separated_prefix":
        prefix = str(match.path_separated_prefix)
        return path == prefix or path.startswith(prefix + "/")
    if kind == "safe_regex":
        return re.fullmatch(match.safe_regex.regex, path, re.DOTALL) is not None
    if kind == "connect_matcher":
        return request.method == "CONNECT"
    if kind == "prefix":
        return request.target.startswith(match.prefix)
    raise NotImplementedError("a route matches paths in a way that is not understood here")


def _header_fits(header: route_pb.HeaderMatcher, request: Request) -> bool:
    values = request.values(header.name.lower())
    kind = header.WhichOneof("header_match_specifier")
    if kind == "present_match":
        fits = bool(values) == bool(header.present_match)
    elif kind == "string_match":
        fits = bool(values) and _text_fits(header.string_match, ",".join(values))
    else:
        raise NotImplementedError("a route matches headers in a way that is not understood here")
    return fits != bool(header.invert_match)


def _text_fits(wanted: string_pb2.StringMatcher, text: str) -> bool:
    kind = wanted.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return re.fullmatch(wanted.safe_regex.regex, text, re.DOTALL) is not None
    if kind not in _TEXT:
        raise NotImplementedError("a text is matched in a way that is not understood here")
    part: str = getattr(wanted, kind)
    if wanted.ignore_case:
        text, part = text.lower(), part.lower()
    return _TEXT[kind](text, part)


_TEXT: dict[str, Callable[[str, str], bool]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "contains": str.__contains__,
}
