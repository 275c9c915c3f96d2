"""WebSocket handshakes to which the upstream does not respond with 101.

By HTTP/1.1 its response passes, whatever its status. By HTTP/2 a 2xx would accept the handshake
(RFC 8441, 5), so 2xx and 3xx become a 502 of Thruway's own, in which nothing is the upstream's.
"""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING

import pytest

from thruway_testing.product.manifests import route
from thruway_testing.product.proxy_bench import ProxyBench
from thruway_testing.upstreams.rude_upstream import Peer, RudeUpstream
from thruway_testing.wire.h2_handshake import shake_hands
from thruway_testing.wire.rawhttp import Request, values
from thruway_testing.wire.rawhttp_client import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.wire.rawhttp import Reply

HANDSHAKE = (
    (b"connection", b"Upgrade"),
    (b"upgrade", b"WebSocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
)
FIELDS = (
    b"X-Own: 1\r\nContent-Encoding: br\r\nSet-Cookie: a=b\r\nX-Thruway-Code: credential_missing\r\n"
)
RESPONSES = {
    "200": b"HTTP/1.1 200 OK\r\n" + FIELDS + b"Content-Length: 5\r\n\r\nhello",
    "200 in chunks": b"HTTP/1.1 200 OK\r\n"
    + FIELDS
    + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n" + FIELDS + b"\r\n",
    "301": b"HTTP/1.1 301 Moved\r\nLocation: /a\r\n" + FIELDS + b"Content-Length: 0\r\n\r\n",
    "302": b"HTTP/1.1 302 Found\r\nLocation: /a\r\n" + FIELDS + b"Content-Length: 5\r\n\r\nhello",
    "307": b"HTTP/1.1 307 Go\r\nLocation: /a\r\n" + FIELDS + b"Content-Length: 0\r\n\r\n",
    "401": b"HTTP/1.1 401 No\r\n" + FIELDS + b"Content-Length: 5\r\n\r\nhello",
    "426": b"HTTP/1.1 426 Upgrade\r\nUpgrade: h2c\r\n" + FIELDS + b"Content-Length: 0\r\n\r\n",
    "503": b"HTTP/1.1 503 Later\r\n" + FIELDS + b"Content-Length: 5\r\n\r\nhello",
}
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
EARLY = b"GET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


class Upstream:
    """Responds to every request as it is told, and keeps all bytes that it gets."""

    def __init__(self) -> None:
        self.response = b""
        self.got = b""
        self.ended = threading.Event()

    def __call__(self, peer: Peer) -> None:
        self.got += peer.read_head()
        peer.send(self.response)
        with contextlib.suppress(OSError):
            while data := peer.socket.recv(65536):
                self.got += data
        self.ended.set()

    def expect(self, response: bytes) -> None:
        self.response, self.got = response, b""
        self.ended.clear()


class Bench(ProxyBench):
    upstream: Upstream


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    upstream = Upstream()
    with RudeUpstream(upstream) as rude:
        twin = route("twin", "/twin", rude.url)
        twin["spec"]["upstream"]["protocol"] = "HTTP2"  # WebSocket has a cluster of its own then
        timed = route("timed", "/timed", rude.url, timeouts={"request": "60s"})
        with Bench([route("same", "/same", rude.url), twin, timed]) as found:
            found.upstream = upstream
            yield found


@pytest.mark.parametrize("path", ["/same", "/twin"])
@pytest.mark.parametrize("name", RESPONSES)
def test_over_http1_the_response_passes(name: str, path: str, bench: Bench) -> None:
    bench.upstream.expect(RESPONSES[name])
    known = len(bench.calls())
    with RawClient(bench.port) as client:
        reply = client.exchange(Request(target=f"{path}/realtime".encode(), headers=HANDSHAKE))
    assert reply.status == int(name[:3])
    assert reply.body == (b"hello" if b"hello" in RESPONSES[name] else b"")
    for field in FIELDS.split(b"\r\n")[:-1]:
        key, value = field.split(b": ")
        assert values(reply.headers, key.lower()) == [value]
    assert bool(values(reply.headers, b"location")) == (name[0] == "3")
    call = bench.wait_for_call(known, status=reply.status)
    assert (call["code"], call["details"]) == ("", "via_upstream")
    assert b"\r\nupgrade: WebSocket\r\n" in bench.upstream.got
    assert b"thruway" not in bench.upstream.got.lower()


@pytest.mark.parametrize("path", ["/same", "/twin"])
@pytest.mark.parametrize("name", ["200", "302", "401"])
def test_nothing_is_sent_on_before_the_upstream_accepts(name: str, path: str, bench: Bench) -> None:
    """Bytes behind a handshake that is refused would be a request that nobody has checked."""
    bench.upstream.expect(RESPONSES[name])
    fields = b"".join(b"%b: %b\r\n" % pair for pair in HANDSHAKE)
    head = f"GET {path}/realtime HTTP/1.1\r\nHost: localhost\r\n".encode()
    with RawClient(bench.port) as client, contextlib.closing(client.connect()) as wire:
        wire.send(head + fields + b"\r\n" + EARLY)
        assert wire.line().startswith(b"HTTP/1.1 " + name.encode())
        wire.rest()
    assert bench.upstream.ended.wait(20)
    assert b"smuggled" not in bench.upstream.got


@pytest.mark.parametrize("path", ["/same", "/twin"])
def test_what_is_sent_early_arrives_once_the_upstream_accepts(path: str, bench: Bench) -> None:
    bench.upstream.expect(ACCEPTED)
    fields = b"".join(b"%b: %b\r\n" % pair for pair in HANDSHAKE)
    head = f"GET {path}/realtime HTTP/1.1\r\nHost: localhost\r\n".encode()
    with RawClient(bench.port) as client, contextlib.closing(client.connect()) as wire:
        wire.send(head + fields + b"\r\n" + b"early")
        assert wire.line() == b"HTTP/1.1 101 Switching Protocols"
    assert bench.upstream.ended.wait(20)
    assert bench.upstream.got.endswith(b"\r\n\r\nearly")


@pytest.mark.parametrize("path", ["/same", "/twin"])
@pytest.mark.parametrize("name", [name for name in RESPONSES if name < "4"])
def test_over_http2_a_success_or_redirect_is_a_502(name: str, path: str, bench: Bench) -> None:
    bench.upstream.expect(RESPONSES[name])
    known = len(bench.calls())
    reply = shake_hands(bench.port, f"{path}/realtime")
    assert reply.status == 502
    assert json.loads(reply.body)["error"]["code"] == "upstream_refused_upgrade"
    check_own(reply)
    call = bench.wait_for_call(known, status=502)
    assert call["code"] == "upstream_refused_upgrade"


def check_own(reply: Reply) -> None:
    """Nothing in it is the upstream's."""
    allowed = {b"connection", b"transfer-encoding", b"date"}
    found = {key: value for key, value in reply.headers if key not in allowed}
    assert found == {
        b"x-thruway-code": b"upstream_refused_upgrade",
        b"x-should-retry": b"false",
        b"content-type": b"application/json",
    }


@pytest.mark.parametrize("name", [name for name in RESPONSES if name < "4"])
def test_with_a_request_timeout_a_success_or_redirect_is_a_502(name: str, bench: Bench) -> None:
    """Envoy would start the timeout of a handshake that passes in full only when it is too late."""
    bench.upstream.expect(RESPONSES[name])
    with RawClient(bench.port) as client:
        reply = client.exchange(Request(target=b"/timed/realtime", headers=HANDSHAKE))
    assert reply.status == 502
    check_own(reply)


@pytest.mark.parametrize("path", ["/same", "/twin"])
@pytest.mark.parametrize("name", [name for name in RESPONSES if name >= "4"])
def test_over_http2_an_error_passes(name: str, path: str, bench: Bench) -> None:
    bench.upstream.expect(RESPONSES[name])
    reply = shake_hands(bench.port, f"{path}/realtime")
    assert reply.status == int(name[:3])
    assert values(reply.headers, b"x-own") == [b"1"]
    assert reply.body == (b"hello" if b"hello" in RESPONSES[name] else b"")


@pytest.mark.parametrize("path", ["/same", "/twin"])
def test_over_http2_an_accepted_handshake_is_a_200(path: str, bench: Bench) -> None:
    bench.upstream.expect(ACCEPTED)
    reply = shake_hands(bench.port, f"{path}/realtime")
    assert (reply.status, reply.body) == (200, b"")
    assert not values(reply.headers, b"x-thruway-code")


def test_only_our_own_refusal_loses_the_upstreams_headers(bench: Bench) -> None:
    """An upstream may be a Thruway too, and send our code with a status of its own."""
    head = b"HTTP/1.1 200 OK\r\nx-thruway-code: upstream_refused_upgrade\r\nSet-Cookie: a=b\r\n"
    bench.upstream.expect(head + b"Content-Length: 5\r\n\r\nhello")
    with RawClient(bench.port) as client:
        reply = client.exchange(Request(target=b"/same/models"))
    assert (reply.status, reply.body) == (200, b"hello")
    assert (b"Set-Cookie", b"a=b") in reply.headers
