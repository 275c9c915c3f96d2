"""HTTP as bytes: what is sent and what has arrived, without a library's opinion in between.

`Request` and `Answer` say what to send, down to the framing; `Received` and `Reply` are what the
other end saw. Header names and values are the bytes of the wire. HTTP/1 is written and read here;
HTTP/2 in `rawhttp_h2`.
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

__all__ = [
    "DEADLINE",
    "Answer",
    "Framing",
    "Headers",
    "Interim",
    "Received",
    "Reply",
    "Request",
    "Version",
    "Wire",
    "WireError",
    "answer_bytes",
    "interim_bytes",
    "read_reply",
    "read_request",
    "request_head",
    "request_pieces",
    "values",
]

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

DEADLINE = 20.0
"""Seconds that one read may take before the peer counts as hung."""


class WireError(Exception):
    """The peer closed too early, or what it sent is not HTTP."""


class Version(StrEnum):
    """A version of HTTP; HTTP/2 is in plain text with prior knowledge."""

    HTTP10 = "1.0"
    HTTP11 = "1.1"
    HTTP2 = "2"


class Framing(StrEnum):
    """How the end of a body is told. In HTTP/2, LENGTH is a Content-Length beside its frames."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Request:
    """A request; `target` is path and query below the upstream's root, such as `/v1/models?a`."""

    method: bytes = b"GET"
    target: bytes = b"/v1/models"
    headers: Headers = ()
    framing: Framing = Framing.NONE
    body: tuple[bytes, ...] = ()
    """The body in the pieces in which it is sent; with CHUNKED each is a chunk."""
    trailers: Headers = ()
    version: Version = Version.HTTP11
    absolute: bool = False
    """Whether the target is sent in absolute form, `http://host/path`."""
    extension: bytes = b""
    """What follows the size of each chunk, such as `;a=b`."""

    @property
    def expects(self) -> bool:
        """Whether the body is held back until the answer has begun."""
        return any(v.lower() == b"100-continue" for v in values(self.headers, b"expect"))


@dataclass(frozen=True, slots=True)
class Interim:
    """An answer before the answer: 100, 102, 103."""

    status: int
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the upstream answers."""

    status: int = 200
    headers: Headers = ()
    framing: Framing = Framing.LENGTH
    body: tuple[bytes, ...] = ()
    trailers: Headers = ()
    interim: tuple[Interim, ...] = ()
    reason: bytes = b"OK"
    version: Version = Version.HTTP11
    extension: bytes = b""


@dataclass(frozen=True, slots=True)
class Received:
    """A request as the upstream saw it. `host` is Host or `:authority`, taken out of `headers`."""

    version: Version
    method: bytes
    target: bytes
    host: bytes | None
    headers: Headers
    body: bytes = b""
    trailers: Headers = ()
    head: bytes = b""
    """HTTP/1: the request line and the headers as they came."""
    chunks: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as the client saw it."""

    version: Version
    status: int
    reason: bytes
    headers: Headers
    body: bytes = b""
    trailers: Headers = ()
    interim: tuple[Interim, ...] = ()
    head: bytes = b""
    """HTTP/1: the status line and the headers as they came."""


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of a header, `name` in lower case."""
    return [value for key, value in headers if key.lower() == name]


# Writing HTTP/1


def request_head(request: Request, prefix: bytes, host: bytes | None) -> bytes:
    """Return request line and headers; `prefix` is the route's path, `host` None sends no Host."""
    target = prefix + request.target
    if request.absolute:
        target = b"http://" + (host or b"localhost") + target
    lines = [b"%s %s HTTP/%s" % (request.method, target, request.version.encode())]
    if host is not None:
        lines.append(b"Host: " + host)
    lines += _lines(request.headers)
    return _head(lines, request.framing, sum(map(len, request.body)))


def request_pieces(request: Request) -> Iterable[bytes]:
    """Yield the body with its framing, in the pieces in which it is sent."""
    yield from _pieces(request.framing, request.body, request.extension, request.trailers)


def interim_bytes(interim: Interim) -> bytes:
    """Return an interim answer."""
    return _head([b"HTTP/1.1 %d Interim" % interim.status, *_lines(interim.headers)])


def answer_bytes(answer: Answer, *, bodiless: bool) -> bytes:
    """Return the final answer; `bodiless`: headers alone, as for HEAD."""
    line = b"HTTP/%s %d %s" % (answer.version.encode(), answer.status, answer.reason)
    head = _head(
        [line, *_lines(answer.headers)],
        answer.framing,
        sum(map(len, answer.body)),
    )
    if bodiless:
        return head
    return head + b"".join(_pieces(answer.framing, answer.body, answer.extension, answer.trailers))


def _lines(headers: Headers) -> list[bytes]:
    return [b"%s: %s" % pair for pair in headers]


def _head(lines: list[bytes], framing: Framing = Framing.NONE, length: int = 0) -> bytes:
    if framing is Framing.LENGTH:
        lines = [*lines, b"Content-Length: %d" % length]
    elif framing is Framing.CHUNKED:
        lines = [*lines, b"Transfer-Encoding: chunked"]
    return b"\r\n".join([*lines, b"", b""])


def _pieces(
    framing: Framing, body: tuple[bytes, ...], extension: bytes, trailers: Headers
) -> Iterable[bytes]:
    if framing is not Framing.CHUNKED:
        yield from body
        return
    for piece in body:
        if piece:
            yield b"%x%s\r\n%s\r\n" % (len(piece), extension, piece)
    yield b"\r\n".join([b"0" + extension, *_lines(trailers), b"", b""])


# Reading HTTP/1


class Wire:
    """A blocking socket that is read by lines, by counts and to its end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(DEADLINE)
        self.socket = sock
        self._buffer = bytearray()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def peek(self, count: int) -> bytes:
        """Return the next bytes without taking them; fewer at the end."""
        while len(self._buffer) < count and self._fill():
            pass
        return bytes(self._buffer[:count])

    def exactly(self, count: int) -> bytes:
        """Take so many bytes."""
        while len(self._buffer) < count:
            if not self._fill():
                raise WireError(f"closed within a body: {bytes(self._buffer)[:200]!r}")
        return self._take(count)

    def line(self) -> bytes:
        """Take one line, without its CRLF."""
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._fill():
                raise WireError(f"closed within a line: {bytes(self._buffer)[:200]!r}")
        line = self._take(end + 1)
        if not line.endswith(b"\r\n"):
            raise WireError(f"a line without CR: {line[:200]!r}")
        return line[:-2]

    def rest(self) -> bytes:
        """Take everything until the peer closes."""
        while self._fill():
            pass
        return self._take(len(self._buffer))

    def some(self) -> bytes:
        """Take what is there, at least a byte; empty at the end."""
        if not self._buffer:
            self._fill()
        return self._take(len(self._buffer))

    def waiting(self) -> bool:
        """Tell whether there is something to read, be it the end."""
        return bool(self._buffer) or bool(select.select([self.socket], [], [], 0)[0])

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def _fill(self) -> bool:
        data = self.socket.recv(65536)
        self._buffer += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def read_request(wire: Wire) -> tuple[Received, bool]:
    """Read request line and headers; also tell whether the connection is to be kept."""
    line, headers, head = _read_head(wire)
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rpartition(b" HTTP/")
    connection = b",".join(values(headers, b"connection")).lower()
    keep = b"close" not in connection and version == b"1.1"
    hosts = values(headers, b"host")
    if len(hosts) > 1:
        raise WireError(f"more than one Host: {head!r}")
    headers = tuple(pair for pair in headers if pair[0].lower() != b"host")
    host = hosts[0] if hosts else None
    received = Received(Version(version.decode()), method, target, host, headers, head=head)
    return received, keep


def read_body(wire: Wire, headers: Headers) -> tuple[tuple[bytes, ...], Headers]:
    """Read the body of a request with these headers: its pieces, and its trailers."""
    if values(headers, b"transfer-encoding"):
        return _read_chunks(wire)
    lengths = set(values(headers, b"content-length"))
    if len(lengths) > 1:
        raise WireError(f"lengths that disagree: {lengths}")
    return ((wire.exactly(int(lengths.pop())),) if lengths else ()), ()


def read_reply(wire: Wire, method: bytes) -> tuple[Reply, bool]:
    """Read one message; also tell whether the connection is over with it."""
    line, headers, head = _read_head(wire)
    version, _, rest = line.partition(b" ")
    status, _, reason = rest.partition(b" ")
    reply = Reply(Version(version[5:].decode()), int(status), reason, headers, head=head)
    if reply.status < 200:
        return reply, False
    connection = b",".join(values(headers, b"connection")).lower()
    last = b"close" in connection or (version == b"HTTP/1.0" and b"keep-alive" not in connection)
    trailers: Headers = ()
    if method == b"HEAD" or reply.status in (204, 304):
        body = b""
        # An upstream that ends its answers by closing does so here too, and does not say it.
        framed = {b"content-length", b"transfer-encoding"} & {name.lower() for name, _ in headers}
        last = last or (method == b"HEAD" and not framed)
    elif values(headers, b"transfer-encoding"):
        chunks, trailers = _read_chunks(wire)
        body = b"".join(chunks)
    elif lengths := set(values(headers, b"content-length")):
        body = wire.exactly(int(lengths.pop()))
    else:
        body, last = wire.rest(), True
    reply = Reply(reply.version, reply.status, reason, headers, body, trailers, head=head)
    return reply, last


def _read_head(wire: Wire) -> tuple[bytes, Headers, bytes]:
    lines = [wire.line()]
    while line := wire.line():
        lines.append(line)
    return lines[0], _parsed(lines[1:]), b"\r\n".join(lines)


def _read_chunks(wire: Wire) -> tuple[tuple[bytes, ...], Headers]:
    chunks: list[bytes] = []
    while size := int(wire.line().partition(b";")[0], 16):
        chunks.append(wire.exactly(size))
        if wire.line():
            raise WireError("a chunk that is longer than its size")
    trailers: list[bytes] = []
    while line := wire.line():
        trailers.append(line)
    return tuple(chunks), _parsed(trailers)


def _parsed(lines: list[bytes]) -> Headers:
    pairs = [line.partition(b":") for line in lines]
    return tuple((name, value.strip(b" \t")) for name, _, value in pairs)
