"""Runs a page in headless Chromium. The page itself reports to its server; no driver is needed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["FOREIGN", "PACKAGE", "PageServer", "find_chromium", "open_page"]

PACKAGE = "chromium"
"""The package of Debian."""
FOREIGN = "foreign.test"
"""A host name that the browser resolves to 127.0.0.1."""

_DEADLINE = 120.0
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # which it needs as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-crash-reporter",
    # Nothing but this machine is ever asked.
    f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, "
    "EXCLUDE 127.0.0.1",
)


def find_chromium() -> str | None:
    """Return the path of Chromium; None if it is not installed."""
    return shutil.which("chromium")


class PageServer:
    """Serves one page at every path, on 127.0.0.1; the page POSTs its results to it."""

    def __init__(self, page: str) -> None:
        self.results: queue.Queue[dict[str, Any]] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(page, self.results))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> dict[str, Any]:
        """Return what the page has reported.

        Raises:
            queue.Empty: it has reported nothing in time.
        """
        return self.results.get(timeout=_DEADLINE)


def _handler_of(page: str, results: queue.Queue[dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, page.encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(204, b"")
            results.put(json.loads(body))

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's
            """Say nothing."""

    return Handler


@contextlib.contextmanager
def open_page(url: str, folder: Path) -> Iterator[None]:
    """Have a page open, in a browser of its own with a new profile below `folder`."""
    program = find_chromium()
    assert program is not None, f"install Debian's package {PACKAGE}"
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", url],
            env={**kept, "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
