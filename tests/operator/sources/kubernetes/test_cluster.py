"""Invariant: the resources are the cluster's, soon after a change or the end of an outage."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.sources.kubernetes.cluster import ClusterSource, Watched
from thruway_testing.plane.fake_api import FakeApi, background, in_fake_time, running
from thruway_testing.plane.fake_api.hints import without_hints
from thruway_testing.plane.fake_api.troubles import failures, hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from thruway_testing.plane.fake_api.troubles import Response

NAMESPACES = "/api/v1/namespaces"


def routes_of(namespace: str) -> str:
    return f"/apis/thruway.dev/v1alpha1/namespaces/{namespace}/passthroughroutes"


def secrets_of(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets"


def route(name: str, **spec: Any) -> dict[str, Any]:
    credential = {"secretKeyRef": {"name": "openai", "key": "KEY"}}
    return {
        "metadata": {"name": name},
        "spec": {"path": f"/{name}", "provider": "openai", "credential": credential, **spec},
    }


def secret(value: str) -> dict[str, Any]:
    data = {"KEY": base64.b64encode(value.encode()).decode()}
    return {"metadata": {"name": "openai"}, "type": "Opaque", "data": data}


@pytest.fixture(autouse=True)
def _no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    without_hints(monkeypatch)


class Followed:
    def __init__(self, api: FakeApi, client: Any, watched: Watched) -> None:
        self.api = api
        self.changes = 0
        self.seen: list[tuple[tuple[str, str], bool]] = []
        self.source = ClusterSource(
            client,
            watched,
            self._note,
            on_route=lambda key, found: self.seen.append((key, found is not None)),
        )

    def _note(self) -> None:
        self.changes += 1

    @property
    def routes(self) -> list[str]:
        return sorted(found.id for found in self.source.resources().routes)

    @property
    def secrets(self) -> dict[tuple[str, str], dict[str, str]]:
        found = self.source.resources().secrets
        return {
            key: {name: value.reveal() for name, value in values.items()}
            for key, values in found.items()
        }


@contextlib.asynccontextmanager
async def followed(
    watched: Watched | None = None, *, trouble: tuple[Response | int, str] | None = None
) -> AsyncIterator[Followed]:
    async with running() as (api, client):
        for namespace in ("shop", "bank"):
            labels = {"gateway": "yes"} if namespace == "shop" else {}
            api.objects.create(NAMESPACES, {"metadata": {"name": namespace, "labels": labels}})
            api.objects.create(routes_of(namespace), route("a"))
            api.objects.create(secrets_of(namespace), secret(f"sk-{namespace}"))
        if trouble:
            api.trouble(trouble[0], path=trouble[1])
        found = Followed(api, client, watched or Watched())
        async with background(found.source.run()):
            await asyncio.sleep(1)
            yield found


@in_fake_time
async def test_routes_and_the_secrets_that_they_reference() -> None:
    async with followed() as f:
        f.api.objects.create(secrets_of("shop"), secret("sk-other") | {"metadata": {"name": "x"}})
        await asyncio.sleep(1)
        assert f.source.ready
        assert f.routes == ["bank/a", "shop/a"]
        assert f.secrets == {
            ("bank", "openai"): {"KEY": "sk-bank"},
            ("shop", "openai"): {"KEY": "sk-shop"},
        }
        assert f.source.problems == []


@in_fake_time
async def test_changes_arrive_and_are_announced() -> None:
    async with followed() as f:
        before = f.changes
        f.api.objects.change(secrets_of("shop"), "openai", secret("sk-new"))
        f.api.objects.create(routes_of("shop"), route("b"))
        f.api.objects.delete(routes_of("bank"), "a")
        await asyncio.sleep(1)
        assert f.changes > before
        assert f.routes == ["shop/a", "shop/b"]
        assert f.secrets == {("shop", "openai"): {"KEY": "sk-new"}}
        assert f.seen[-2:] == [(("shop", "b"), True), (("bank", "a"), False)]


@in_fake_time
async def test_a_route_that_cannot_be_read_is_a_problem_of_its_own() -> None:
    async with followed() as f:
        f.api.objects.create(routes_of("shop"), {"metadata": {"name": "bad"}, "spec": {"path": 1}})
        await asyncio.sleep(1)
        assert f.routes == ["bank/a", "shop/a"]
        assert f.source.objects["shop", "bad"].problem
        f.api.objects.change(routes_of("shop"), "bad", {"spec": route("bad")["spec"]})
        await asyncio.sleep(1)
        assert f.routes == ["bank/a", "shop/a", "shop/bad"]


@in_fake_time
async def test_a_status_is_no_change_of_the_resources() -> None:
    async with followed() as f:
        before = f.source.resources()
        f.api.objects.change(routes_of("shop"), "a", {"status": {"url": "x"}})
        await asyncio.sleep(1)
        assert f.source.objects["shop", "a"].status == {"url": "x"}
        assert f.source.resources() == before


@in_fake_time
async def test_it_is_not_ready_before_everything_is_listed() -> None:
    for path in ("/passthroughroutes", "/secrets", "/configmaps"):
        async with followed(trouble=(503, path)) as f:
            await asyncio.sleep(600)
            assert not f.source.ready
            assert f.source.problems


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (404, "install Thruway's CRD"),
        (403, "bind the chart's roles"),
        (401, "bind the chart's roles"),
        (500, "made up: InternalError"),
    ],
)
@in_fake_time
async def test_a_problem_says_what_to_do(code: int, words: str) -> None:
    async with followed(trouble=(code, "/passthroughroutes")) as f:
        (problem,) = f.source.problems
        assert words in problem


OUTAGES = failures("403", "429", "503", "cut", "hang", "garbage")


@pytest.mark.parametrize("name", OUTAGES)
@in_fake_time
async def test_an_outage_takes_nothing_away_and_its_changes_arrive_afterwards(name: str) -> None:
    async with followed() as f:
        resources = f.source.resources()
        outage = f.api.trouble(OUTAGES[name])
        f.api.send("", None)
        await asyncio.sleep(120)
        assert f.source.resources() == resources
        assert f.source.problems
        f.api.objects.delete(routes_of("bank"), "a")
        f.api.objects.create(routes_of("shop"), route("b"))
        f.api.objects.forget_changes()
        outage.end()
        await asyncio.sleep(80)
        assert f.routes == ["shop/a", "shop/b"]
        assert list(f.secrets) == [("shop", "openai")]
        assert f.source.problems == []


@in_fake_time
async def test_one_watched_namespace_that_is_forbidden_does_not_affect_another() -> None:
    async with followed(Watched(namespaces=("shop", "bank"))) as f:
        assert f.routes == ["bank/a", "shop/a"]
        f.api.trouble(403, path="/namespaces/bank/")
        f.api.send("/namespaces/bank/", None)
        f.api.objects.create(routes_of("shop"), route("b"))
        await asyncio.sleep(60)
        assert f.routes == ["bank/a", "shop/a", "shop/b"]
        assert f.source.problems


@in_fake_time
async def test_other_namespaces_are_not_listed() -> None:
    async with followed(Watched(namespaces=("shop",))) as f:
        assert f.routes == ["shop/a"]
        assert all("/namespaces/shop/" in seen.path for seen in f.api.requests)


@in_fake_time
async def test_the_gateways_namespaces_are_followed_by_their_label() -> None:
    async with followed(Watched(gateway_selector="gateway=yes")) as f:
        assert f.source.gateway_namespaces == {"shop"}
        f.api.objects.create(
            NAMESPACES, {"metadata": {"name": "lab", "labels": {"gateway": "yes"}}}
        )
        f.api.objects.delete(NAMESPACES, "shop")
        await asyncio.sleep(1)
        assert f.source.gateway_namespaces == {"lab"}


@in_fake_time
async def test_a_hint_saves_time_and_an_older_one_changes_nothing() -> None:
    async with followed() as f:
        f.api.trouble(hang)
        f.api.send("", None)
        await asyncio.sleep(1)
        old = f.api.objects.get(routes_of("shop"), "a")
        new = f.api.objects.change(routes_of("shop"), "a", {"spec": route("new")["spec"]})
        f.source.routes.hint("MODIFIED", new)
        f.source.routes.hint("MODIFIED", old)
        f.source.routes.hint(None, old)
        (found,) = [r for r in f.source.resources().routes if r.id == "shop/a"]
        assert found.spec.path == "/new"
        gone = f.api.objects.delete(routes_of("shop"), "a")
        f.source.routes.hint("DELETED", gone)
        f.source.routes.hint("ADDED", new)
        assert f.routes == ["bank/a"]


@in_fake_time
async def test_a_hint_about_a_namespace_that_is_not_watched_is_ignored() -> None:
    async with followed(Watched(namespaces=("shop",))) as f:
        f.source.routes.hint("ADDED", f.api.objects.get(routes_of("bank"), "a"))
        assert f.routes == ["shop/a"]
