"""Upstreams that behave as none should: what a connection gets is up to the test, byte by byte.

    with RudeUpstream(reset_after_request) as upstream:
        ...  # a request to upstream.port
        assert upstream.received == []

A thread for each connection; `behave` has the socket to itself.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

__all__ = [
    "Peer",
    "RudeUpstream",
    "answer",
    "answer_of",
    "close_after_request",
    "deaf_port",
    "refusing_port",
    "reset_after_request",
    "say",
    "say_and_reset",
    "say_and_wait",
    "say_at_once",
    "wait",
]

_DEADLINE = 20.0


class Peer:
    """A connection as a behaviour sees it."""

    def __init__(self, sock: socket.socket, upstream: RudeUpstream) -> None:
        self.socket = sock
        self.upstream = upstream

    def read_head(self) -> bytes:
        """Return what has come up to the end of the headers; less when the client closes."""
        head = b""
        while b"\r\n\r\n" not in head and (data := self.socket.recv(65536)):
            head += data
        self.upstream.record(head)
        return head

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_for_end(self) -> None:
        """Wait until the client has gone."""
        while self.socket.recv(65536):
            pass


class RudeUpstream:
    """The server, on 127.0.0.1; with `tls` it speaks TLS."""

    def __init__(
        self, behave: Callable[[Peer], None], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._behave = behave
        self._tls = tls
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.release = threading.Event()
        self._received: list[bytes] = []
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    @property
    def received(self) -> list[bytes]:
        """The heads of the requests so far: request line and headers."""
        with self._lock:
            return list(self._received)

    @property
    def connections(self) -> int:
        """How many are open."""
        with self._lock:
            return len(self._sockets)

    def forget(self) -> None:
        """Forget what was received."""
        with self._lock:
            self._received.clear()

    def record(self, head: bytes) -> None:
        """Remember a head."""
        if head:
            with self._lock:
                self._received.append(head)

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._accepting.join(_DEADLINE)
        self.release.set()
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_DEADLINE)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._connection, args=(sock,), daemon=True)
            self._threads.append(thread)
            with self._lock:
                self._sockets.add(sock)
            thread.start()

    def _connection(self, plain: socket.socket) -> None:
        sock = plain
        # A client that does not like the certificate, or that has had enough, is what tests want.
        with contextlib.suppress(OSError):
            if self._tls:
                sock = self._tls.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._sockets = self._sockets - {plain} | {sock}
            self._behave(Peer(sock, self))
        with self._lock:
            self._sockets -= {plain, sock}
        plain.close()
        sock.close()


# Behaviours


def reset_after_request(peer: Peer) -> None:
    """Reset when the headers are there."""
    peer.read_head()
    peer.reset()


def close_after_request(peer: Peer) -> None:
    """Close in order when the headers are there."""
    peer.read_head()


def wait(peer: Peer) -> None:
    """Take the request and say nothing."""
    peer.read_head()
    peer.wait_for_end()


def say_at_once(text: bytes) -> Callable[[Peer], None]:
    """Answer this to the first bytes, whatever they are, and close."""

    def behave(peer: Peer) -> None:
        peer.socket.recv(65536)
        peer.send(text)

    return behave


def say(text: bytes) -> Callable[[Peer], None]:
    """Answer this, and close."""

    def behave(peer: Peer) -> None:
        peer.read_head()
        peer.send(text)

    return behave


def say_and_reset(text: bytes) -> Callable[[Peer], None]:
    """Answer this, wait for `release`, and reset."""

    def behave(peer: Peer) -> None:
        peer.read_head()
        peer.send(text)
        peer.upstream.release.wait()
        peer.reset()

    return behave


def say_and_wait(text: bytes) -> Callable[[Peer], None]:
    """Answer this, and nothing more."""

    def behave(peer: Peer) -> None:
        peer.read_head()
        peer.send(text)
        peer.wait_for_end()

    return behave


def answer_of(body: bytes, headers: bytes = b"") -> bytes:
    """Return a whole answer."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
    return head % (headers, len(body)) + body


def answer(peer: Peer) -> None:
    """Answer as upstreams should: one request, and close."""
    peer.read_head()
    peer.send(answer_of(b"{}", b"Connection: close\r\n"))


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port on which connections are neither accepted nor refused: its queue is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]
