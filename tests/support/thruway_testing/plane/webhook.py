"""A mutating webhook of somebody else: what a mesh's injector, say, does to pods.

with Webhook(plane, "aaa-mesh", change, selector) as webhook:
    ...  # pods are changed by `change(pod)`, which returns the new pod
"""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from typing import TYPE_CHECKING, Any, Self

import jsonpatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

__all__ = ["Webhook"]

_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

Pod = dict[str, Any]


class Webhook:
    """A context manager; `calls` counts its calls. Configurations are called in their names' order.

    It sees the pods of namespaces with this label alone, and is called again if others change what
    it has made.
    """

    def __init__(
        self,
        plane: ControlPlane,
        name: str,
        change: Callable[[Pod], Pod],
        namespace: str,
    ) -> None:
        self._plane = plane
        self._name = name
        self._change = change
        self._namespace = namespace
        self.calls = 0

    def __enter__(self) -> Self:
        authority = self._plane.authority
        pair = authority.issue(f"webhook-{self._name}", "webhook", hosts=["127.0.0.1"])
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = json.dumps(owner._answer(review)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self._apply(authority.certificate.read_bytes())
        return self

    def __exit__(self, *_: object) -> None:
        self._plane.api.call("DELETE", f"{_CONFIGURATIONS}/{self._name}")
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _apply(self, authorities: bytes) -> None:
        webhook = {
            "name": f"{self._name}.example.com",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "reinvocationPolicy": "IfNeeded",
            "clientConfig": {
                "url": f"https://127.0.0.1:{self._server.server_address[1]}/",
                "caBundle": base64.b64encode(authorities).decode(),
            },
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "resources": ["pods"],
                    "operations": ["CREATE"],
                }
            ],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self._namespace}},
        }
        self._plane.api.apply(
            f"{_CONFIGURATIONS}/{self._name}",
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": self._name},
                "webhooks": [webhook],
            },
        )

    def _answer(self, review: dict[str, Any]) -> dict[str, Any]:
        self.calls += 1
        request = review["request"]
        changed = self._change(json.loads(json.dumps(request["object"])))
        patch = jsonpatch.make_patch(request["object"], changed).to_string()
        response = {
            "uid": request["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(patch.encode()).decode(),
        }
        return {**review, "request": None, "response": response}
