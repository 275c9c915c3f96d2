"""Envoy's admin interface, over its Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Admin", "AdminError"]


class AdminError(Exception):
    """Envoy does not answer, or not as it should; the message says what it did."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("envoy", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Admin:
    """One Envoy's; calls block for up to `timeout` seconds.

    Raises:
        AdminError: from every method, if Envoy does not answer or answers with an error.
    """

    def __init__(self, path: Path, timeout: float = 2.0) -> None:
        self._path = path
        self._timeout = timeout

    def ready(self) -> None:
        """Return if Envoy has its first configuration, serves, and is not draining."""
        self._call("GET", "/ready")

    def alive(self) -> None:
        """Return if it answers, whatever it says."""
        self._ask("GET", "/ready")

    def uptime(self) -> float:
        """Return for how many seconds Envoy has run."""
        try:
            return float(json.loads(self._call("GET", "/server_info"))["uptime_current_epoch"][:-1])
        except (ValueError, KeyError, TypeError) as error:
            raise AdminError("Envoy's description of itself is not as expected") from error

    def prometheus(self) -> bytes:
        """Return its metrics in Prometheus' text format."""
        return self._call("GET", "/stats/prometheus")

    def fail_health_check(self) -> None:
        """Have it end connections: `connection: close` with each answer, GOAWAY on HTTP/2.

        New connections and requests are served still.
        """
        self._call("POST", "/healthcheck/fail")

    def requests(self) -> tuple[int, int]:
        """Return how many requests there are under way, and how many there have been."""
        prefix = "http.thruway.downstream_rq_"
        path = f"/stats?format=json&filter=^{prefix.replace('.', '%5C.')}(active|total)$"
        try:
            stats = json.loads(self._call("GET", path))["stats"]
            found = {item["name"]: int(item["value"]) for item in stats if "name" in item}
            return found[f"{prefix}active"], found[f"{prefix}total"]
        except (ValueError, KeyError, TypeError) as error:
            raise AdminError("Envoy's statistics are not as expected") from error

    def _call(self, method: str, path: str) -> bytes:
        status, body = self._ask(method, path)
        if status != 200:
            said = body[:100].decode(errors="replace").strip()
            raise AdminError(f"Envoy says {status} {said}")
        return body

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        connection = _UnixConnection(str(self._path), self._timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise AdminError(f"Envoy does not answer ({reason})") from error
        finally:
            connection.close()
