"""An ext_proc server that answers what a test wants, also what no server should.

A behaviour is handed the requests' bytes and yields the answers' bytes, so that even what is no
protobuf can be said. `Fake.seen` counts the requests.
"""

from __future__ import annotations

import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, Self

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

__all__ = [
    "FakeExtProc",
    "close_without_answer",
    "end_with_error",
    "hang",
    "say",
]

_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"


class FakeExtProc:
    """The server on a Unix socket; a context manager."""

    def __init__(self, socket: str, behave: Callable[..., Iterator[bytes]]) -> None:
        self._behave = behave
        self.seen = 0
        self._ended = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        handler: Any = grpc.stream_stream_rpc_method_handler(self._process)
        service = grpc.method_handlers_generic_handler(_SERVICE, {"Process": handler})
        self._server.add_generic_rpc_handlers((service,))
        self._server.add_insecure_port(f"unix:{socket}")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.stop(0).wait(20)

    def _process(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        next(requests)
        self.seen += 1
        yield from self._behave(context, self._ended)


def close_without_answer(_context: Any, _ended: threading.Event) -> Iterator[bytes]:
    """End the stream in order: Envoy takes that for consent."""
    yield from ()


def end_with_error(context: Any, _ended: threading.Event) -> Iterator[bytes]:
    """End the stream with a gRPC error."""
    context.abort(grpc.StatusCode.INTERNAL, "a secret of the server at /var/run/secret.sock")
    yield b""


def hang(_context: Any, ended: threading.Event) -> Iterator[bytes]:
    """Say nothing until the server stops."""
    ended.wait()
    yield from ()


def say(answer: bytes | pb.ProcessingResponse) -> Callable[..., Iterator[bytes]]:
    """Answer this."""
    body = answer if isinstance(answer, bytes) else answer.SerializeToString()

    def behave(_context: Any, _ended: threading.Event) -> Iterator[bytes]:
        yield body

    return behave
