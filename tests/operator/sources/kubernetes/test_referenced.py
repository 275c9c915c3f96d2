"""Invariant: exactly the referenced objects that exist are kept, once nothing changes any more."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.sources.kubernetes.referenced import Referenced
from thruway_testing.plane.fake_api import FakeApi, background, in_fake_time, running
from thruway_testing.plane.fake_api.troubles import failures, hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


SHOP, BANK = (f"/api/v1/namespaces/{name}/configmaps" for name in ("shop", "bank"))
A, B = ("shop", "a"), ("bank", "b")


def item(name: str, value: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"value": value}}


class Maps:
    def __init__(self, api: FakeApi, client: Any, *namespaces: str) -> None:
        self.api = api
        self.changes = 0
        self.kept: Referenced[str] = Referenced(
            client, "configmaps", lambda found: found["data"]["value"], namespaces, self._note
        )

    def _note(self) -> None:
        self.changes += 1

    def pending(self) -> bool:
        return self.kept.pending

    def want(self, *keys: tuple[str, str]) -> None:
        self.kept.want(frozenset(keys))


@contextlib.asynccontextmanager
async def maps(*namespaces: str, wanted: tuple[tuple[str, str], ...] = ()) -> AsyncIterator[Maps]:
    async with running() as (api, client):
        api.objects.create(SHOP, item("a"))
        api.objects.create(BANK, item("b"))
        found = Maps(api, client, *namespaces)
        found.want(*wanted)
        async with background(found.kept.run()):
            await found.kept.synced()
            yield found


@in_fake_time
async def test_only_what_is_wanted_is_kept() -> None:
    async with maps(wanted=(A,)) as m:
        assert m.kept.values == {A: "1"}
        m.api.objects.change(SHOP, "a", {"data": {"value": "2"}})
        m.api.objects.create(SHOP, item("secret"))
        await asyncio.sleep(1)
        assert m.kept.values == {A: "2"}
        m.want()
        assert m.kept.values == {}


@in_fake_time
async def test_a_newly_wanted_object_is_requested_and_then_followed() -> None:
    async with maps() as m:
        m.want(A, ("shop", "missing"))
        assert m.pending()
        await asyncio.sleep(1)
        assert not m.pending()
        assert m.kept.values == {A: "1"}
        assert m.changes >= 1
        m.api.objects.create(SHOP, item("missing"))
        await asyncio.sleep(1)
        assert m.kept.values == {A: "1", ("shop", "missing"): "1"}


TROUBLES = failures("403", "429", "500", "cut", "garbage")


@pytest.mark.parametrize("name", TROUBLES)
@in_fake_time
async def test_a_request_that_fails_is_repeated(name: str) -> None:
    async with maps() as m:
        outage = m.api.trouble(TROUBLES[name], path="/configmaps/a")
        m.want(A, B)
        await asyncio.sleep(60)
        assert m.pending()
        assert m.kept.values == {B: "1"}
        assert outage.met <= 2 * 121
        outage.end()
        await asyncio.sleep(1)
        assert not m.pending()
        assert m.kept.values == {A: "1", B: "1"}


@in_fake_time
async def test_an_object_that_is_no_longer_wanted_is_no_longer_requested() -> None:
    async with maps() as m:
        m.api.trouble(hang, path="/configmaps/a")
        m.want(A)
        await asyncio.sleep(1)
        m.want()
        await asyncio.sleep(1)
        assert not m.pending()
        assert m.kept.values == {}


@in_fake_time
async def test_a_response_from_before_a_deletion_revives_nothing() -> None:
    async with maps() as m:
        old = m.api.objects.get(SHOP, "a")

        async def slow(_: Any) -> Any:
            from aiohttp import web

            m.api.objects.delete(SHOP, "a")
            await asyncio.sleep(2)
            return web.json_response(old)

        m.api.trouble(slow, path="/configmaps/a", times=1)
        m.want(A)
        await asyncio.sleep(5)
        assert m.kept.values == {}
        assert not m.pending()


@in_fake_time
async def test_a_response_from_before_a_new_list_is_requested_again() -> None:
    async with maps() as m:
        old = m.api.objects.get(SHOP, "a")

        async def slow(_: Any) -> Any:
            from aiohttp import web

            m.api.objects.forget_changes()
            m.api.trouble(410, watch=True, times=1)
            m.api.send("/configmaps", None)
            await asyncio.sleep(2)
            return web.json_response(old)

        m.api.trouble(slow, path="/configmaps/a", times=1)
        m.want(A)
        await asyncio.sleep(5)
        assert len(m.api.asked("GET", "/configmaps/a")) == 2
        assert m.kept.values == {A: "1"}


@in_fake_time
async def test_one_namespace_that_is_forbidden_does_not_affect_another() -> None:
    async with maps("shop", "bank", wanted=(A, B)) as m:
        forbidden = m.api.trouble(403, path="/namespaces/bank/")
        m.api.send("/namespaces/bank/", None)
        await asyncio.sleep(5)
        m.api.objects.change(SHOP, "a", {"data": {"value": "2"}})
        m.api.objects.change(BANK, "b", {"data": {"value": "2"}})
        await asyncio.sleep(1)
        assert m.kept.values == {A: "2", B: "1"}  # what is known is kept
        assert list(m.kept.problems) == ["made up: Forbidden"]
        forbidden.end()
        await asyncio.sleep(2)
        assert m.kept.values == {A: "2", B: "2"}
        assert list(m.kept.problems) == []


@in_fake_time
async def test_an_object_of_a_namespace_that_is_not_watched_is_not_requested() -> None:
    async with maps("shop") as m:
        m.want(A, B)
        await asyncio.sleep(1)
        assert m.kept.values == {A: "1"}
        assert not m.api.asked("GET", "/bank/")
