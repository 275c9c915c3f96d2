"""Both ends of one call by HTTP/1.1, HTTP/2 or WebSocket, each of which can stop reading at will.

An end is a socket that a test drives by hand: nothing reads or writes behind its back, so that a
pause is one. `fill` writes until every buffer between the two ends is full. Payloads are numbered
blocks; `Digest` tells whether all of them arrived, in order and once.
"""

from __future__ import annotations

import hashlib
import select
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, PingAckReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from thruway_testing.wire.rawhttp import DEADLINE, Wire, WireError

if TYPE_CHECKING:
    from h2.events import Event

__all__ = ["BLOCK", "Digest", "End", "H2End", "H2Peer", "Http1End", "WebSocketEnd", "transfer"]

BLOCK = 16_000
_QUIET = 0.5
"""Seconds without a byte of progress after which buffers count as full."""
_GOAWAY = 7
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Digest:
    """What has passed one end: the number of bytes, and their hash."""

    length: int = 0
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, data: bytes) -> None:
        """Count these bytes."""
        self.length += len(data)
        self._hash.update(data)

    @property
    def value(self) -> tuple[int, str]:
        """What must be equal at both ends."""
        return self.length, self._hash.hexdigest()


class End(Protocol):
    """One end of a call, behind its headers."""

    wire: Wire
    sent: Digest
    received: Digest

    def write(self, count: int) -> None:
        """Send so many blocks, waiting as long as that takes."""

    def fill(self) -> None:
        """Send blocks until no more fit into the buffers on the way."""

    def finish(self) -> None:
        """End the message that this end sends."""

    def drain(self) -> None:
        """Read the message that the other end sends, until its end."""


def transfer(sender: End, receiver: End) -> None:
    """Finish a message whose receiver now reads, and compare what both ends saw."""
    failures: list[BaseException] = []

    def finish() -> None:
        try:
            sender.finish()
        except (OSError, WireError) as error:
            failures.append(error)

    thread = threading.Thread(target=finish)
    thread.start()
    try:
        receiver.drain()
    finally:
        thread.join(DEADLINE)
    assert not failures, failures
    assert receiver.received.value == sender.sent.value


def _block(number: int) -> bytes:
    return b"%08d" % number * (BLOCK // 8)


class _Bytes:
    """An end whose blocks are framed one by one; a block may be under way in part."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.sent = Digest()
        self.received = Digest()
        self._number = 0

    def _framed(self, data: bytes) -> bytes:
        raise NotImplementedError

    def _next(self) -> bytes:
        data = _block(self._number)
        self._number += 1
        self.sent.add(data)
        return self._framed(data)

    def write(self, count: int) -> None:
        for _ in range(count):
            self.wire.send(self._next())

    def fill(self) -> None:
        sock = self.wire.socket
        left = b""
        while select.select([], [sock], [], _QUIET)[1]:
            left = left or self._next()
            left = left[sock.send(left, socket.MSG_DONTWAIT) :]
        self._left = left

    _left = b""

    def _flush(self) -> None:
        self.wire.send(self._left)
        self._left = b""


class Http1End(_Bytes):
    """An end of HTTP/1.1 whose body is chunked."""

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data)

    def finish(self) -> None:
        self._flush()
        self.wire.send(b"0\r\n\r\n")

    def drain(self) -> None:
        while size := int(self.wire.line(), 16):
            self.received.add(self.wire.exactly(size))
            self.wire.line()
        self.wire.line()

    def head(self) -> bytes:
        """Read a request's or a response's head; return its first line."""
        first = self.wire.line()
        while self.wire.line():
            pass
        return first


class WebSocketEnd(Http1End):
    """An end of a WebSocket; only clients mask, here with zeros."""

    def __init__(self, wire: Wire, *, client: bool) -> None:
        super().__init__(wire)
        self._client = client

    def _framed(self, data: bytes) -> bytes:
        if self._client:
            return b"\x82\xfe%s\0\0\0\0%s" % (len(data).to_bytes(2, "big"), data)
        return b"\x82\x7e%s%s" % (len(data).to_bytes(2, "big"), data)

    def finish(self) -> None:
        self._flush()
        self.wire.send(b"\x88\x80\0\0\0\0" if self._client else b"\x88\0")

    def drain(self) -> None:
        masked = not self._client
        while self.wire.exactly(2)[0] == 0x82:
            size = int.from_bytes(self.wire.exactly(2), "big")
            if masked:
                self.wire.exactly(4)
            self.received.add(self.wire.exactly(size))
        if masked:
            self.wire.exactly(4)


def _size(frame: bytearray) -> int:
    return int.from_bytes(frame[:3], "big")


class H2Peer:
    """A connection of HTTP/2 whose streams are driven one at a time."""

    def __init__(self, wire: Wire, *, client: bool, window: int = 1 << 24) -> None:
        self.wire = wire
        config = H2Configuration(client_side=client, header_encoding=None)
        self.h2 = H2Connection(config)
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.increment_flow_control_window(1 << 24)
        self.events: list[Event] = []
        self._raw = bytearray()
        self._preface = 0 if client else len(_PREFACE)
        self.flush()

    def flush(self) -> None:
        """Send what the library has to send."""
        if data := self.h2.data_to_send():
            self.wire.send(data)

    def read(self) -> None:
        """Wait for something to arrive, and handle it."""
        data = self.wire.some()
        if not data:
            raise WireError("the connection was closed")
        self._raw += data
        self.events += self.h2.receive_data(self._frames())
        self.flush()

    def _frames(self) -> bytes:
        """Take the complete frames, without GOAWAY frames that let open streams go on.

        The library would take those for the end of the connection (RFC 9113, 6.8).
        """
        if self._preface and len(self._raw) < self._preface:
            return b""
        taken = bytes(self._raw[: self._preface])
        del self._raw[: self._preface]
        self._preface = 0
        while len(self._raw) >= 9 and len(self._raw) >= 9 + _size(self._raw):
            frame = bytes(self._raw[: 9 + _size(self._raw)])
            del self._raw[: len(frame)]
            if frame[3] != _GOAWAY:
                taken += frame
            elif any(frame[13:17]):
                raise WireError(f"GOAWAY with error {frame[13:17]!r}")
        return taken

    def settle(self) -> None:
        """Return when the other side has handled all frames and has sent its own."""
        self.h2.ping(b"settling")
        self.flush()
        self.wait(None, PingAckReceived)

    def wait(self, stream: int | None, *kinds: type[Event]) -> Event:
        """Return the next event of these kinds, of this stream or of any, and forget it."""
        while True:
            for event in self.events:
                if stream not in (None, getattr(event, "stream_id", None)):
                    continue
                if isinstance(event, StreamReset):
                    raise WireError(f"the stream was reset ({event.error_code})")
                if isinstance(event, kinds):
                    self.events.remove(event)
                    return event
            self.read()


class H2End:
    """A stream of HTTP/2."""

    def __init__(self, peer: H2Peer, stream: int) -> None:
        self.peer = peer
        self.wire = peer.wire
        self.stream = stream
        self.sent = Digest()
        self.received = Digest()
        self._number = 0

    def _room(self) -> bool:
        return self.peer.h2.local_flow_control_window(self.stream) >= BLOCK

    def write(self, count: int) -> None:
        for _ in range(count):
            while not self._room():
                self.peer.read()
            data = _block(self._number)
            self._number += 1
            self.sent.add(data)
            self.peer.h2.send_data(self.stream, data)
            self.peer.flush()

    def fill(self) -> None:
        # Envoy has room for less than what sockets take, so that a flush does not block.
        sock = self.wire.socket
        while True:
            while self._room():
                self.write(1)
            if not select.select([sock], [], [], _QUIET)[0]:
                return
            self.peer.read()

    def finish(self) -> None:
        self.peer.h2.end_stream(self.stream)
        self.peer.flush()

    def receive(self, count: int) -> None:
        """Read so many blocks."""
        wanted = self.received.length + count * BLOCK
        while self.received.length < wanted:
            self._take(self.peer.wait(self.stream, DataReceived))

    def drain(self) -> None:
        while not isinstance(
            event := self.peer.wait(self.stream, DataReceived, StreamEnded), StreamEnded
        ):
            self._take(event)

    def _take(self, event: Event) -> None:
        assert isinstance(event, DataReceived)
        self.received.add(event.data)
        size = event.flow_controlled_length or 0
        if size:
            self.peer.h2.acknowledge_received_data(size, self.stream)
            self.peer.flush()
