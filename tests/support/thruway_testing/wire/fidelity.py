"""What may differ between a request sent directly and the same sent through Thruway: all of it.

`ALLOWED` is the one list; docs/fidelity.md shows it, and a test compares the two. Each entry is a
reduction that is applied to both sides; what is left has to be equal, byte for byte and in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from thruway_testing.wire.rawhttp import Headers, Received, Reply, Request, Version, values

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ALLOWED", "CREDENTIALS", "JOINED", "Allowed", "Seen", "difference", "lengths_differ"]

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)
CREDENTIALS = (b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key", b"x-litellm-api-key")
OWN = (b"x-envoy-", b"x-thruway-")
JOINED = {
    "request": (
        b"accept accept-encoding access-control-request-headers access-control-request-method "
        b"access-control-request-private-network authorization cache-control cdn-loop "
        b"content-encoding content-type grpc-accept-encoding grpc-timeout if-match "
        b"if-modified-since if-none-match if-range if-unmodified-since pragma proxy-status referer "
        b"user-agent via x-client-trace-id x-forwarded-client-cert x-forwarded-for "
        b"x-forwarded-host x-forwarded-port x-forwarded-proto x-request-id"
    ).split(),
    "answer": (
        b"access-control-allow-credentials access-control-allow-headers "
        b"access-control-allow-methods access-control-allow-origin "
        b"access-control-allow-private-network access-control-expose-headers "
        b"access-control-max-age age cache-control content-encoding content-type date etag expires "
        b"grpc-message grpc-status last-modified location proxy-status server vary via x-request-id"
    ).split(),
}  # fmt: skip
"""The headers whose repeated lines Envoy joins."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A message as one end saw it, with what the reductions need to know of the exchange."""

    side: str
    line: tuple[bytes, ...]
    """A request's method and target; an answer's status and reason."""
    host: bytes | None
    version: str
    headers: Headers
    body: bytes
    trailers: Headers
    interim: tuple[tuple[int, Headers], ...]
    client: Version
    """What the client speaks."""
    credential: bool
    """Whether the route brings its own credential."""
    bodiless: bool
    """Whether the message has no body whatever its length says: answers to HEAD, and 304."""
    reasonless: bool
    """Whether there is no reason phrase, or HTTP/2, which has none, is in the way."""
    dated: bool
    """Whether the upstream's answer says when it was made."""


Reduce: TypeAlias = "Callable[[Seen], Seen]"


@dataclass(frozen=True, slots=True)
class Allowed:
    """One allowed difference: its name, on which side, what it is, why it is so."""

    name: str
    side: str
    what: str
    why: str
    reduce: Reduce


def difference(
    sent: Request,
    direct: Received | Reply,
    through: Received | Reply,
    *,
    credential: bool,
    upstream: Version,
    without: str = "",
) -> tuple[Seen, Seen] | None:
    """Return what is left on both sides if it differs; `without` leaves out one reduction."""
    pair = [
        _seen(sent, message, direct, credential=credential, upstream=upstream)
        for message in (direct, through)
    ]
    for allowed in ALLOWED:
        if allowed.name != without and allowed.side in ("both", pair[0].side):
            pair = [allowed.reduce(seen) for seen in pair]
    return None if pair[0] == pair[1] else (pair[0], pair[1])


def lengths_differ(direct: Headers, through: Headers) -> bool:
    """Tell whether a Content-Length was there and has changed: framing may add one, no more."""
    before, after = (values(headers, b"content-length") for headers in (direct, through))
    return bool(before) and before != after


def _seen(
    sent: Request,
    message: Received | Reply,
    direct: Received | Reply,
    *,
    credential: bool,
    upstream: Version,
) -> Seen:
    if isinstance(message, Received):
        side, host = "request", message.host
        line: tuple[bytes, ...] = (message.method, message.target)
        interim: tuple[tuple[int, Headers], ...] = ()
        bodiless = False
    else:
        side, host = "answer", None
        line = (b"%d" % message.status, message.reason)
        interim = tuple((item.status, item.headers) for item in message.interim)
        bodiless = sent.method == b"HEAD" or message.status == 304
    return Seen(
        side=side,
        line=line,
        host=host,
        version=message.version,
        headers=message.headers,
        body=message.body,
        trailers=message.trailers,
        interim=interim,
        client=sent.version,
        credential=credential,
        bodiless=bodiless,
        reasonless=Version.HTTP2 in (sent.version, upstream)
        or (isinstance(direct, Reply) and not direct.reason),
        dated=bool(values(direct.headers, b"date")),
    )


# The reductions


def _names(seen: Seen) -> Seen:
    return replace(
        seen,
        headers=_lower(seen.headers),
        trailers=_lower(seen.trailers),
        interim=tuple((status, _lower(headers)) for status, headers in seen.interim),
    )


def _lower(headers: Headers) -> Headers:
    return tuple((name.lower(), value) for name, value in headers)


def _hops(seen: Seen) -> Seen:
    named = b",".join(values(seen.headers, b"connection")).lower().split(b",")
    gone = set(HOP_BY_HOP)
    if seen.side == "request":
        gone |= {name.strip() for name in named}
    return _dropping(seen, lambda name: name in gone)


def _host(seen: Seen) -> Seen:
    method, target = seen.line
    if target.startswith(b"http://"):
        target = b"/" + target.split(b"/", 3)[3]
    return replace(seen, host=None, line=(method, target))


def _credentials(seen: Seen) -> Seen:
    if not seen.credential:
        return seen
    return _dropping(seen, lambda name: name in CREDENTIALS)


def _framing(seen: Seen) -> Seen:
    seen = replace(seen, version="")
    if not seen.bodiless:
        seen = _dropping(seen, lambda name: name == b"content-length")
    if seen.side == "answer" and seen.client is Version.HTTP10:
        seen = replace(seen, trailers=(), interim=())
    return seen


def _reason(seen: Seen) -> Seen:
    return replace(seen, line=(seen.line[0], b"")) if seen.reasonless else seen


def _joined(seen: Seen) -> Seen:
    names = JOINED[seen.side]
    first: dict[bytes, int] = {}
    headers: list[tuple[bytes, bytes]] = []
    for name, value in seen.headers:
        if name in names and name in first:
            place = first[name]
            headers[place] = (name, b",".join(filter(None, (headers[place][1], value))))
        else:
            first.setdefault(name, len(headers))
            headers.append((name, value))
    return replace(seen, headers=tuple(headers))


def _crumbs(seen: Seen) -> Seen:
    if seen.client is not Version.HTTP2:
        return seen
    crumbs = values(seen.headers, b"cookie")
    rest = tuple(pair for pair in seen.headers if pair[0] != b"cookie")
    whole = ((b"cookie", b"; ".join(crumbs)),) if crumbs else ()
    return replace(seen, headers=rest + whole)


def _own_names(seen: Seen) -> Seen:
    return _dropping(seen, lambda name: name.startswith(OWN))


def _put_back(seen: Seen) -> Seen:
    kept = dict.fromkeys((b"x-forwarded-proto", b"referer"), b"")
    kept |= {name: value for name, value in seen.headers if name in kept}
    rest = tuple(pair for pair in seen.headers if pair[0] not in kept)
    return replace(seen, headers=rest + tuple(pair for pair in kept.items() if pair[1]))


def _date(seen: Seen) -> Seen:
    return seen if seen.dated else _dropping(seen, lambda name: name == b"date")


def _first_interim(seen: Seen) -> Seen:
    return replace(seen, interim=seen.interim[:1])


def _dropping(seen: Seen, unwanted: Callable[[bytes], bool]) -> Seen:
    kept = tuple(pair for pair in seen.headers if not unwanted(pair[0].lower()))
    return replace(seen, headers=kept)


ALLOWED = (
    Allowed(
        "names",
        "both",
        "The case of header names changes if either side uses HTTP/2. In trailers and "
        "informational responses it always changes.",
        "HTTP/2 only has lower-case names (RFC 9113, 8.2).",
        _names,
    ),
    Allowed(
        "hop-by-hop",
        "both",
        "`Connection`, `Keep-Alive`, `Proxy-Connection`, `TE`, `Transfer-Encoding` and `Upgrade` "
        "do not pass. In requests, neither do the headers that `Connection` names.",
        "They describe one connection (RFC 9110, 7.6.1). Each side has its own WebSocket "
        "handshake.",
        _hops,
    ),
    Allowed(
        "host",
        "request",
        "`Host` is the upstream's, and the target is in origin form (`/v1/models`).",
        "The upstream only knows its own name.",
        _host,
    ),
    Allowed(
        "credentials",
        "request",
        "`Authorization`, `api-key`, `x-api-key`, `x-goog-api-key`, `x-litellm-api-key` and, with "
        "`provider: gemini`, `?key=` do not pass if the route has a credential or authenticates "
        "its clients. With `clientAuth.header` and no credential, only that header is removed.",
        "The client's key is not for the upstream. The route's credential replaces it.",
        _credentials,
    ),
    Allowed(
        "framing",
        "both",
        "The HTTP version and the framing of bodies may change: chunks and their extensions, an "
        "added `Content-Length`, and the `Content-Length` of a 204 response. Clients of HTTP/1.0 "
        "get no trailers and no informational responses.",
        "Framing belongs to one connection (RFC 9112, 6). An existing `Content-Length` stays.",
        _framing,
    ),
    Allowed(
        "reason",
        "answer",
        "The reason phrase changes if either side uses HTTP/2 or the upstream sends none.",
        "HTTP/2 has none (RFC 9113, 8.3.2). Envoy adds the standard one.",
        _reason,
    ),
    Allowed(
        "own names",
        "request",
        "`X-Envoy-*` and `X-Thruway-*` do not pass.",
        "These headers control the proxy, and clients must not control it. `X-Envoy-*` response "
        "headers of an upstream pass; `response.headers.remove` may name them.",
        _own_names,
    ),
    Allowed(
        "joined",
        "both",
        "Repeated lines of the headers listed below become one line, with commas between the "
        "values. Empty values are omitted.",
        "Envoy keeps these as one value. The meaning is the same (RFC 9110, 5.3).",
        _joined,
    ),
    Allowed(
        "put back",
        "request",
        "`X-Forwarded-Proto`, and a `Referer` that is not an absolute URL, move to the end of the "
        "headers. They are dropped if they are empty.",
        "Envoy overwrites the first and drops the second. Thruway restores the client's values.",
        _put_back,
    ),
    Allowed(
        "crumbs",
        "both",
        "If the client uses HTTP/2, several `Cookie` headers become one, at the end of the "
        "headers.",
        "HTTP/2 requires it (RFC 9113, 8.2.3).",
        _crumbs,
    ),
    Allowed(
        "date",
        "answer",
        "`Date` is added if the upstream sends none.",
        "HTTP requires it (RFC 9110, 6.6.1).",
        _date,
    ),
    Allowed(
        "first interim",
        "answer",
        "Of several informational responses (100, 102, 103), only the first passes.",
        "Envoy's filters do not support more than one.",
        _first_interim,
    ),
)
"""Applied in this order. Each has a case in the corpus that shows it."""
