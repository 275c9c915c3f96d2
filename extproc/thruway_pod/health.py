"""`/healthz`, `/readyz`, … and `/metrics` of a pod, for kubelet, Prometheus and people on call."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

from thruway_pod.admin import AdminError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thruway_pod.admin import Admin

__all__ = ["ANYWHERE", "PATIENCE", "is_local", "serving"]

ANYWHERE = ""
"""The host that means all addresses, IPv6 and IPv4."""
PATIENCE = 30.0
"""How many seconds the startup check waits for Envoy's first configuration."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: a client that disconnects is not a problem."""


@contextmanager
def serving(
    host: str,
    port: int,
    admin: Admin,
    problems: Callable[[], list[str]],
    *,
    private_metrics: bool = False,
) -> Iterator[int]:
    """Serve while the context lasts; yield the port.

    With `private_metrics`, only clients in the same pod get `/metrics`.

    `/healthz` passes if `problems` reports nothing; `/readyz` passes if Envoy is ready as well. The
    other two check Envoy alone: `/livez` passes if it responds. `/startz` passes if it is ready, or
    after `PATIENCE`, because an application must not wait any longer for an absent operator.

    Raises:
        OSError: the server cannot listen on the port.
    """

    checks: dict[str, Callable[[], list[str]]] = {
        "/healthz": problems,
        "/readyz": lambda: [*problems(), *_problems(admin.ready)],
        "/startz": lambda: _problems(lambda: _started(admin)),
        "/livez": lambda: _problems(admin.alive),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10
        protocol_version = "HTTP/1.0"
        server_version = "thruway"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in checks:
                self._health(checks[path]())
            elif path == "/metrics" and private_metrics and not is_local(self.client_address[0]):
                text = "metrics are only served within the pod: see injector.metrics of the chart\n"
                self._respond(403, text.encode(), "text/plain")
            elif path == "/metrics":
                self._metrics()
            else:
                text = f"unknown path: use {', '.join(checks)} or /metrics\n"
                self._respond(404, text.encode(), "text/plain")

        def _health(self, found: list[str]) -> None:
            body = json.dumps({"ok": not found, "problems": found}).encode() + b"\n"
            self._respond(503 if found else 200, body, "application/json")

        def _metrics(self) -> None:
            try:
                self._respond(200, admin.prometheus(), "text/plain; version=0.0.4")
            except AdminError as error:
                self._respond(503, f"{error}\n".encode(), "text/plain")

        def _respond(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(_Server):
        address_family = (
            socket.AF_INET6
            if ":" in host or (host == ANYWHERE and socket.has_dualstack_ipv6())
            else socket.AF_INET
        )

    try:
        found = Server((host, port), Handler)
    except OSError as error:
        raise OSError(
            f"cannot serve health on {host}:{port} ({error.strerror}): choose another address "
            "with --health-listen"
        ) from error
    with found as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def is_local(address: str) -> bool:
    """Whether a client's address is of this pod: `::ffff:127.0.0.1` is IPv4 on an IPv6 socket."""
    found = ip_address(address.partition("%")[0])
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _started(admin: Admin) -> None:
    try:
        admin.ready()
    except AdminError:
        if admin.uptime() < PATIENCE:
            raise


def _problems(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except AdminError as error:
        return [str(error)]
    return []
