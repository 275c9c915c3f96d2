"""Hard cases by name: each difference that was ever found, and what proxies are known to break.

A new one is a new entry. `shows` names the entry of `fidelity.ALLOWED` without which it differs.
"""

from __future__ import annotations

from dataclasses import dataclass

from thruway_testing.wire.fidelity import JOINED
from thruway_testing.wire.rawhttp import Answer, Framing, Interim, Request, Version

__all__ = ["CASES", "Case"]

H10, H11, H2 = Version.HTTP10, Version.HTTP11, Version.HTTP2
NONE, LENGTH, CHUNKED, CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE


_PLAIN, _SHORT = Request(), Answer(body=(b"x",))


@dataclass(frozen=True, slots=True)
class Case:
    """A request and its answer on a way; see `fidelity_strategies.ROUTES`."""

    request: Request = _PLAIN
    answer: Answer = _SHORT
    way: str = "http1"
    shows: str = ""


def _request(*headers: tuple[bytes, bytes], version: Version = H11) -> Request:
    return Request(headers=headers, version=version)


def _upload(*body: bytes, framing: Framing = LENGTH, version: Version = H11) -> Request:
    return Request(b"POST", framing=framing, body=body, version=version)


def _expecting(framing: Framing = LENGTH, version: Version = H11) -> Request:
    expect = ((b"expect", b"100-continue"),)
    return Request(b"POST", headers=expect, framing=framing, body=(b"abc",), version=version)


def _answer(*headers: tuple[bytes, bytes], status: int = 200) -> Answer:
    return Answer(status, headers, body=(b"x",))


def _twice(names: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name, value) for value in (b"1", b"2") for name in names)


_HEAD = Request(b"HEAD")
_GIVEN_LENGTH = ((b"Content-Length", b"500"), (b"ETag", b'"x"'))
_ODD_PATH = rb"""/v1/a|"{}\^`<>[]%zz%ff%00%2F//;x=~!$&'()*+,;=:@?a=b&a=b&&=?/|"{}\^`<>[]%zz%FF+"""
_HINTS = (Interim(103, ((b"Link", b"<a>"), (b"Link", b"<b>"))),)
_LATE_HINTS = (Interim(100), Interim(103, ((b"Link", b"<a>"),)))
_ALL_BYTES = bytes(range(256))
_TRAILERS = ((b"x-t", b"1"), (b"x-t", b"2"), (b"digest", b"z"))

CASES: dict[str, Case] = {
    # Found by this suite, and mended
    "x-forwarded-proto-is-not-added": Case(),
    "x-forwarded-proto-of-the-client": Case(
        _request((b"X-Forwarded-Proto", b"https"), (b"X-A", b"1")), shows="put back"
    ),
    "x-forwarded-proto-that-is-envoys-too": Case(_request((b"X-Forwarded-Proto", b"http"))),
    "referer-that-is-no-url": Case(_request((b"Referer", b"!{!"), (b"X-A", b"1"))),
    "referer-that-is-relative": Case(_request((b"Referer", b"/a?b"))),
    "referer-that-is-a-url": Case(_request((b"Referer", b"https://a.example/b"), (b"X-A", b"1"))),
    "x-forwarded-client-cert": Case(_request((b"X-Forwarded-Client-Cert", b"By=a;Hash=b"))),
    "x-forwarded-for-and-its-kin": Case(
        _request(
            (b"X-Forwarded-For", b"192.0.2.1, 192.0.2.2"),
            (b"X-Forwarded-Host", b"a.example"),
            (b"X-Forwarded-Port", b"44"),
            (b"Forwarded", b"for=x"),
            (b"Via", b"1.1 a"),
            (b"X-Request-Id", b"not a UUID"),
            (b"X-Real-IP", b"192.0.2.3"),
        )
    ),
    "http10": Case(Request(version=H10), shows="framing"),
    "http10-close-delimited": Case(Request(version=H10), Answer(framing=CLOSE, body=(b"x",))),
    "http10-chunked-answer": Case(
        Request(version=H10), Answer(framing=CHUNKED, body=(b"x", b"y"), trailers=_TRAILERS)
    ),
    "http10-post": Case(_upload(b"abc", version=H10)),
    "own-method": Case(Request(b"FOO-BAR")),
    "own-method-http2": Case(Request(b"FOO-BAR", version=H2)),
    "method-in-lower-case": Case(Request(b"get")),
    "method-query": Case(
        Request(b"QUERY", headers=((b"Content-Type", b"a/b"),), framing=LENGTH, body=(b"q",))
    ),
    "own-reason": Case(answer=Answer(429, body=(b"x",), reason=b"Calm down, please")),
    "no-reason": Case(answer=Answer(418, body=(b"x",), reason=b""), shows="reason"),
    "reason-http2": Case(Request(version=H2), Answer(reason=b"Own")),
    "more-than-100-answer-headers": Case(
        answer=Answer(headers=tuple((b"X-%d" % number, b"v") for number in range(190)))
    ),
    "answer-headers-of-100-kib": Case(
        answer=_answer(*((b"X-%d" % number, b"v" * 10_000) for number in range(10)))
    ),
    "upgrade-to-something-else": Case(
        _request((b"Connection", b"Upgrade"), (b"Upgrade", b"foo/2")), shows="hop-by-hop"
    ),
    "upgrade-to-h2c": Case(_request((b"Connection", b"Upgrade"), (b"Upgrade", b"h2c"))),
    # Found by this suite, and allowed
    "joined-request-headers": Case(_request(*_twice(JOINED["request"])), shows="joined"),
    "joined-request-headers-http2": Case(
        _request(*_twice(JOINED["request"]), version=H2), way="http2"
    ),
    "joined-answer-headers": Case(answer=_answer(*_twice(JOINED["answer"]))),
    "joined-without-a-value": Case(_request((b"Accept", b""), (b"Accept", b""), (b"Via", b""))),
    "cookies-http1": Case(_request((b"Cookie", b"a=1"), (b"X", b"1"), (b"Cookie", b"b=2"))),
    "cookies-http2": Case(
        _request((b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2"), version=H2),
        shows="crumbs",
    ),
    "date-is-added": Case(shows="date"),
    "date-of-the-upstream": Case(answer=_answer((b"Date", b"Mon, 23 Nov 2026 18:59:13 GMT"))),
    "date-that-is-none": Case(answer=_answer((b"Date", b"yesterday"))),
    "date-without-a-value": Case(answer=_answer((b"Date", b""))),
    "two-early-hints": Case(
        answer=Answer(interim=(*_HINTS, Interim(103, ((b"Link", b"<c>"),)))), shows="first interim"
    ),
    "hints-after-continue": Case(_expecting(), Answer(interim=_LATE_HINTS)),
    "own-names": Case(
        _request(
            (b"X-Envoy-Retry-On", b"5xx"),
            (b"x-envoy-upstream-rq-timeout-ms", b"1"),
            (b"X-Thruway-Client", b"me"),
            (b"X-Envoyage", b"1"),
        ),
        shows="own names",
    ),
    "length-zero-of-a-post": Case(_upload(), way="http2"),
    "length-is-added-to-a-post": Case(Request(b"POST", headers=((b"X-A", b"1"),)), shows="framing"),
    "length-of-a-head-keeps-its-place": Case(
        _HEAD, Answer(headers=((b"X-A", b"1"), *_GIVEN_LENGTH), framing=NONE)
    ),
    "length-of-204-is-dropped": Case(
        answer=Answer(204, ((b"Content-Length", b"0"),), framing=NONE), shows="framing"
    ),
    "names-in-trailers": Case(
        Request(b"POST", framing=CHUNKED, body=(b"a",), trailers=((b"X-T", b"1"),)), shows="names"
    ),
    "host": Case(Request(absolute=True), shows="host"),
    "credentials": Case(
        _request(
            (b"Authorization", b"Bearer a"),
            (b"Api-Key", b"b"),
            (b"X-A", b"1"),
            (b"x-api-key", b"c"),
            (b"x-goog-api-key", b"d"),
            (b"x-litellm-api-key", b"e"),
        ),
        way="credential",
        shows="credentials",
    ),
    "credentials-pass-without-one-of-the-route": Case(
        _request((b"Authorization", b"Bearer a"), (b"Api-Key", b"b"), (b"x-goog-api-key", b"d"))
    ),
    "authorization-for-a-proxy": Case(_request((b"Proxy-Authorization", b"Basic eA=="))),
    # Headers
    "order-and-repetition": Case(
        _request((b"X-3", b"a"), (b"X-1", b"b"), (b"X-2", b"c"), (b"x-1", b"d"), (b"X-3", b"e"))
    ),
    "header-without-a-value": Case(
        _request((b"X-Empty", b""), (b"Accept", b""), (b"Authorization", b""), (b"X-Last", b"")),
        _answer((b"X-Empty", b""), (b"Server", b""), (b"Content-Type", b"")),
    ),
    "header-bytes": Case(
        _request(
            (b"X-Obs", _ALL_BYTES[0x80:]),
            (b"X-Tab", b"a\tb"),
            (b"X-Printable", _ALL_BYTES[0x21:0x7F]),
        ),
        _answer((b"X-Obs", _ALL_BYTES[0x80:]), (b"X-Tab", b"a\tb")),
    ),
    "header-names": Case(
        _request((b"X_Under", b"1"), (b"!#$%&'*+-.^_`|~1", b"2"), (b"0", b"3")),
        _answer((b"X_Under", b"1"), (b"!#$%&'*+-.^_`|~1", b"2"), (b"0", b"3")),
    ),
    "format-strings-in-headers": Case(
        _request((b"X-A", b"%REQ(X-B)% %41 100%"), (b"X-Forwarded-Proto", b"%PROTOCOL%"))
    ),
    "connection-names-headers": Case(
        _request((b"Connection", b"close, X-Named"), (b"X-Named", b"1"), (b"X-Other", b"2")),
        shows="hop-by-hop",
    ),
    "connection-of-the-answer": Case(
        answer=_answer((b"Connection", b"close, X-Named"), (b"X-Named", b"1"))
    ),
    "keep-alive-and-te": Case(
        _request(
            (b"Keep-Alive", b"timeout=5"),
            (b"Proxy-Connection", b"x"),
            (b"TE", b"trailers, deflate"),
            (b"Trailer", b"X"),
        )
    ),
    "several-set-cookie": Case(
        answer=_answer((b"Set-Cookie", b"a=1; Path=/"), (b"Set-Cookie", b"b=2"), (b"X", b"1"))
    ),
    "answer-headers-of-envoys-names": Case(
        answer=_answer(
            (b"X-Envoy-Upstream-Service-Time", b"1"),
            (b"x-envoy-overloaded", b"true"),
            (b"x-envoy-foo", b"1"),
            (b"Server", b"nginx"),
            (b"Via", b"1.1 b"),
        )
    ),
    "grpc": Case(
        Request(
            b"POST",
            headers=(
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                (b"grpc-timeout", b"1S"),
            ),
            framing=CHUNKED,
            body=(b"\0\0\0\0\0",),
            version=H2,
        ),
        Answer(
            headers=((b"content-type", b"application/grpc"),),
            framing=CHUNKED,
            body=(b"\0\0\0\0\0",),
            trailers=((b"grpc-status", b"0"),),
        ),
        way="http2",
    ),
    "header-of-50-kb": Case(_request((b"X-Long", b"a" * 50_000))),
    "190-headers": Case(_request(*((b"X-%d" % number, b"v") for number in range(190)))),
    # Targets
    "path-and-query-bytes": Case(Request(target=_ODD_PATH)),
    "path-and-query-bytes-http2": Case(Request(target=_ODD_PATH, version=H2), way="http2"),
    "query-repeats": Case(Request(target=b"/v1/m?include[]=a&include[]=b&a&a=&A=1&&")),
    "query-of-question-marks": Case(Request(target=b"/v1/m???=?")),
    "path-of-50-kb": Case(Request(target=b"/v1/" + b"a" * 50_000)),
    # Bodies
    **{
        f"{method.decode().lower()}-{framing}-{len(body)}": Case(
            Request(method, framing=framing, body=body)
        )
        for method in (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE")
        for framing, body in (
            (NONE, ()),
            (LENGTH, ()),
            (LENGTH, (b"abc",)),
            (CHUNKED, ()),
            (CHUNKED, (b"a", b"bc")),
        )
    },
    "all-bytes": Case(_upload(_ALL_BYTES), Answer(body=(_ALL_BYTES,))),
    "json-is-not-encoded-again": Case(
        _upload(b'{"a" :1.0,\n"a": 1e2, "b":"\\u0041\\/"}'),
        Answer(headers=((b"Content-Type", b"application/json"),), body=(b'{"a" :1.0 , "a":2}',)),
    ),
    "body-that-looks-like-chunks": Case(_upload(b"5\r\nabcde\r\n0\r\n\r\n")),
    "content-encoding-of-garbage": Case(
        Request(b"POST", headers=((b"Content-Encoding", b"br"),), framing=LENGTH, body=(b"x",)),
        Answer(headers=((b"Content-Encoding", b"gzip"), (b"Vary", b"x")), body=(b"garbage",)),
    ),
    "chunk-extensions": Case(
        Request(b"POST", framing=CHUNKED, body=(b"a", b"b"), extension=b';a=b;c="d"'),
        Answer(framing=CHUNKED, body=(b"x", b"y"), extension=b";q"),
    ),
    **{
        f"trailers-{version}-{way}": Case(
            Request(b"POST", framing=CHUNKED, body=(b"a",), trailers=_TRAILERS, version=version),
            Answer(framing=CHUNKED, body=(b"x", b"y"), trailers=_TRAILERS),
            way=way,
        )
        for version in (H11, H2)
        for way in ("http1", "http2")
    },
    "close-delimited": Case(answer=Answer(framing=CLOSE, body=(b"x", b"y"))),
    "answer-of-http10": Case(answer=Answer(framing=CLOSE, body=(b"x",), version=H10)),
    "no-body-at-all": Case(answer=Answer()),
    "megabyte-both-ways": Case(
        _upload(_ALL_BYTES * 4096, framing=CHUNKED),
        Answer(framing=CHUNKED, body=(_ALL_BYTES,) * 4096),
    ),
    "megabyte-both-ways-http2": Case(
        _upload(_ALL_BYTES * 4096, version=H2), Answer(body=(_ALL_BYTES * 4096,)), way="http2"
    ),
    # Statuses and interim answers
    **{
        f"status-{status}": Case(answer=_answer((b"Location", b"http://a/?b"), status=status))
        for status in (
            200,
            201,
            206,
            300,
            301,
            302,
            303,
            307,
            308,
            400,
            401,
            404,
            418,
            429,
            500,
            503,
            504,
            529,
            599,
            700,
            999,
        )
    },
    "status-204": Case(answer=Answer(204, framing=NONE)),
    "status-304": Case(answer=Answer(304, ((b"ETag", b'"x"'),), framing=NONE)),
    "status-304-with-length": Case(answer=Answer(304, _GIVEN_LENGTH, framing=NONE)),
    "head-with-length": Case(_HEAD, Answer(headers=_GIVEN_LENGTH, framing=NONE)),
    "head-with-length-http2": Case(
        Request(b"HEAD", version=H2), Answer(headers=_GIVEN_LENGTH, framing=NONE)
    ),
    "head-without-length": Case(_HEAD, Answer(framing=NONE)),
    "head-chunked": Case(_HEAD, Answer(framing=CHUNKED, body=(b"x",))),
    **{
        f"interim-{status}-{version}": Case(
            Request(version=version),
            Answer(interim=(Interim(status, ((b"Link", b"<a>"), (b"Link", b"<b>"))),)),
        )
        for status in (100, 102, 103)
        for version in (H11, H2)
    },
    **{
        f"expect-{framing}-{version}-{way}": Case(
            _expecting(framing, version), Answer(interim=(Interim(100),), body=(b"x",)), way
        )
        for framing, version, way in (
            (LENGTH, H11, "http1"),
            (CHUNKED, H11, "http1"),
            (LENGTH, H2, "http1"),
            (LENGTH, H11, "http2"),
            (CHUNKED, H2, "http2"),
        )
    },
    "expect-refused": Case(_expecting(), Answer(417, body=(b"no",))),
    "expect-refused-http2": Case(_expecting(version=H2), Answer(417, body=(b"no",)), "http2"),
    "expect-without-a-body": Case(
        _request((b"Expect", b"100-continue")), Answer(interim=(Interim(100),), body=(b"x",))
    ),
}
