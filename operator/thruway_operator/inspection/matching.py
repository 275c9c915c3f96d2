"""Which of Envoy's routes takes a request: its RouteConfiguration, read as Envoy reads it.

Only what our renderer writes is understood; anything else is an error, not a guess. Source of the
rules: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/route/v3/route_components.proto
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envoy_data_plane.envoy.config.route import v3 as route_pb
    from envoy_data_plane.envoy.type.matcher import v3 as matcher_pb

__all__ = ["Request", "find_route", "host_without_port"]


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


def find_route(config: route_pb.RouteConfiguration, request: Request) -> route_pb.Route | None:
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


def _takes(match: route_pb.RouteMatch | None, request: Request) -> bool:
    if match is None:
        return False
    return _path_fits(match, request) and all(
        _header_fits(header, request) for header in match.headers
    )


def _path_fits(match: route_pb.RouteMatch, request: Request) -> bool:
    if match.query_parameters or match.cookies or match.dynamic_metadata or match.filter_state:
        raise NotImplementedError("a route matches by what is not understood here")
    path = request.path
    if match.path is not None:
        return path == match.path
    if match.path_separated_prefix is not None:
        prefix = match.path_separated_prefix
        return path == prefix or path.startswith(prefix + "/")
    if match.safe_regex is not None:
        return re.fullmatch(match.safe_regex.regex, path, re.DOTALL) is not None
    if match.connect_matcher is not None:
        return request.method == "CONNECT"
    if match.prefix is not None:
        return request.target.startswith(match.prefix)
    raise NotImplementedError("a route matches paths in a way that is not understood here")


def _header_fits(header: route_pb.HeaderMatcher, request: Request) -> bool:
    values = request.values(header.name.lower())
    if header.present_match is not None:
        return (bool(values) == header.present_match) != header.invert_match
    if header.string_match is None:
        raise NotImplementedError("a route matches headers in a way that is not understood here")
    fits = bool(values) and _text_fits(header.string_match, ",".join(values))
    return fits != header.invert_match


def _text_fits(wanted: matcher_pb.StringMatcher, text: str) -> bool:
    if wanted.safe_regex is not None:
        return re.fullmatch(wanted.safe_regex.regex, text, re.DOTALL) is not None
    if wanted.ignore_case:
        text = text.lower()
    for part, fits in (
        (wanted.exact, str.__eq__),
        (wanted.prefix, str.startswith),
        (wanted.suffix, str.endswith),
        (wanted.contains, str.__contains__),
    ):
        if part is not None:
            return bool(fits(text, part.lower() if wanted.ignore_case else part))
    raise NotImplementedError("a text is matched in a way that is not understood here")
