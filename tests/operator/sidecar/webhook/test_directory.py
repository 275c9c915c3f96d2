"""What the injector knows of namespaces, and who has to know the operator's CA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thruway_operator.api.route import PassthroughRoute
from thruway_operator.sidecar.webhook.bundle import changes
from thruway_operator.sidecar.webhook.directory import Directory

if TYPE_CHECKING:
    from thruway_operator.kube import KubeClient


def route(name: str, path: str = "/openai_passthrough") -> PassthroughRoute:
    spec: Any = {"path": path, "provider": "openai"}
    return PassthroughRoute(namespace="shop", name=name, created="1", spec=spec)


def directory(changes: list[int], client: KubeClient, *watched: str) -> Directory:
    return Directory(client, watched, lambda: changes.append(1))


def test_routes_come_and_go(client: KubeClient) -> None:
    said: list[int] = []
    found = directory(said, client, "shop")
    before = found.routes("shop")
    found.route_changed(("shop", "a"), route("a"))
    found.route_changed(("shop", "a"), route("a", "/a"))
    found.route_changed(("shop", "b"), route("b"))
    assert before == ()
    assert {item.name: item.path for item in found.routes("shop")} == {
        "a": "/a",
        "b": "/openai_passthrough",
    }
    for name in ("a", "b", "b"):
        found.route_changed(("shop", name), None)
    assert found.routes("shop") == ()
    assert len(said) == 2, "the namespace has routes, and has none again"


def test_watched_namespaces_are_all_told(client: KubeClient) -> None:
    found = directory([], client, "shop", "blog")
    assert found.wanted == {"shop", "blog"}
    assert found.namespace("shop").labels == {}


def test_bundles_that_are_wrong() -> None:
    webhooks = [
        {"name": "a", "clientConfig": {"caBundle": "right", "service": {}}},
        {"name": "b", "clientConfig": {"caBundle": "wrong"}},
        {"name": "c", "clientConfig": {}},
    ]
    right = [{"name": name, "clientConfig": {"caBundle": "right"}} for name in "bc"]
    assert changes({"webhooks": webhooks}, "right") == right
    assert changes({}, "right") == []
