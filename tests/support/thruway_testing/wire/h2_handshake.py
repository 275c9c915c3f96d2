"""WebSocket handshakes by HTTP/2: extended CONNECT (RFC 8441)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from thruway_testing.wire.rawhttp import Reply, Version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from h2.events import Event

    from thruway_testing.wire.rawhttp import Headers

__all__ = ["shake_hands"]

_DEADLINE = 20.0


def shake_hands(port: int, path: str, headers: Headers = (), host: str = "localhost") -> Reply:
    """Send a handshake over a connection of its own.

    An accepted one (2xx) is over with its headers, any other with the end of its body.
    """
    pseudo = (
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", host.encode()),
        (b"sec-websocket-version", b"13"),
    )
    with socket.create_connection(("127.0.0.1", port), timeout=_DEADLINE) as sock:
        h2 = H2Connection(config=H2Configuration(header_encoding=None))
        h2.initiate_connection()
        h2.send_headers(1, [*pseudo, *headers])
        sock.sendall(h2.data_to_send())
        status, body = 0, b""
        found: Headers = ()
        for event in _events(sock, h2):
            if isinstance(event, ResponseReceived):
                fields = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
                status = int(dict(fields)[b":status"])
                found = tuple(pair for pair in fields if not pair[0].startswith(b":"))
            if isinstance(event, DataReceived):
                body += event.data or b""
            if isinstance(event, StreamEnded | StreamReset) or 200 <= status < 300:
                break
    return Reply(Version.HTTP2, status, b"", found, body)


def _events(sock: socket.socket, h2: H2Connection) -> Iterator[Event]:
    while data := sock.recv(65536):
        yield from h2.receive_data(data)
        sock.sendall(h2.data_to_send())
