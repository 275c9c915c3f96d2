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
    """Envoy does not respond, or responds unexpectedly; the message says how."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("envoy", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Admin:
    """The admin interface of one Envoy. Calls block for up to `timeout` seconds.

    Raises:
        AdminError: from every method, if Envoy does not respond or responds with an error.
    """

    def __init__(self, path: Path, timeout: float = 2.0) -> None:
        self._path = path
        self._timeout = timeout

    def ready(self) -> None:
        """Return if Envoy has its first configuration, serves, and is not draining."""
        self._call("GET", "/ready")

    def alive(self) -> None:
        """Return if Envoy responds, with any status."""
        self._request("GET", "/ready")

    def uptime(self) -> float:
        """Return how many seconds Envoy has been running."""
        try:
            return float(json.loads(self._call("GET", "/server_info"))["uptime_current_epoch"][:-1])
        except (ValueError, KeyError, TypeError) as error:
            raise AdminError("Envoy's server info has an unexpected format") from error

    def prometheus(self) -> bytes:
        """Return Envoy's metrics in Prometheus' text format, without those that were never set.

        These are four fifths of 220 KB for a single route.
        """
        return self._call("GET", "/stats/prometheus?usedonly")

    def fail_health_check(self) -> None:
        """Make Envoy close connections: `connection: close` in responses, GOAWAY on HTTP/2.

        Envoy still serves new connections and requests.
        """
        self._call("POST", "/healthcheck/fail")

    def requests(self) -> tuple[int, int]:
        """Return the number of requests in flight, and the total since Envoy started."""
        prefix = "http.thruway.downstream_rq_"
        path = f"/stats?format=json&filter=^{prefix.replace('.', '%5C.')}(active|total)$"
        try:
            stats = json.loads(self._call("GET", path))["stats"]
            found = {item["name"]: int(item["value"]) for item in stats if "name" in item}
            return found[f"{prefix}active"], found[f"{prefix}total"]
        except (ValueError, KeyError, TypeError) as error:
            raise AdminError("Envoy's statistics have an unexpected format") from error

    def _call(self, method: str, path: str) -> bytes:
        status, body = self._request(method, path)
        if status != 200:
            text = body[:100].decode(errors="replace").strip()
            raise AdminError(f"Envoy returned {status} {text}")
        return body

    def _request(self, method: str, path: str) -> tuple[int, bytes]:
        connection = _UnixConnection(str(self._path), self._timeout)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise AdminError(f"Envoy does not respond ({reason})") from error
        finally:
            connection.close()
