"""What happens to one request, and why, by Envoy's rendered routes and extproc's own `rewrite`.

Nothing is decided here: the route is found in the RouteConfiguration that Envoy gets, and its rule
is passed to the function that extproc calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thruway_extproc.rewrite import rewrite
from thruway_extproc.rule import (
    CREDENTIAL_HEADERS,
    KEPT_ASIDE,
    KEY_HEADER,
    decode,
)
from thruway_operator import ir
from thruway_operator.diagnose.offline.shown import snapshot_of_input
from thruway_operator.envoy.matching import Request, find_route, host_without_port
from thruway_operator.envoy.messages import parsed, rule_of
from thruway_operator.envoy.names import METADATA, ROUTE_CONFIG
from thruway_operator.translate.conflicts import overlap
from thruway_operator.xds.protocol.resources import ROUTE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_extproc.rule import Rule
    from thruway_operator.diagnose.offline.loading import Input
    from thruway_operator.envoy.matching import EnvoyRoute

__all__ = ["Answer", "Explanation", "Forwarded", "explain"]

_OURS = ("x-envoy-", "x-thruway-")


@dataclass(frozen=True, slots=True)
class Answer:
    """Thruway's own response."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What the upstream gets. `target` is path and query, bytes as Latin-1."""

    scheme: str
    authority: str
    target: str
    endpoint: ir.Endpoint
    path_reason: str
    set: tuple[tuple[str, str], ...]
    added: tuple[tuple[str, str], ...]
    removed: tuple[str, ...]
    """Never forwarded."""
    passed: tuple[str, ...]
    """Of the client's headers."""
    only: tuple[str, ...]
    """If not empty, only these client headers are forwarded, and those that frame the message."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The outcome of one request, and why."""

    request: Request
    route: str
    """`namespace/name`; empty if none."""
    override: str
    """Its path; empty for the route itself."""
    reasons: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    """The routes and overrides that do not match, each with the reason."""
    answer: Answer | None
    upstream: Forwarded | None
    clients: tuple[str, ...] | None
    """The clients that may use the route; None: everybody."""


def explain(given: Input, request: Request) -> Explanation:
    """Return what would happen to the request."""
    body = snapshot_of_input(given)[ROUTE][ROUTE_CONFIG].body
    found = find_route(parsed(ROUTE, body), request)
    routes = {route.id: route for route in given.translation.config.routes}
    name, _, override = (found.name if found else "").partition("#")
    route = routes.get(name)
    branch, match = _branch(route, found)
    reasons: list[str] = []
    answer = _answer(found)
    if request.fragment:
        reasons.append("clients do not send what follows a #; a path that contains one gets 400")
    if match is not None:
        reasons.append(f"the path is {match.path}" + ("" if match.exact else ", or below it"))
    if route and route.hostnames:
        reasons.append(f"the host is one of {', '.join(route.hostnames)}")
    if route and route.methods:
        fits = request.method in route.methods
        verb = "is" if fits else "is not"
        reasons.append(f"the method {verb} one of {', '.join(route.methods)}")
    upstream = None
    if found is not None and answer is None and branch is not None:
        upstream = _forwarded(found, branch, request, route.key_header if route else "")
    return Explanation(
        request=request,
        route=name,
        override=override,
        reasons=tuple(reasons),
        others=tuple(_others(given, request, route, branch, answer)),
        answer=answer,
        upstream=upstream,
        clients=None
        if route is None or route.clients is None
        else tuple(client.id for client in route.clients),
    )


def _branch(
    route: ir.Route | None, found: EnvoyRoute | None
) -> tuple[ir.Branch | None, ir.Match | None]:
    if route is None or found is None:
        return None, None
    exact = found.match.HasField("path")
    path = found.match.path if exact else found.match.path_separated_prefix
    wanted = ir.Match(path, exact)
    branch = next((item for item in route.branches if wanted in item.matches), None)
    return branch, wanted


def _answer(found: EnvoyRoute | None) -> Answer | None:
    if found is None:
        return Answer(404, "route_not_found", "No virtual host serves this host name.")
    if not found.HasField("direct_response"):
        return None
    direct = found.direct_response
    code = found.metadata.filter_metadata[METADATA].fields["code"].string_value
    return Answer(direct.status, code, direct.body.inline_string)


def _forwarded(
    found: EnvoyRoute, branch: ir.Branch, request: Request, key_header: str
) -> Forwarded | None:
    outcome = branch.outcome
    if not isinstance(outcome, ir.Target):
        return None
    rule = _rule(found)
    mutation = rewrite(_seen_by_extproc(request, key_header), rule)
    written = {name: value.decode("latin-1") for name, value in mutation.set}
    target, authority = written.pop(":path"), written.pop(":authority")
    for name, value in request.headers:  # unchanged values pass
        if written.get(name) == value:
            del written[name]
    names = (
        *found.request_headers_to_remove,
        *([key_header] if key_header else []),
        *mutation.remove,
    )
    removed = [name for name in dict.fromkeys(names) if not name.startswith(_OURS)]
    endpoint = outcome.endpoint
    injected = {item.header for item in endpoint.injected}
    sent = dict.fromkeys(name for name, _ in request.headers)
    gone = {*removed, *written, *injected, key_header, "host"}
    kept = [name for name in sent if name not in gone]
    return Forwarded(
        scheme="https" if endpoint.tls else "http",
        authority=authority,
        target=target,
        endpoint=endpoint,
        path_reason=_path_reason(request, rule, target),
        set=tuple(written.items()),
        added=tuple((name, value.decode("utf-8", "replace")) for name, value in mutation.add),
        removed=tuple(removed),
        passed=tuple(kept),
        only=rule.headers_only,
    )


def _rule(found: EnvoyRoute) -> Rule:
    rule = rule_of(found)
    if not rule:
        raise NotImplementedError("a route forwards without a rule")
    return decode(rule)


def _seen_by_extproc(request: Request, key_header: str) -> list[tuple[str, bytes]]:
    hidden = (*CREDENTIAL_HEADERS, KEY_HEADER, key_header)
    pseudo = [(name, request.values(name)[0]) for name in (":method", ":authority", ":path")]
    given = [(name, value) for name, value in request.headers if name not in hidden]
    # Where Envoy replaces a client's header, the listener keeps the original.
    given += [(KEPT_ASIDE[name], value) for name, value in given if name in KEPT_ASIDE]
    return [(name, value.encode("latin-1")) for name, value in (*pseudo, *given)]


def _path_reason(request: Request, rule: Rule, target: str) -> str:
    rest = request.path.removeprefix(rule.strip)
    path = target.partition("?")[0]
    reason = f"{rule.strip} is removed"
    if rule.base:
        reason += f", {rule.base} is the upstream's base path"
    if rest in ("", "/"):
        return f"{reason}, and nothing follows it"
    if path == rule.base + rest:
        first = rest[1:].partition("/")[0]
        why = "the route inserts none"
        if first in rule.unversioned:
            why = f"what is below /{first} has none"
        elif rule.version:
            why = f"the path begins with {first}"
        return f"{reason}, and no version is inserted, because {why}"
    if rule.version and path == rule.base + rule.version + rest:
        return f"{reason}, and {rule.version} is inserted, because the path names no version"
    return f"{reason}, and its version is not repeated"


def _others(
    given: Input,
    request: Request,
    taken: ir.Route | None,
    branch: ir.Branch | None,
    answer: Answer | None,
) -> Iterator[tuple[str, str]]:
    stopped = taken is None and answer is not None and answer.code != "route_not_found"
    for route in given.translation.config.routes:
        if stopped:
            yield route.id, "no route is tried, because the request is rejected before"
        elif route is taken:
            for other in route.branches:
                if other is not branch:
                    yield from _other_branch(route, other, request)
        elif why := _unfit(route, request):
            yield route.id, why
        else:
            yield route.id, "another route takes it"
    for name, verdict in given.translation.verdicts.items():
        if not verdict.accepted.status:
            yield name, f"it is not served: {verdict.accepted.message}"


def _other_branch(route: ir.Route, other: ir.Branch, request: Request) -> Iterator[tuple[str, str]]:
    if not other.name:
        yield route.id, "an override of it comes first"
        return
    paths = " or ".join(
        match.path if match.exact else f"{match.path} and below" for match in other.matches
    )
    fits = any(_below(match, request.path) for match in other.matches)
    why = "another override is closer" if fits else f"the path is not {paths}"
    yield f"{route.id}#{other.name}", why


def _unfit(route: ir.Route, request: Request) -> str:
    host = host_without_port(request.host)
    if route.hostnames and not any(overlap(name, host) for name in route.hostnames):
        return f"the host is not one of {', '.join(route.hostnames)}"
    own = route.branches[-1].matches
    if not any(_below(match, request.path) for match in own):
        return f"the path is not {' or '.join(match.path for match in own)} and below"
    return ""


def _below(match: ir.Match, path: str) -> bool:
    return path == match.path or (not match.exact and path.startswith(match.path + "/"))
