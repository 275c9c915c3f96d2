"""HTTP/2 in plain text with prior knowledge, both ends, one stream after the other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from thruway_testing.wire.rawhttp import (
    Answer,
    Framing,
    Headers,
    Interim,
    Received,
    Reply,
    Request,
    Version,
    Wire,
    WireError,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["H2Client", "serve_h2"]

Pairs = list[tuple[bytes, bytes]]


class _Peer:
    """A connection whose library neither checks nor changes headers, and its socket."""

    def __init__(self, wire: Wire, *, client: bool) -> None:
        self.wire = wire
        self.h2 = H2Connection(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_inbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.initiate_connection()
        # Room for every body that tests send, so that nobody waits for nobody.
        self.h2.increment_flow_control_window(1 << 24)
        self.flush()
        self._events: list[Event] = []

    def flush(self) -> None:
        """Send what the library has to say."""
        if data := self.h2.data_to_send():
            self.wire.send(data)

    def next_event(self) -> Event | None:
        """Return the next event; None when the peer has closed."""
        while not self._events:
            data = self.wire.some()
            if not data:
                return None
            self._events += self.h2.receive_data(data)
            self.flush()
        event = self._events.pop(0)
        if isinstance(event, DataReceived) and event.flow_controlled_length:
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.flush()
        return event

    def catch_up(self) -> bool:
        """Handle what has come, without waiting; tell whether the connection goes on."""
        while self.wire.waiting():
            data = self.wire.some()
            if not data:
                return False
            self._events += self.h2.receive_data(data)
            self.flush()
        return not any(isinstance(event, ConnectionTerminated) for event in self._events)

    def send_body(self, stream: int, body: tuple[bytes, ...], trailers: Headers) -> None:
        """Send the body and the end of the stream, which is told with the last frame that has one.

        Not in a frame of its own: Envoy resets the stream, and cuts the answer that it still holds,
        if the end of the answer has come before the end of the request.
        """
        view = memoryview(b"".join(body))
        while view:
            size = min(self.h2.local_flow_control_window(stream), 16384, len(view))
            if size <= 0:
                self._events += self.h2.receive_data(self.wire.some())
                continue
            last = size == len(view) and not trailers
            self.h2.send_data(stream, bytes(view[:size]), end_stream=last)
            self.flush()
            view = view[size:]
        if trailers:
            self.h2.send_headers(stream, list(trailers), end_stream=True)
            self.flush()


def _with_length(headers: Headers, framing: Framing, body: tuple[bytes, ...]) -> Pairs:
    length = [(b"content-length", b"%d" % sum(map(len, body)))]
    return [*headers, *(length if framing is Framing.LENGTH else [])]


class H2Client:
    """A client connection."""

    def __init__(self, wire: Wire) -> None:
        self._peer = _Peer(wire, client=True)

    def is_alive(self) -> bool:
        """Answer what has come meanwhile (Envoy pings); tell whether the connection goes on."""
        return self._peer.catch_up()

    def exchange(self, request: Request, prefix: bytes, host: bytes) -> Reply:
        """Send a request and return its answer.

        Raises:
            WireError: the stream was reset, or the connection closed.
        """
        peer = self._peer
        stream = peer.h2.get_next_available_stream_id()
        pseudo = [
            (b":method", request.method),
            (b":scheme", b"http"),
            (b":authority", host),
            (b":path", prefix + request.target),
        ]
        headers = pseudo + _with_length(request.headers, request.framing, request.body)
        bare = not any(request.body) and not request.trailers
        peer.h2.send_headers(stream, headers, end_stream=bare)
        peer.flush()
        events = self._events(stream)
        interim: list[Interim] = []
        reply: Reply | None = None
        waits = request.expects and not bare
        if not bare and not waits:
            peer.send_body(stream, request.body, request.trailers)
        body, trailers = bytearray(), Headers()
        for event in events:
            if isinstance(event, InformationalResponseReceived):
                status, fields = _status(event.headers)
                interim.append(Interim(status, fields))
            elif isinstance(event, ResponseReceived):
                status, fields = _status(event.headers)
                reply = Reply(Version.HTTP2, status, b"", fields)
            elif isinstance(event, DataReceived):
                body += event.data
            elif isinstance(event, TrailersReceived):
                trailers = tuple(event.headers)
            if waits and interim:
                waits = False
                peer.send_body(stream, request.body, request.trailers)
        if waits:  # the final answer came first: the body is not wanted
            with contextlib.suppress(ProtocolError):  # or the peer has reset it already
                peer.h2.reset_stream(stream)
            peer.flush()
        if reply is None:
            raise WireError("a stream without an answer")
        return Reply(
            Version.HTTP2, reply.status, b"", reply.headers, bytes(body), trailers, tuple(interim)
        )

    def _events(self, stream: int) -> Iterator[Event]:
        while (event := self._peer.next_event()) is not None:
            if getattr(event, "stream_id", None) != stream:
                continue
            if isinstance(event, StreamReset):
                raise WireError(f"the stream was reset ({event.error_code})")
            if isinstance(event, StreamEnded):
                return
            yield event
        raise WireError("the connection was closed within a stream")


def _status(headers: Pairs) -> tuple[int, Headers]:
    fields = tuple((bytes(name), bytes(value)) for name, value in headers)
    (status,) = values(fields, b":status")
    return int(status), tuple(pair for pair in fields if not pair[0].startswith(b":"))


def serve_h2(
    wire: Wire,
    next_answer: Callable[[Received], Answer],
    record: Callable[[Received], None],
) -> None:
    """Serve a connection until its end, one stream after the other."""
    peer = _Peer(wire, client=False)
    open_streams: dict[int, tuple[Received, Answer, bytearray, list[Headers]]] = {}
    while (event := peer.next_event()) is not None:
        stream = getattr(event, "stream_id", 0) or 0
        if isinstance(event, RequestReceived):
            received = _request(event.headers)
            answer = next_answer(received)
            open_streams[stream] = (received, answer, bytearray(), [])
            if values(received.headers, b"expect") and not event.stream_ended:
                if not any(interim.status == 100 for interim in answer.interim):
                    del open_streams[stream]
                    record(received)
                    _send_answer(peer, stream, received, answer)
                    continue
                for interim in answer.interim:
                    if interim.status == 100:
                        _send_interim(peer, stream, interim)
        elif stream not in open_streams:
            continue
        elif isinstance(event, DataReceived):
            open_streams[stream][2].extend(event.data)
        elif isinstance(event, TrailersReceived):
            open_streams[stream][3].append(tuple(event.headers))
        elif isinstance(event, StreamReset):
            del open_streams[stream]
        elif isinstance(event, StreamEnded):
            received, answer, body, trailers = open_streams.pop(stream)
            record(_complete(received, bytes(body), trailers[0] if trailers else ()))
            expected = bool(values(received.headers, b"expect")) and bool(body or trailers)
            for interim in answer.interim:
                if interim.status != 100 or not expected:
                    _send_interim(peer, stream, interim)
            _send_answer(peer, stream, received, answer)


def _request(headers: Pairs) -> Received:
    fields = tuple((bytes(name), bytes(value)) for name, value in headers)
    pseudo = dict(pair for pair in fields if pair[0].startswith(b":"))
    rest = tuple(pair for pair in fields if not pair[0].startswith(b":"))
    return Received(
        Version.HTTP2,
        pseudo[b":method"],
        pseudo.get(b":path", b""),
        pseudo.get(b":authority"),
        rest,
    )


def _complete(received: Received, body: bytes, trailers: Headers) -> Received:
    return Received(
        received.version,
        received.method,
        received.target,
        received.host,
        received.headers,
        body,
        trailers,
    )


def _send_interim(peer: _Peer, stream: int, interim: Interim) -> None:
    fields = [(b":status", b"%d" % interim.status), *_lower(interim.headers)]
    peer.h2.send_headers(stream, fields)
    peer.flush()


def _send_answer(peer: _Peer, stream: int, received: Received, answer: Answer) -> None:
    fields = [(b":status", b"%d" % answer.status)]
    fields += _with_length(_lower(answer.headers), answer.framing, answer.body)
    bodiless = received.method == b"HEAD" or answer.status in (204, 304)
    try:
        if bodiless or not (any(answer.body) or answer.trailers):
            peer.h2.send_headers(stream, fields, end_stream=True)
            peer.flush()
        else:
            peer.h2.send_headers(stream, fields)
            peer.send_body(stream, answer.body, _lower(answer.trailers))
    except ProtocolError as error:
        raise WireError(f"the answer could not be sent: {error}") from error


def _lower(headers: Headers) -> Headers:
    return tuple((name.lower(), value) for name, value in headers)
