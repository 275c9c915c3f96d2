"""An upstream that records exactly what it received and answers exactly what a test tells it to.

    with RawUpstream() as upstream:
        upstream.answer_with(Answer(204, (), Framing.NONE))
        ...
        [received] = upstream.take()

It speaks HTTP/1.0, HTTP/1.1 and HTTP/2 with prior knowledge on one port.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from thruway_testing.wire.rawhttp import (
    DEADLINE,
    Answer,
    Framing,
    Received,
    Wire,
    WireError,
    answer_bytes,
    interim_bytes,
    read_body,
    read_request,
    values,
)
from thruway_testing.wire.rawhttp_h2 import serve_h2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["RawUpstream"]

_H2_PREFACE = b"PRI * HTTP/2.0\r\n"


class RawUpstream:
    """The server, on 127.0.0.1. A thread for each connection."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._condition = threading.Condition()
        self._answers: deque[Answer] = deque()
        self._received: list[Received] = []
        self._problems: list[str] = []
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False

    @property
    def url(self) -> str:
        """Scheme and authority."""
        return f"http://127.0.0.1:{self.port}"

    def answer_with(self, *answers: Answer) -> None:
        """Answer the next requests so, in this order; forget what was to be answered before."""
        with self._condition:
            self._answers = deque(answers)
            self._received.clear()
            self._problems.clear()

    def take(self, count: int = 1) -> Sequence[Received]:
        """Return the requests since `answer_with`, once so many are there."""
        with self._condition:
            there = self._condition.wait_for(
                lambda: len(self._received) >= count or self._problems, DEADLINE
            )
            assert not self._problems, self._problems
            assert there, f"waited in vain for {count} requests: {self._received}"
            received, self._received = self._received, []
            return received

    def received_nothing(self) -> bool:
        """Tell whether no request has come since `answer_with`."""
        with self._condition:
            return not self._received and not self._problems

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._condition:
            open_sockets = list(self._sockets)
        for sock in open_sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._accepting.join(DEADLINE)
        for thread in self._threads:
            thread.join(DEADLINE)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            thread = threading.Thread(target=self._connection, args=(sock,), daemon=True)
            self._threads.append(thread)
            with self._condition:
                self._sockets.add(sock)
            thread.start()

    def _connection(self, sock: socket.socket) -> None:
        wire = Wire(sock)
        sock.settimeout(None)  # a kept connection may idle for as long as the tests go on
        try:
            if wire.peek(len(_H2_PREFACE)) == _H2_PREFACE:
                serve_h2(wire, self._next_answer, self._record)
            else:
                while self._exchange(wire):
                    pass
        except (WireError, ValueError, KeyError) as error:
            if not self._closing:
                with self._condition:
                    self._problems.append(f"{type(error).__name__}: {error}")
                    self._condition.notify_all()
        except OSError:
            pass  # the peer has reset the connection
        finally:
            with self._condition:
                self._sockets.discard(sock)
            sock.close()

    def _exchange(self, wire: Wire) -> bool:
        if not wire.peek(1):
            return False
        received, keep = read_request(wire)
        answer = self._next_answer(received)
        expects = bool(values(received.headers, b"expect")) and received.version == "1.1"
        interim = list(answer.interim)
        if expects:
            early = [item for item in interim if item.status == 100]
            if not early and _has_body(received):
                self._record(received)
                wire.send(_final(answer, received))
                return False
            interim = [item for item in interim if item.status != 100]
            wire.send(b"".join(map(interim_bytes, early)))
        chunks, trailers = read_body(wire, received.headers)
        self._record(replace(received, body=b"".join(chunks), chunks=chunks, trailers=trailers))
        wire.send(b"".join(map(interim_bytes, interim)) + _final(answer, received))
        ends = answer.framing is Framing.CLOSE or answer.version == "1.0"
        asked = b"close" in b",".join(values(answer.headers, b"connection")).lower()
        return keep and not ends and not asked

    def _next_answer(self, received: Received) -> Answer:
        with self._condition:
            if not self._answers:
                raise WireError(f"a request that no test has announced: {received}")
            return self._answers.popleft()

    def _record(self, received: Received) -> None:
        with self._condition:
            self._received.append(received)
            self._condition.notify_all()


def _has_body(received: Received) -> bool:
    lengths = values(received.headers, b"content-length")
    chunked = bool(values(received.headers, b"transfer-encoding"))
    return chunked or any(int(length) for length in lengths)


def _final(answer: Answer, received: Received) -> bytes:
    bodiless = received.method == b"HEAD" or answer.status in (204, 304)
    return answer_bytes(answer, bodiless=bodiless)
