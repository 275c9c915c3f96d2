"""What a user of a namespace does, and sees, in tests of the operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from thruway_testing.plane.kubernetes.api import ROUTES
from thruway_testing.plane.kubernetes.bulk import route
from thruway_testing.product.up import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from thruway_testing.plane.kubernetes.api import Api

__all__ = ["CREDENTIAL", "TOO_LARGE", "User", "code_of", "wait_answer"]

CREDENTIAL = {"secretKeyRef": {"name": "openai", "key": "OPENAI_API_KEY"}}
TOO_LARGE = {
    "headers": {"set": [{"name": f"X-{number}", "value": "v" * 1000} for number in range(32)]}
}
"""The `request` of a route that the API server accepts and translation refuses."""


@dataclass(frozen=True)
class User:
    """Somebody who may do everything in one namespace."""

    api: Api
    namespace: str

    def apply(self, name: str, url: str, **spec: Any) -> dict[str, Any]:
        """Apply a route that serves /NAME unless `spec` says otherwise."""
        made: dict[str, Any] = self.api.apply(self._route(name), route(name, url, **spec))
        return made

    def delete(self, name: str) -> None:
        """Delete a route."""
        self.api.delete(self._route(name))

    def _route(self, name: str) -> str:
        return f"{ROUTES.format(self.namespace)}/{name}"

    def secret(self, name: str = "openai", kind: str = "Opaque", **entries: str) -> None:
        """Create or replace a Secret of this type."""
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": kind,
            "stringData": entries,
        }
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        answer = self.api.call("POST", path, body)
        if answer.status_code == 409:
            self.api.put(f"{path}/{name}", body)
        else:
            answer.raise_for_status()

    def delete_secret(self, name: str = "openai") -> None:
        """Delete a Secret."""
        self.api.delete(f"/api/v1/namespaces/{self.namespace}/secrets/{name}")

    def get(self, name: str) -> dict[str, Any]:
        """Return a route as the API server has it."""
        found: dict[str, Any] = self.api.get(self._route(name))
        return found

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        """Return a condition of a route; empty if it has none."""
        conditions = self.get(name).get("status", {}).get("conditions", ())
        return next((dict(item) for item in conditions if item["type"] == kind), {})

    def wait_condition(self, name: str, kind: str, status: str, reason: str = "") -> dict[str, Any]:
        """Wait for a condition of the newest generation of a route; return it."""

        def there() -> dict[str, Any] | None:
            found = self.condition(name, kind)
            generation = self.get(name)["metadata"]["generation"]
            fits = found.get("status") == status and found.get("observedGeneration") == generation
            return found if fits and reason in {"", found["reason"]} else None

        try:
            return dict(wait_until(there, f"{kind}={status} {reason} of {name}"))
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.get(name).get('status')}") from None

    def wait_programmed(self, *names: str) -> None:
        """Wait until all proxies, at least one, hold these routes as they are now."""
        for name in names:
            self.wait_condition(name, "Programmed", "True", "Programmed")


def wait_answer(
    url: str, wanted: int | Callable[[httpx.Response], bool], **options: Any
) -> httpx.Response:
    """Ask until the answer is as wanted, by status or by a function; return it."""

    def there() -> httpx.Response | None:
        answer = httpx.get(url, trust_env=False, **options)
        good = answer.status_code == wanted if isinstance(wanted, int) else wanted(answer)
        return answer if good else None

    found: httpx.Response = wait_until(there, f"{wanted} from {url}")
    return found


def code_of(answer: httpx.Response) -> str:
    """Return the `code` of an error in OpenAI's shape."""
    return str(answer.json()["error"]["code"])
