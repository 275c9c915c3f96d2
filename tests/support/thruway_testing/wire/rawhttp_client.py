"""A client that sends a `Request` as it stands, over connections that it keeps."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from thruway_testing.wire.rawhttp import (
    DEADLINE,
    Interim,
    Reply,
    Request,
    Version,
    Wire,
    WireError,
    read_reply,
    request_head,
    request_pieces,
    values,
)
from thruway_testing.wire.rawhttp_h2 import H2Client

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["RawClient"]


class RawClient:
    """Sends requests to 127.0.0.1:`port`, below `prefix`, with `host` as Host."""

    def __init__(self, port: int, prefix: str = "", host: str = "") -> None:
        self._port = port
        self._prefix = prefix.encode()
        self._host = (host or f"127.0.0.1:{port}").encode()
        self._http1: Wire | None = None
        self._http2: tuple[Wire, H2Client] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections."""
        for wire in (self._http1, self._http2[0] if self._http2 else None):
            if wire:
                wire.close()
        self._http1 = self._http2 = None

    def connect(self) -> Wire:
        """Return a new connection, which is the caller's."""
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Wire(sock)

    def exchange(self, request: Request) -> Reply:
        """Send a request and return its answer.

        Raises:
            WireError: the connection ended before the answer did.
        """
        try:
            if request.version is Version.HTTP2:
                return self._exchange_h2(request)
            return self._exchange_h1(request)
        except (WireError, OSError):
            self.close()
            raise

    def send_raw(self, data: bytes, *methods: bytes) -> list[Reply]:
        """Send bytes over a new connection; return the answers to requests of these methods."""
        wire = self.connect()
        try:
            wire.send(data)
            return [_whole_reply(wire, method)[0] for method in methods]
        finally:
            wire.close()

    def _exchange_h2(self, request: Request) -> Reply:
        if self._http2 and not self._http2[1].is_alive():
            self.close()
        if self._http2 is None:
            wire = self.connect()
            self._http2 = wire, H2Client(wire)
        return self._http2[1].exchange(request, self._prefix, self._host)

    def _exchange_h1(self, request: Request) -> Reply:
        if self._http1 and self._http1.waiting():  # the peer has closed it
            self.close()
        if self._http1 is None:
            self._http1 = self.connect()
        wire = self._http1
        host = None if request.version is Version.HTTP10 else self._host
        head = request_head(request, self._prefix, host)
        if not request.expects:
            wire.send(head + b"".join(request_pieces(request)))
            reply, last = _whole_reply(wire, request.method)
        else:
            wire.send(head)
            reply, last = _reply_after_expecting(wire, request)
        asked = b"close" in b",".join(values(request.headers, b"connection")).lower()
        if last or asked or request.version is Version.HTTP10:
            wire.close()
            self._http1 = None
        return reply


def _reply_after_expecting(wire: Wire, request: Request) -> tuple[Reply, bool]:
    first, last = read_reply(wire, request.method)
    if first.status >= 200:
        return first, True  # the body is not wanted; this connection is of no use any more
    wire.send(b"".join(request_pieces(request)))
    reply, last = _whole_reply(wire, request.method)
    return replace(reply, interim=(Interim(first.status, first.headers), *reply.interim)), last


def _whole_reply(wire: Wire, method: bytes) -> tuple[Reply, bool]:
    interim: list[Interim] = []
    while True:
        reply, last = read_reply(wire, method)
        if reply.status >= 200 or reply.status == 101:
            return replace(reply, interim=tuple(interim)), last
        interim.append(Interim(reply.status, reply.headers))
