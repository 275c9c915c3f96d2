"""Many PassthroughRoutes at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from thruway_testing.plane.kubernetes.api import ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thruway_testing.plane.kubernetes.api import Api

__all__ = ["create_routes", "route"]


def route(name: str, url: str, **spec: Any) -> dict[str, Any]:
    """Return a PassthroughRoute that serves /NAME unless `spec` says otherwise."""
    return {
        "apiVersion": "thruway.dev/v1alpha1",
        "kind": "PassthroughRoute",
        "metadata": {"name": name},
        "spec": {"path": f"/{name}", "upstream": {"url": url}, **spec},
    }


def create_routes(api: Api, namespace: str, numbers: Iterable[int], url: str, **spec: Any) -> None:
    """Create the routes `route-N` of these numbers, each at a path of its own."""
    path = ROUTES.format(namespace)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda n: api.post(path, route(f"route-{n}", url, **spec)), numbers):
            pass
