"""Finds the base URLs that a pod's containers are given, and the routes that these reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from thruway_operator.diagnose.findings.conventions import (
    ROUTE,
    SIDECAR,
    annotations_of,
    name_of,
)
from thruway_operator.sidecar.decide.providers import BASE_URLS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.diagnose.findings.facts import Facts, Object

__all__ = ["base_urls", "host_of", "is_below", "routes_concerned", "told"]


def told(pod: Object) -> list[tuple[str, dict[str, Any]]]:
    """Return (container, entry) for the base URLs of the application's containers.

    Of two variables of one provider with the same value only the first.
    """
    containers = pod["spec"].get("containers") or ()
    return [
        (item["name"], entry)
        for item in containers
        if item["name"] not in SIDECAR
        for entry in _variables(item)
    ]


def _variables(container: Mapping[str, Any]) -> list[dict[str, Any]]:
    by_name = {item["name"]: item for item in container.get("env") or ()}
    entries = [by_name[name] for name in BASE_URLS if name in by_name]
    values = [entry.get("value") for entry in entries]
    return [
        entry
        for index, entry in enumerate(entries)
        if values[index] is None or values[index] not in values[:index]
    ]


def base_urls(pod: Object) -> list[str] | None:
    """Return the base URLs of its containers; None if there is none, or one cannot be read."""
    values = [entry.get("value") for _, entry in told(pod)]
    if not values or any(value is None or "$(" in value for value in values):
        return None
    return [str(value) for value in values]


def host_of(url: str) -> str:
    """Return a URL's host; "" if it has none, or is not a URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_below(url: SplitResult, path: str) -> bool:
    """Return whether a base URL reaches a route with that path."""
    return url.path == path or url.path.startswith(f"{path.rstrip('/')}/")


def routes_concerned(facts: Facts) -> list[Object]:
    """Return the routes to check: with POD those that it calls, otherwise all of the namespace.

    If POD's base URLs cannot be read, return all routes as well.
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
    """Return the routes with that path; of several, those that the operator accepts."""
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
