"""Generates legal requests and answers, with a liking for what proxies get wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from thruway_testing.wire.fidelity import CREDENTIALS, JOINED
from thruway_testing.wire.rawhttp import Answer, Framing, Headers, Interim, Request, Version

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["ROUTES", "answers", "requests"]

ROUTES = ("http1", "http2", "credential")
"""The ways of the tests: to HTTP/1.1, to HTTP/2, and to HTTP/1.1 with a credential."""

_VISIBLE = bytes(range(0x21, 0x7F))
_PATH = _VISIBLE.replace(b"#", b"").replace(b"?", b"").decode()
_QUERY = _VISIBLE.replace(b"#", b"").decode()
_TOKEN = re.sub(rb'[][(),/:;<=>?@\\{}"]', b"", _VISIBLE).decode()
_OBS_TEXT = bytes(range(0x80, 0x100))
_DOTS = re.compile(rb"(?i)[^?]*(/|\\|%2f|%5c)(\.|%2e){1,2}((/|\\|%2f|%5c|;|%3b|\?).*)?")

# A name that says something about the message, the connection or the client is tried in the corpus.
_SPECIAL = {
    b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade",
    b"proxy-connection", b"te", b"expect", b"origin", b"sec-fetch-site", b"trailer",
    b"http2-settings", b"sec-websocket-protocol", b"cookie", b"cookie2",
}  # fmt: skip

_path_pieces = st.one_of(
    st.text(_PATH, max_size=8),
    st.sampled_from(
        ["/", "//", "%2F", "%2f", ";", "%zz", "%", "%00", "%FF", "%C3%A4", "...", "a..b", "v1", "|",
         '"', "{}", "\\", "^", "[]", "`", "<>", "~", "%41", "%2e", ".well-known"]
    ),
)  # fmt: skip
_query_pieces = st.one_of(
    st.text(_QUERY, max_size=8),
    st.sampled_from(["&", "&&", "a=1", "a=1", "include[]=a", "include[]=b", "=", "?", "%26", "+"]),
)
_paths = st.lists(_path_pieces, max_size=4).map(lambda pieces: "/v1/" + "".join(pieces))
_queries = st.one_of(
    st.just(""), st.lists(_query_pieces, max_size=4).map(lambda pieces: "?" + "".join(pieces))
)
targets = (
    st.builds(lambda path, query: (path + query).encode(), _paths, _queries)
    .filter(lambda target: not _DOTS.fullmatch(target))
)  # fmt: skip

_methods = st.one_of(
    st.sampled_from([b"GET", b"POST", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS"]),
    st.sampled_from([b"TRACE", b"PROPFIND", b"FOO-BAR", b"get", b"x!#$%&'*+.^_`|~"]),
)

_edges = st.sampled_from([bytes([byte]) for byte in _VISIBLE + _OBS_TEXT])
_inside = st.binary(max_size=12).map(
    lambda raw: bytes(b for b in raw if b in _VISIBLE or b in _OBS_TEXT or b in b" \t")
)
_values = st.one_of(
    st.sampled_from([b"", b"a", b"1", b"a, b", b"a;q=0.5", b'"quoted, \\" x"', b"%41 %REQ(X)%"]),
    st.builds(lambda first, rest, last: first + rest + last, _edges, _inside, _edges),
)
_case = st.sampled_from([bytes.lower, bytes.title, bytes.upper])
_random_names = st.text(_TOKEN, min_size=1, max_size=12).map(str.encode)
_plain_names = st.sampled_from(
    [b"x-a", b"x-b", b"accept-language", b"idempotency-key", b"openai-beta", b"traceparent",
     b"x_under_score", b"x-real-ip", b"forwarded", b"range", b"x-stainless-lang", b"priority",
     b"link", b"set-cookie", b"www-authenticate", b"retry-after", b"proxy-authorization"]
)  # fmt: skip


def _names(side: str, version: Version) -> SearchStrategy[bytes]:
    known = st.sampled_from([*JOINED[side], *(CREDENTIALS if side == "request" else ())])
    proto = st.just(b"x-forwarded-proto")
    names = st.one_of(_plain_names, _plain_names, known, _random_names, proto).filter(
        lambda name: name.lower() not in _SPECIAL and not name.lower().startswith(b"x-envoy")
    )
    if version is Version.HTTP2:
        return names.map(bytes.lower)
    return st.builds(lambda name, change: change(name), names, _case)


def _headers(side: str, version: Version, most: int = 8) -> SearchStrategy[Headers]:
    pairs = st.tuples(_names(side, version), _values)
    return st.lists(pairs, max_size=most).map(tuple)


_hop_headers = st.sampled_from(
    [
        (),
        ((b"Connection", b"keep-alive"),),
        ((b"Connection", b"close"),),
        ((b"connection", b"X-Nominated, close"), (b"X-Nominated", b"1")),
        ((b"Connection", b"keep-alive"), (b"Keep-Alive", b"timeout=5, max=9")),
        ((b"TE", b"trailers"), (b"Connection", b"TE")),
        ((b"Proxy-Connection", b"keep-alive"),),
    ]
)

_pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b'{"a": 1}', b"data: x\n\n", b"\r\n0\r\n\r\n", b"\x1f\x8b\x08garbage"]),
        st.builds(lambda piece, size: piece * size, st.binary(min_size=1, max_size=4),
                  st.sampled_from([300, 5000, 40_000])),
    ),
    max_size=4,
).map(tuple)  # fmt: skip

_trailer_pairs = st.tuples(
    st.sampled_from([b"x-checksum", b"x-t", b"digest", b"server-timing"]), _values
)
_trailers = st.one_of(st.just(()), st.lists(_trailer_pairs, max_size=3).map(tuple))
_extensions = st.sampled_from([b"", b"", b";a=b", b';a="q"', b";x"])


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Draw a request that any server of its version has to understand."""
    version = draw(
        st.sampled_from([Version.HTTP11, Version.HTTP11, Version.HTTP11, Version.HTTP2,
                         Version.HTTP2, Version.HTTP10])
    )  # fmt: skip
    framings = [Framing.NONE, Framing.LENGTH]
    if version is not Version.HTTP10:
        framings.append(Framing.CHUNKED)
    framing = draw(st.sampled_from(framings))
    body = draw(_pieces) if framing is not Framing.NONE else ()
    headers = draw(_headers("request", version))
    if version is Version.HTTP11:
        headers += draw(_hop_headers)
    expects = version is not Version.HTTP10 and any(body) and draw(st.integers(0, 7)) == 0
    if expects:
        headers += ((b"expect", b"100-continue"),)
    return Request(
        method=draw(_methods),
        target=draw(targets),
        headers=headers,
        framing=framing,
        body=body,
        trailers=draw(_trailers) if framing is Framing.CHUNKED and any(body) else (),
        version=version,
        absolute=version is Version.HTTP11 and draw(st.integers(0, 9)) == 0,
        extension=draw(_extensions) if version is Version.HTTP11 else b"",
    )


_statuses = st.one_of(
    st.just(200),
    st.sampled_from([201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 409, 418,
                     422, 425, 429, 431, 451, 500, 502, 503, 504, 529, 599]),
    st.integers(200, 599),
).filter(lambda status: status != 205)  # fmt: skip
_reasons = st.one_of(
    st.sampled_from([b"OK", b"", b"Own Words", b"Too (many), sorry!"]),
    st.text(_TOKEN, max_size=8).map(str.encode),
)
_interims = st.one_of(
    st.just(()),
    st.just(()),
    st.lists(
        st.builds(
            Interim,
            st.sampled_from([100, 102, 103]),
            st.lists(st.tuples(st.just(b"link"), _values), max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
)


@st.composite
def answers(draw: st.DrawFn, request: Request, upstream: Version) -> Answer:
    """Draw an answer to this request."""
    status = draw(_statuses)
    headers = draw(_headers("answer", upstream))
    if draw(st.booleans()):
        headers += ((b"date", b"Mon, 23 Nov 2026 18:59:13 GMT"),)
    interim = draw(_interims)
    if request.expects and not any(item.status == 100 for item in interim):
        interim = (Interim(100),) if draw(st.integers(0, 3)) else ()
    elif request.expects:
        interim = tuple(sorted(interim, key=lambda item: item.status))
    reason = draw(_reasons)
    if status in (204, 304):
        return Answer(status, headers, Framing.NONE, interim=interim, reason=reason)
    framings = [Framing.LENGTH, Framing.LENGTH, Framing.CHUNKED]
    if upstream is Version.HTTP11:
        framings.append(Framing.CLOSE)
    framing = draw(st.sampled_from(framings))
    body = draw(_pieces)
    if request.expects and not interim:
        body = (b"early",)  # of more than a window, a client of HTTP/2 may lose the end
    old = (
        framing in (Framing.CLOSE, Framing.LENGTH) and not interim and draw(st.integers(0, 9)) == 0
    )
    return Answer(
        status,
        headers,
        framing,
        body,
        trailers=draw(_trailers) if framing is Framing.CHUNKED and any(body) else (),
        version=Version.HTTP10 if old and upstream is Version.HTTP11 else Version.HTTP11,
        interim=interim,
        reason=reason,
        extension=draw(_extensions),
    )
