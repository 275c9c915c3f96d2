"""Invariant: only the holder writes a status, only when it changes, at a limited rate."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.controller.status.writer import REST, SETTLE, Target, Writer
from thruway_testing.plane.fake_api import FakeApi, Seen, background, in_fake_time, running
from thruway_testing.plane.fake_api.troubles import failures, hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


ROUTES = "/apis/thruway.dev/v1alpha1/namespaces/shop/passthroughroutes"


class Routes:
    """Routes with a wanted status each, and a writer that brings them there."""

    def __init__(self, api: FakeApi, client: Any) -> None:
        self.api = api
        self.holds = True
        self.wanted: dict[str, dict[str, Any]] = {}
        self.written: list[str] = []
        self.writer = Writer(client, self._desired, self._written, lambda: self.holds)

    def _desired(self, route: str) -> tuple[dict[str, Any], Target] | None:
        name = route.partition("/")[2]
        found = [i for i in self.api.objects.all(ROUTES) if i["metadata"]["name"] == name]
        if not found or found[0].get("status") == self.wanted[route]:
            return None
        return self.wanted[route], ("shop", name, int(found[0]["metadata"]["resourceVersion"]))

    def _written(self, route: str, answer: dict[str, Any]) -> None:
        assert answer["status"] == self.wanted[route]
        self.written.append(route)

    def want(self, name: str, value: int) -> None:
        self.wanted[f"shop/{name}"] = {"value": value}
        self.writer.mark([f"shop/{name}"])

    def status(self, name: str) -> Any:
        return self.api.objects.get(ROUTES, name).get("status")

    @property
    def writes(self) -> list[Seen]:
        return self.api.asked("PATCH")


@contextlib.asynccontextmanager
async def routes(*names: str) -> AsyncIterator[Routes]:
    async with running() as (api, client):
        for name in names:
            api.objects.create(ROUTES, {"metadata": {"name": name}})
        found = Routes(api, client)
        async with background(found.writer.run()):
            yield found


@in_fake_time
async def test_a_change_is_applied_soon_and_once() -> None:
    async with routes("a") as r:
        r.want("a", 1)
        await asyncio.sleep(SETTLE + 0.05)
        assert r.status("a") == {"value": 1}
        (write,) = r.writes
        assert write.query == {"fieldManager": "thruway-operator", "force": "true"}
        assert write.headers["Content-Type"] == "application/apply-patch+yaml"
        assert write.path == f"{ROUTES}/a/status"
        await asyncio.sleep(600)
        assert len(r.writes) == 1
        assert r.written == ["shop/a"]


@in_fake_time
async def test_what_has_not_changed_is_not_written() -> None:
    async with routes("a") as r:
        r.want("a", 1)
        await asyncio.sleep(10)
        for _ in range(50):
            r.want("a", 1)
            await asyncio.sleep(1)
        assert len(r.writes) == 1


@in_fake_time
async def test_a_change_that_is_undone_in_time_is_not_written() -> None:
    async with routes("a") as r:
        r.want("a", 1)
        await asyncio.sleep(10)
        r.want("a", 2)
        await asyncio.sleep(SETTLE / 2)
        r.want("a", 1)
        await asyncio.sleep(10)
        assert len(r.writes) == 1


@in_fake_time
async def test_a_route_that_changes_all_the_time_is_written_now_and_then() -> None:
    async with routes("a") as r:
        for number in range(600):
            r.want("a", number)
            await asyncio.sleep(0.1)
        times = [write.at for write in r.writes]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert min(gaps) >= REST - 0.01
        assert max(gaps) <= REST + 1
        assert len(times) == pytest.approx(60 / REST, abs=2)
        await asyncio.sleep(REST + 1)
        assert r.status("a") == {"value": 599}


@in_fake_time
async def test_one_route_does_not_wait_for_another() -> None:
    async with routes("a", "b") as r:
        r.api.trouble(hang, path="/a/status")
        r.want("a", 1)
        await asyncio.sleep(1)
        r.want("b", 1)
        await asyncio.sleep(1)
        assert r.status("b") == {"value": 1}


@in_fake_time
async def test_few_writes_run_at_the_same_time() -> None:
    names = [f"r{number}" for number in range(100)]
    async with routes(*names) as r:
        hung = r.api.trouble(hang)
        for name in names:
            r.want(name, 1)
        await asyncio.sleep(5)
        assert hung.met == 16
        hung.end()
        await asyncio.sleep(60)
        assert all(r.status(name) == {"value": 1} for name in names)


@in_fake_time
async def test_without_the_lease_nothing_is_written_and_later_everything() -> None:
    async with routes("a", "b") as r:
        r.holds = False
        r.want("a", 1)
        r.want("b", 1)
        await asyncio.sleep(600)
        assert r.writes == []
        r.holds = True
        await asyncio.sleep(1)
        assert len(r.writes) == 2


@in_fake_time
async def test_a_lease_lost_while_writes_wait_stops_them() -> None:
    names = [f"r{number}" for number in range(40)]
    async with routes(*names) as r:
        slow = r.api.trouble(hang)
        for name in names:
            r.want(name, 1)
        await asyncio.sleep(5)
        r.holds = False
        slow.end()
        await asyncio.sleep(60)
        assert len(r.writes) == 16  # those that had begun
        r.holds = True
        await asyncio.sleep(60)
        assert all(r.status(name) == {"value": 1} for name in names)


@in_fake_time
async def test_after_a_conflict_the_newer_object_is_written() -> None:
    async with routes("a") as r:

        async def changed_meanwhile(request: Any) -> Any:
            from thruway_testing.plane.fake_api.troubles import status

            r.api.objects.change(ROUTES, "a", {"spec": {"path": "/new"}})
            return status(409)

        r.api.trouble(changed_meanwhile, method="PATCH", times=1)
        r.want("a", 1)
        await asyncio.sleep(2)
        assert r.status("a") == {"value": 1}
        first, second = (int(w.body["metadata"]["resourceVersion"]) for w in r.writes)
        assert second > first


@in_fake_time
async def test_a_stale_status_never_replaces_a_newer_one() -> None:
    async with routes("a") as r:
        stale = r.api.objects.get(ROUTES, "a")
        r.api.objects.change(ROUTES, "a", {"status": {"by": "the new holder"}})
        target = ("shop", "a", int(stale["metadata"]["resourceVersion"]))
        writer = Writer(
            r.writer._client, lambda _: ({"by": "us"}, target), r._written, lambda: True
        )
        writer.mark(["shop/a"])
        async with background(writer.run()):
            await asyncio.sleep(30)
            assert r.status("a") == {"by": "the new holder"}


@in_fake_time
async def test_a_deleted_route_is_forgotten() -> None:
    async with routes("a", "b") as r:
        r.api.trouble(404, path="/a/status")
        r.want("a", 1)
        await asyncio.sleep(60)
        assert len(r.writes) == 1
        r.want("b", 1)
        r.writer.forget("shop/b")
        await asyncio.sleep(60)
        assert len(r.writes) == 1


OUTAGES = failures("403", "422", "429", "500", "503", "cut", "garbage")


@pytest.mark.parametrize("name", OUTAGES)
@in_fake_time
async def test_a_failed_write_is_repeated_ever_more_rarely_and_logged_once(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with routes("a", "b") as r:
        outage = r.api.trouble(OUTAGES[name])
        r.want("a", 1)
        r.want("b", 1)
        await asyncio.sleep(3_600)
        assert 2 * 100 <= outage.met <= 2 * 140
        assert len([x for x in caplog.messages if "cannot be written" in x]) == 1
        outage.end()
        await asyncio.sleep(31)
        assert r.status("a") == r.status("b") == {"value": 1}


@in_fake_time
async def test_one_namespace_that_rejects_writes_does_not_hold_up_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with routes("a", "b") as r:
        r.api.trouble(403, path="/a/status")
        for number in range(10):
            r.want("a", number)
            r.want("b", number)
            await asyncio.sleep(REST + SETTLE)
            assert r.status("b") == {"value": number}
        assert "the API server rejects that of shop/a: made up: Forbidden" in caplog.text


@in_fake_time
async def test_stopping_leaves_no_write_behind() -> None:
    async with routes("a") as r:
        r.api.trouble(hang)
        r.want("a", 1)
        await asyncio.sleep(1)
        assert len(r.writes) == 1
