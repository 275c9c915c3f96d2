"""What a cluster without kubelet lacks: the way from the API server to the ports of pods.

A plain HTTP server in front of the API server. It answers `…/pods/POD:PORT/proxy/…` itself, from a
port of this machine that plays the pod's; all else it hands on, with an administrator's rights.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from pathlib import Path

    from thruway_testing.plane.kubernetes.api import Api

__all__ = ["PodNetwork"]

_POD = re.compile(r"/api/v1/namespaces/[^/]+/pods/([^/:]+):(\d+)/proxy(/.*)")


class PodNetwork:
    """A context manager; `ports` maps (pod, port) to a port of 127.0.0.1."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.ports: dict[tuple[str, int], int] = {}
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
        found = _POD.fullmatch(path)
        port = self.ports.get((found[1], int(found[2]))) if found else None
        if found is None or port is None:
            return self._api.call("GET", path)
        return httpx.get(f"http://127.0.0.1:{port}{found[3]}", trust_env=False, timeout=10)
