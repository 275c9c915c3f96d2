"""Nothing disconnects a peer that pauses, before `timeouts.idle`: silent, busy, or not reading.

Invariant: for each protocol on either side, whichever end stops reading or writing, and for however
long, every byte arrives in order afterwards, and the log says of no call that it ended early.

`make test` runs timers at twenty times their speed and pauses for seconds; `make soak` pauses for
15 minutes in real time (`THRUWAY_PAUSE_SECONDS`). All calls of all protocols pause at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from h2.events import RequestReceived, ResponseReceived

from thruway_testing.product import hurried as hurry
from thruway_testing.product.manifests import route, write
from thruway_testing.product.up import ThruwayUp, thruway_up, wait_until
from thruway_testing.wire.pauses import End, H2End, H2Peer, Http1End, WebSocketEnd, transfer
from thruway_testing.wire.rawhttp import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = float(os.environ.get("THRUWAY_PAUSE_SECONDS", "0"))
"""How long the pause is, in real time; 0: so long that it is two minutes at `HURRY`."""
HURRY = 1 if SECONDS else 20
PAUSE = SECONDS or 6.0
ROUNDS = 10
_SO_ATTACH_FILTER = 26
"""Of Linux's asm-generic/socket.h; the module `socket` does not have it."""
AGE = 1_000
"""Milliseconds: the connections' age at the aged proxy, far below the pause."""


def hurried(factor: int, age: int) -> list[str]:
    return [sys.executable, "-P", hurry.__file__, str(factor), str(age)]


class Call:
    """One call in the middle: the client's end and the upstream's, both by hand."""

    client: End
    upstream: End

    def __init__(self, case: Case, port: int, listening: socket.socket) -> None:
        self.case = case
        self.stack = contextlib.ExitStack()
        self._port = port
        self._listening = listening

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def request(self, *, body: bool) -> None:
        """Send the request's headers, and receive them upstream."""
        wire = self._wire(socket.create_connection(("127.0.0.1", self._port)))
        method = b"POST" if body else b"GET"
        path = b"/%s/x" % self.case.id.encode()
        if self.case.client == "2":
            peer = H2Peer(wire, client=True, window=self.case.window)
            fields = [(b":method", method), (b":scheme", b"http"), (b":path", path)]
            self._fields = [*fields, (b":authority", b"localhost")]
            peer.h2.send_headers(1, self._fields, end_stream=not body)
            peer.flush()
            self.client = H2End(peer, 1)
        else:
            lines = [b"%s %s HTTP/1.1" % (method, path), b"Host: localhost", *self._extra(body)]
            wire.send(b"\r\n".join([*lines, b"", b""]))
            websocket = self.case.client == "WebSocket"
            self.client = WebSocketEnd(wire, client=True) if websocket else Http1End(wire)
        self._accept()

    def second_stream(self) -> tuple[H2End, H2End]:
        """Open another stream with a body in the same connections; return both ends."""
        assert isinstance(self.client, H2End)
        assert isinstance(self.upstream, H2End)
        ours, theirs = self.client.peer, self.upstream.peer
        ours.h2.send_headers(3, self._fields)
        ours.flush()
        event = theirs.wait(None, RequestReceived)
        assert isinstance(event, RequestReceived)
        theirs.h2.send_headers(event.stream_id, [(b":status", b"200")])
        theirs.flush()
        ours.wait(3, ResponseReceived)
        return H2End(ours, 3), H2End(theirs, event.stream_id)

    def _extra(self, body: bool) -> list[bytes]:
        if self.case.client == "WebSocket":
            return [
                b"Connection: Upgrade",
                b"Upgrade: websocket",
                b"Sec-WebSocket-Version: 13",
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            ]
        closing = [b"Connection: close"] if self.case.closes else []
        return [*closing, *([b"Transfer-Encoding: chunked"] if body else [])]

    def _wire(self, sock: socket.socket) -> Wire:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = Wire(sock)
        self.stack.callback(wire.close)
        return wire

    def _accept(self) -> None:
        wire = self._wire(self._listening.accept()[0])
        if self.case.upstream == "2":
            peer = H2Peer(wire, client=False)
            event = peer.wait(None, RequestReceived)
            assert isinstance(event, RequestReceived)
            self.upstream = H2End(peer, event.stream_id)
        else:
            websocket = self.case.client == "WebSocket"
            end = WebSocketEnd(wire, client=False) if websocket else Http1End(wire)
            end.head()
            self.upstream = end

    def respond(self, *, body: bool = True) -> None:
        """Send the response's headers."""
        if isinstance(self.upstream, H2End):
            peer = self.upstream.peer
            peer.h2.send_headers(self.upstream.stream, [(b":status", b"200")], end_stream=not body)
            peer.flush()
            return
        assert isinstance(self.upstream, Http1End)
        if self.case.client == "WebSocket":
            head = [b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade"]
            head += [b"Upgrade: websocket", b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI="]
        else:
            head = [b"HTTP/1.1 200 OK"]
            head += [b"Transfer-Encoding: chunked" if body else b"Content-Length: 0"]
        self.upstream.wire.send(b"\r\n".join([*head, b"", b""]))

    def receive_head(self) -> None:
        """Read the response's headers; the status must be the upstream's."""
        if isinstance(self.client, H2End):
            event = self.client.peer.wait(self.client.stream, ResponseReceived)
            assert isinstance(event, ResponseReceived)
            status = dict(event.headers)[b":status"]
            assert status == b"200", status
        else:
            assert isinstance(self.client, Http1End)
            status = self.client.head().split()[1]
            assert status == (b"101" if self.case.client == "WebSocket" else b"200"), status


def pause() -> None:
    """The subject of the test."""
    time.sleep(PAUSE)


def client_does_not_read(call: Call) -> None:
    call.request(body=False)
    call.respond()
    call.upstream.fill()
    pause()
    call.receive_head()
    transfer(call.upstream, call.client)


def upstream_does_not_read(call: Call) -> None:
    call.request(body=True)
    call.client.fill()
    pause()
    transfer(call.client, call.upstream)
    call.respond()
    call.receive_head()
    transfer(call.upstream, call.client)


def upstream_does_not_answer(call: Call) -> None:
    call.request(body=False)
    pause()
    call.respond()
    call.upstream.write(1)
    call.receive_head()
    transfer(call.upstream, call.client)


def response_pauses(call: Call) -> None:
    call.request(body=False)
    call.respond()
    call.upstream.write(1)
    call.receive_head()
    pause()
    transfer(call.upstream, call.client)


def upload_pauses(call: Call) -> None:
    call.request(body=True)
    call.client.write(1)
    pause()
    transfer(call.client, call.upstream)
    call.respond()
    call.receive_head()
    transfer(call.upstream, call.client)


def whole_response_waits(call: Call) -> None:
    """The upstream is done with it, and the end waits in the proxy."""
    call.request(body=False)
    call.respond()
    call.upstream.write(140)
    call.upstream.finish()
    pause()
    call.receive_head()
    call.client.drain()
    assert call.client.received.value == call.upstream.sent.value


def another_stream_goes_on(call: Call) -> None:
    """The client's window for one stream is used up, while another one is busy."""
    call.request(body=False)
    call.respond()
    call.upstream.fill()
    client, upstream = call.second_stream()
    for _ in range(ROUNDS):
        for sender, receiver in ((client, upstream), (upstream, client)):
            sender.write(1)
            receiver.receive(1)
        time.sleep(PAUSE / ROUNDS)
    transfer(client, upstream)
    transfer(upstream, client)
    call.receive_head()
    transfer(call.upstream, call.client)


def websocket(call: Call, *, client_reads: bool, upstream_reads: bool) -> None:
    call.request(body=False)
    call.respond()
    call.receive_head()
    if not client_reads:
        call.upstream.fill()
    if not upstream_reads:
        call.client.fill()
    pause()
    transfer(call.upstream, call.client)
    transfer(call.client, call.upstream)


def websocket_silence(call: Call) -> None:
    websocket(call, client_reads=True, upstream_reads=True)


def websocket_client_does_not_read(call: Call) -> None:
    websocket(call, client_reads=False, upstream_reads=True)


def websocket_upstream_does_not_read(call: Call) -> None:
    websocket(call, client_reads=True, upstream_reads=False)


def websocket_nobody_reads(call: Call) -> None:
    websocket(call, client_reads=False, upstream_reads=False)


@dataclass(frozen=True)
class Case:
    play: Callable[[Call], None]
    client: str
    upstream: str
    closes: bool = False
    """HTTP/1.1: whether the client asks for `Connection: close`."""
    window: int = 1 << 24
    """HTTP/2: the client's window for a stream, in bytes."""

    @property
    def id(self) -> str:
        name = f"{self.play.__name__}-{self.client}-{self.upstream}".replace(".", "").lower()
        return name.replace("_", "-") + ("-close" if self.closes else "")


HTTP = [
    client_does_not_read,
    upstream_does_not_read,
    upstream_does_not_answer,
    response_pauses,
    upload_pauses,
    whole_response_waits,
]
CASES = [
    *(Case(play, client, up) for play in HTTP for client in ("1.1", "2") for up in ("1.1", "2")),
    # But for whole_response_waits: see "Known limits" in docs/fidelity.md.
    *(Case(play, "1.1", up, closes=True) for play in HTTP[:-1] for up in ("1.1", "2")),
    Case(another_stream_goes_on, "2", "2", window=65_535),
    Case(websocket_silence, "WebSocket", "1.1"),
    Case(websocket_client_does_not_read, "WebSocket", "1.1"),
    Case(websocket_upstream_does_not_read, "WebSocket", "1.1"),
    Case(websocket_nobody_reads, "WebSocket", "1.1"),
]


@contextlib.contextmanager
def proxied(
    folder: Path, age: int, factor: int = HURRY
) -> Iterator[tuple[ThruwayUp, dict[str, socket.socket]]]:
    """Run Thruway with a route and a listening upstream for each case."""
    with contextlib.ExitStack() as stack:
        upstreams = {
            case.id: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for case in CASES
        }
        documents = []
        for case in CASES:
            upstreams[case.id].settimeout(20)
            port = upstreams[case.id].getsockname()[1]
            document = route(case.id, f"/{case.id}", f"http://127.0.0.1:{port}")
            document["spec"]["upstream"]["protocol"] = "HTTP2" if case.upstream == "2" else "HTTP1"
            documents.append(document)
        file = folder / "routes.yaml"
        write(file, *documents)
        up = stack.enter_context(thruway_up("-f", str(file), command=hurried(factor, age)))
        yield up, upstreams


@pytest.mark.timeout(300 + PAUSE)
def test_no_pause_disconnects_anybody(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(2 * len(CASES)))
        ups, plays = [], []
        for age in (0, AGE):
            folder = tmp_path / str(age)
            folder.mkdir()
            up, upstreams = stack.enter_context(proxied(folder, age))
            ups.append(up)
            plays += [pool.submit(played, case, age, up, upstreams) for case in CASES]
        failures = [failure for play in plays if (failure := play.result())]
        assert not failures, "\n".join(failures)
        calls = len(CASES) + 1  # another_stream_goes_on has two
        wait_until(
            lambda: all(len(up.calls()) == calls for up in ups), "a line in the log for each"
        )
        assert {call["code"] for up in ups for call in up.calls()} == {None}


def played(case: Case, age: int, up: ThruwayUp, upstreams: dict[str, socket.socket]) -> str:
    """Play a case; return what went wrong."""
    try:
        with Call(case, up.port, upstreams[case.id]) as call:
            case.play(call)
    except Exception as error:  # noqa: BLE001 - all that fail are reported together
        return f"{case.id}, age {age}: {error!r}"
    return ""


# Peers that are dead


def die(end: End) -> None:
    """Make a peer's kernel drop all that arrives, as if its machine were gone (BPF: `ret 0`)."""
    if isinstance(end, H2End):
        end.peer.settle()  # data that is under way would be retransmitted first
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    filtering = struct.pack("HL", 1, ctypes.addressof(program))
    end.wire.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)


def test_a_dead_peer_is_noticed_while_nothing_is_sent(tmp_path: Path) -> None:
    both = [(client, up) for client in ("1.1", "2") for up in ("1.1", "2")]
    # Two routes, so that no two calls share a connection of HTTP/2.
    clients = [Case(response_pauses, *versions) for versions in both]
    servers = [Case(upstream_does_not_answer, *versions) for versions in both]
    with contextlib.ExitStack() as stack:
        up, upstreams = stack.enter_context(proxied(tmp_path, 0, factor=20))
        calls = {}
        for case in (*clients, *servers):
            calls[case] = call = stack.enter_context(Call(case, up.port, upstreams[case.id]))
            call.request(body=False)
            die(call.client if case in clients else call.upstream)
        for case in clients:
            up.wait_for_call(route=f"default/{case.id}", code="client_closed")
        for case in servers:
            up.wait_for_call(route=f"default/{case.id}", code="upstream_reset")
            with pytest.raises(AssertionError, match="502"):
                calls[case].receive_head()
