"""The API server over plain HTTP, with all rights: what takes kubectl 100 ms takes this one."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ROUTES", "Api"]

ROUTES = "/apis/thruway.dev/v1alpha1/namespaces/{}/passthroughroutes"


class Api:
    """Each call returns the parsed answer; `httpx.HTTPStatusError` for a refusal, with its text."""

    def __init__(self, server: str, authority: Path, login: tuple[Path, Path]) -> None:
        tls = ssl.create_default_context(cafile=str(authority))
        tls.load_cert_chain(*login)
        self._client = httpx.Client(base_url=server, verify=tls, timeout=30, trust_env=False)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def is_ready(self) -> bool:
        """Whether the API server says so."""
        try:
            return self._client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def call(self, method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        """Return the raw answer, whatever its status."""
        return self._client.request(method, path, json=body, **options)

    def _done(self, response: httpx.Response) -> Any:
        if response.is_error:
            raise httpx.HTTPStatusError(
                f"{response.status_code} {response.text}",
                request=response.request,
                response=response,
            )
        return response.json()

    def get(self, path: str, **params: str) -> Any:
        """Get an object or a list."""
        return self._done(self.call("GET", path, params=params))

    def post(self, path: str, body: object) -> Any:
        """Create."""
        return self._done(self.call("POST", path, body))

    def put(self, path: str, body: object) -> Any:
        """Replace."""
        return self._done(self.call("PUT", path, body))

    def delete(self, path: str) -> Any:
        """Delete."""
        return self._done(self.call("DELETE", path))

    def merge(self, path: str, body: object) -> Any:
        """Change by a JSON merge patch."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return self._done(self.call("PATCH", path, body, headers=headers))

    def apply(self, path: str, body: object, manager: str = "tests") -> Any:
        """Server-side apply."""
        headers = {"Content-Type": "application/apply-patch+yaml"}
        params = {"fieldManager": manager, "force": "true"}
        return self._done(self.call("PATCH", path, body, headers=headers, params=params))

    def post_url(self, url: str, body: object) -> Any:
        """Post to another server, such as etcd's gateway."""
        return self._done(httpx.post(url, json=body, trust_env=False))
