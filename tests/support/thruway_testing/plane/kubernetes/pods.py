"""Pods that are never run: what a ServiceAccount token needs to be bound to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.api import Api

__all__ = ["AUDIENCE", "Pod", "create_pod", "ensure_namespace", "ensure_service_account"]

AUDIENCE = "thruway-xds"


def _ensure(api: Api, collection: str, body: dict[str, Any]) -> None:
    try:
        api.post(collection, body)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 409:
            raise


def ensure_namespace(api: Api, name: str, labels: dict[str, str] | None = None) -> None:
    """Create the namespace if it is not there."""
    _ensure(api, "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})


def ensure_service_account(api: Api, namespace: str, name: str) -> None:
    """Create the ServiceAccount if it is not there."""
    _ensure(api, f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})


@dataclass(frozen=True)
class Pod:
    """A pod of the API server's, and its ServiceAccount."""

    api: Api
    namespace: str
    name: str
    service_account: str
    uid: str

    @property
    def node_id(self) -> str:
        """What the Envoy in it has to call itself."""
        return f"{self.name}.{self.namespace}"

    def token(self, audience: str = AUDIENCE, *, seconds: int = 3600, bound: bool = True) -> str:
        """Return a token as kubelet would project it; at least 600 seconds."""
        spec: dict[str, Any] = {"audiences": [audience], "expirationSeconds": seconds}
        if bound:
            spec["boundObjectRef"] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": self.name,
                "uid": self.uid,
            }
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.service_account}/token"
        answer = self.api.post(path, {"spec": spec})
        return str(answer["status"]["token"])

    def delete(self) -> None:
        """Delete it at once."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.api.call("DELETE", path, {"gracePeriodSeconds": 0})


def create_pod(api: Api, namespace: str, name: str, service_account: str = "app") -> Pod:
    """Create a pod, its namespace and its ServiceAccount."""
    ensure_namespace(api, namespace)
    ensure_service_account(api, namespace, service_account)
    container = {"name": "app", "image": "none.invalid/app"}
    body = {
        "metadata": {"name": name},
        "spec": {"serviceAccountName": service_account, "containers": [container]},
    }
    made = api.post(f"/api/v1/namespaces/{namespace}/pods", body)
    return Pod(api, namespace, name, service_account, str(made["metadata"]["uid"]))
