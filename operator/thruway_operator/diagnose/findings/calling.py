"""Where the containers of a pod are told to call, and which routes that leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from thruway_operator.diagnose.findings.conventions import (
    ROUTE,
    SIDECAR,
    annotations_of,
    name_of,
)
from thruway_operator.sidecar.decide.names import BASE_URL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.diagnose.findings.facts import Facts, Object

__all__ = ["base_urls", "is_below", "routes_concerned", "told"]


def told(pod: Object) -> dict[str, dict[str, Any]]:
    """Return the entry of OPENAI_BASE_URL of each of the application's containers that has one."""
    found = {item["name"]: _variable(item) for item in pod["spec"].get("containers") or ()}
    return {name: entry for name, entry in found.items() if entry is not None}


def _variable(container: Mapping[str, Any]) -> dict[str, Any] | None:
    if container["name"] in SIDECAR:
        return None
    entries = container.get("env") or ()
    return next((item for item in entries if item["name"] == BASE_URL), None)


def base_urls(pod: Object) -> list[str] | None:
    """Return the values of OPENAI_BASE_URL; None if one cannot be seen, or there is none."""
    values = [entry.get("value") for entry in told(pod).values()]
    if not values or any(value is None or "$(" in value for value in values):
        return None
    return [str(value) for value in values]


def is_below(url: SplitResult, path: str) -> bool:
    """Tell whether a base URL leads to a route of that path."""
    return url.path == path or url.path.startswith(f"{path.rstrip('/')}/")


def routes_concerned(facts: Facts) -> list[Object]:
    """Return the routes that are asked about: with POD those that it calls, else the namespace's.

    All of them, too, if it cannot be seen where POD calls.
    """
    routes = facts.routes.items
    if not facts.pod:
        return routes
    pod = facts.pods.items[0]
    named, urls = annotations_of(pod).get(ROUTE), base_urls(pod)
    if urls is None and named is None:
        return routes
    called = {name for url in urls or () for name in _led_to(routes, url)}
    return [route for route in routes if name_of(route) in {named} | called]


def _led_to(routes: list[Object], url: str) -> list[str]:
    """Return the routes of that path; of several alike those that the operator takes."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    found = [route for route in routes if is_below(parts, route["spec"]["path"])]
    taken = [route for route in found if not _is_refused(route)]
    return [name_of(route) for route in taken or found]


def _is_refused(route: Object) -> bool:
    conditions = (route.get("status") or {}).get("conditions") or ()
    return any(it.get("type") == "Accepted" and it.get("status") == "False" for it in conditions)
