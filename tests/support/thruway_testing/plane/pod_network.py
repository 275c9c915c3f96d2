"""What a cluster without kubelet lacks: the way from the API server to the ports and logs of pods.

A plain HTTP server in front of the API server. It responds to `…/pods/POD:PORT/proxy/…` from a port
of this machine that plays the pod's, and to `…/pods/POD/log`. It forwards everything else, with an
administrator's rights.
"""

from __future__ import annotations

import datetime as dt
import http.server
import json
import re
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thruway_testing.plane.kubernetes.api import Api

__all__ = ["PodNetwork"]

_LOG = re.compile(r"/api/v1/namespaces/[^/]+/pods/([^/:]+)/log\?(.*)")
_POD = re.compile(r"/api/v1/namespaces/[^/]+/pods/([^/:]+):(\d+)/proxy(/.*)")


class PodNetwork:
    """A context manager; `ports` maps (pod, port) to a port of 127.0.0.1, or what returns it.

    `logs` maps (pod, container) to a function that returns all of the log.
    """

    def __init__(self, api: Api, folder: Path) -> None:
        self.ports: dict[tuple[str, int], int | Callable[[], int]] = {}
        self.logs: dict[tuple[str, str], Callable[[], str]] = {}
        self._api = api
        self.kubeconfig = folder / "network.kubeconfig"

    def __enter__(self) -> Self:
        network = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = network.answer(self.path)
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("content-type", ""))
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        server = f"http://127.0.0.1:{self._server.server_address[1]}"
        config = {
            "clusters": [{"name": "a", "cluster": {"server": server}}],
            "users": [{"name": "a", "user": {}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        }
        self.kubeconfig.write_text(json.dumps(config))
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> httpx.Response:
        """Return what is answered to a GET."""
        log = _LOG.fullmatch(path)
        if log and (text := self._log(log[1], dict(parse_qsl(log[2])))) is not None:
            return httpx.Response(200, text=text, headers={"content-type": "text/plain"})
        found = _POD.fullmatch(path)
        port = self.ports.get((found[1], int(found[2]))) if found else None
        port = port() if callable(port) else port
        if found is None or port is None:
            return self._api.call("GET", path)
        url = f"http://127.0.0.1:{port}{found[3]}"
        try:
            return httpx.get(url, trust_env=False, timeout=10)
        except httpx.TransportError:
            status = {"kind": "Status", "code": 503, "message": "connection refused"}
            return httpx.Response(503, json=status)

    def _log(self, pod: str, query: dict[str, str]) -> str | None:
        """Return what kubelet would: the lines of the last `sinceSeconds`."""
        read = self.logs.get((pod, query["container"]))
        if read is None:
            return None
        age = dt.timedelta(seconds=int(query.get("sinceSeconds", "86400")))
        since = dt.datetime.now(dt.UTC) - age
        return "".join(line for line in read().splitlines(keepends=True) if _is_newer(line, since))


def _is_newer(line: str, moment: dt.datetime) -> bool:
    """Whether a line of Envoy's access log is newer; others always are."""
    try:
        return dt.datetime.fromisoformat(json.loads(line)["time"]) > moment
    except (ValueError, KeyError, TypeError):
        return True
