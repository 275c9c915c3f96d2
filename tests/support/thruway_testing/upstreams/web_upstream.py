"""An upstream as web pages meet it: CORS or none, a stream in lock-step, and what it was asked."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Received", "WebUpstream"]

_DEADLINE = 60.0


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    """By their names in lower case."""


class WebUpstream:
    """Answers preflights and adds `Access-Control-Allow-Origin: *`, unless `cors` is false.

    It wants `Authorization: Bearer {key}` and gives 401 otherwise. `/v1/stream` sends one event,
    and a second one only after a request for `/v1/release` came, so that only a client that reads
    as the stream goes on ever gets to its end. `/v1/own-cors` always has CORS headers of its own.
    """

    def __init__(self, key: str, *, cors: bool) -> None:
        self.received: list[Received] = []
        self.key, self.cors = key, cors
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def received_with(self, mark: str) -> list[Received]:
        """Return the requests whose path contains the mark."""
        return [request for request in self.received if mark in request.path]


def _handler_of(upstream: WebUpstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def end_headers(self) -> None:
            self.send_header("Connection", "close")
            super().end_headers()

        def do_OPTIONS(self) -> None:
            self._note()
            self.send_response(204)
            self._cors()
            self.end_headers()

        def do_GET(self) -> None:
            self._note()
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            path = self.path.partition("?")[0]
            if self.headers.get("Authorization") != f"Bearer {upstream.key}":
                self._json(401, {"error": {"code": "invalid_api_key", "message": "upstream's"}})
            elif path == "/v1/stream":
                self._stream()
            else:
                if path == "/v1/release":
                    upstream.released.set()
                self._json(200, {"path": path})

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the base class's names

        def _note(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            upstream.received.append(Received(self.command, self.path, headers))

        def _cors(self) -> None:
            if self.path.startswith("/v1/own-cors"):
                self.send_header("Access-Control-Allow-Origin", "https://partner.example")
                self.send_header("Vary", "Accept")
            elif upstream.cors:
                wanted = self.headers.get("Access-Control-Request-Headers", "")
                self.send_header("Access-Control-Allow-Origin", "*")
                self.send_header("Access-Control-Allow-Headers", wanted)
                self.send_header("Access-Control-Expose-Headers", "X-Request-Id")

        def _json(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self._cors()
            self.send_header("X-Request-Id", "req-1")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _stream(self) -> None:
            upstream.released.clear()
            self.send_response(200)
            self._cors()
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: first\n\n")
            self.wfile.flush()
            if upstream.released.wait(_DEADLINE):
                self.wfile.write(b"data: second\n\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's
            """Say nothing."""

    return Handler
