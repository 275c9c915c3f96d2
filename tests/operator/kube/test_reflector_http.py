"""Invariant: whatever a list or watch meets, the reflector ends up with what the server has."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.kube.reflector import Reflector
from thruway_testing.plane.fake_api import FakeApi, background, in_fake_time, running
from thruway_testing.plane.fake_api.troubles import cut, event, hang, raw, refusal, then_cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from thruway_testing.plane.fake_api.troubles import Response

MAPS = "/api/v1/namespaces/shop/configmaps"
ALL = "/api/v1/configmaps"


def item(name: str, value: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"value": value}}


class Following:
    """A reflector that runs against a fake API server, and what it reported."""

    def __init__(self, api: FakeApi, reflector: Reflector[str]) -> None:
        self.api = api
        self.reflector = reflector
        self.problems: list[str | None] = []

    @property
    def values(self) -> dict[str, str]:
        return {key[1]: value for key, value in self.reflector.items.items()}

    def server_values(self) -> dict[str, str]:
        return {i["metadata"]["name"]: i["data"]["value"] for i in self.api.objects.all(ALL)}

    async def agrees(self, within: float = 2.0) -> None:
        """Wait, and check that the reflector has what the server has."""
        await asyncio.sleep(within)
        assert self.values == self.server_values()

    @property
    def lists(self) -> int:
        return len(self.api.asked("GET", watch=False))


@contextlib.asynccontextmanager
async def following(*, first: bool = True, **options: Any) -> AsyncIterator[Following]:
    async with running() as (api, client):
        api.objects.create(MAPS, item("a", "1"))
        reflector = Reflector(
            client,
            ALL,
            lambda _, found: str(found.get("data", {}).get("value", "no data")),
            lambda _: None,
            on_problem=lambda: found.problems.append(found.reflector.problem),
            **options,
        )
        found = Following(api, reflector)
        async with background(reflector.run()):
            if first:
                await reflector.synced.wait()
                await api.until(lambda: bool(api.watches))
            yield found


@in_fake_time
async def test_it_follows_changes_without_listing_again() -> None:
    async with following() as f:
        f.api.objects.create(MAPS, item("b", "1"))
        f.api.objects.change(MAPS, "a", {"data": {"value": "2"}})
        await f.agrees()
        f.api.objects.delete(MAPS, "a")
        await f.agrees()
        assert f.lists == 1
        assert f.problems == []


@in_fake_time
async def test_a_quiet_day_is_a_few_watches_and_one_list() -> None:
    async with following() as f:
        await asyncio.sleep(86_400)
        assert len(f.api.asked(watch=True)) == pytest.approx(86_400 / 290, rel=0.02)
        f.api.objects.change(MAPS, "a", {"data": {"value": "2"}})
        await f.agrees()
        assert f.lists == 1
        assert f.problems == []


@in_fake_time
async def test_a_large_list_arrives_in_pages() -> None:
    async with running() as (api, client):
        for number in range(1_201):
            api.objects.create(MAPS, item(f"m{number:04}", "1"))
        reflector = Reflector(client, ALL, lambda _, found: str(found), lambda _: None)
        async with background(reflector.run()):
            await reflector.synced.wait()
            assert len(reflector.items) == 1_201
            assert [seen.query.get("continue") for seen in api.asked(watch=False)] == [
                None,
                "500",
                "1000",
            ]


@in_fake_time
async def test_a_list_that_expires_between_pages_starts_again() -> None:
    async with running() as (api, client):
        for number in range(501):
            api.objects.create(MAPS, item(f"m{number:04}", "1"))
        reflector = Reflector(client, ALL, lambda _, found: str(found), lambda _: None)

        expired = api.trouble(410, path=ALL)
        async with background(reflector.run()):
            await asyncio.sleep(1)
            assert not reflector.synced.is_set()
            assert 3 <= expired.met <= 21  # not in a busy loop
            expired.end()
            await reflector.synced.wait()
            assert len(reflector.items) == 501


@in_fake_time
async def test_only_metadata_is_requested_if_that_is_enough() -> None:
    async with following(metadata_only=True) as f:
        f.api.objects.create(MAPS, item("b", "1"))
        await asyncio.sleep(1)
        assert f.values == {"a": "no data", "b": "no data"}


UNREADABLE = [
    b"",
    b"{}",
    b"[]",
    b"<html>Bad Gateway</html>",
    b"\xff\xfe",
    b'{"metadata": null, "items": []}',
    b'{"metadata": {"resourceVersion": "new"}, "items": []}',
    b'{"metadata": {"resourceVersion": "9"}, "items": [{}]}',
    b'{"metadata": {"resourceVersion": "9"}, "items": [null]}',
    b'{"metadata": {"resourceVersion": "9"}, "items": 7}',
]


@pytest.mark.parametrize("body", UNREADABLE)
@in_fake_time
async def test_a_list_that_cannot_be_read_is_a_problem_and_is_requested_again(
    body: bytes,
) -> None:
    async with following(first=False) as f:
        garbage = f.api.trouble(raw(body), watch=False)
        await asyncio.sleep(5)
        assert f.reflector.problem is not None
        assert f.reflector.problem.endswith("cannot be read")
        assert not f.reflector.synced.is_set()
        assert garbage.met < 25
        garbage.end()
        await f.agrees()
        assert len(f.problems) == 2
        assert f.problems[-1] is None


@pytest.mark.parametrize(
    "line",
    [
        b"<html>\n",
        b"\xff\n",
        b"[]\n",
        b"{}\n",
        b"null\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": null}\n',
        event("ADDED", {"metadata": {"name": "x"}}),
        event("ADDED", {"metadata": {"name": "x", "resourceVersion": "soon"}}),
        event("BOOKMARK", {"metadata": {}}),
        event("ERROR", None),
        event("ERROR", {"code": "bad"}),
    ],
)
@in_fake_time
async def test_a_line_that_cannot_be_read_takes_nothing_away(line: bytes) -> None:
    async with following() as f:
        f.api.send(ALL, line)
        await asyncio.sleep(0.01)
        assert f.problems[:1] == ["the API server's response to a watch cannot be read"]
        assert f.values == {"a": "1"}
        f.api.objects.change(MAPS, "a", {"data": {"value": "2"}})
        await f.agrees()
        assert f.reflector.problem is None


@pytest.mark.parametrize("gone", ["response", "event"])
@in_fake_time
async def test_after_410_it_lists_and_notices_what_vanished(gone: str) -> None:
    async with following() as f:
        f.api.objects.create(MAPS, item("b", "1"))
        await f.agrees()
        outage = f.api.trouble(cut)
        f.api.send(ALL, None)
        await asyncio.sleep(1)
        f.api.objects.delete(MAPS, "a")
        f.api.objects.forget_changes()
        if gone == "event":
            error = event("ERROR", {"code": 410, "reason": "Expired", "message": "too old"})
            f.api.trouble(raw(error), watch=True, times=1)
        outage.end()
        await f.agrees()
        assert f.values == {"b": "1"}
        assert f.lists > 1


@in_fake_time
async def test_a_server_that_expires_every_version_is_not_flooded() -> None:
    async with following() as f:
        f.api.trouble(410, watch=True)
        f.api.send(ALL, None)
        await asyncio.sleep(10)
        assert len(f.api.requests) <= 2 * 10 / 0.05 + 2
        assert f.values == {"a": "1"}


@in_fake_time
async def test_watches_that_end_at_once_are_not_restarted_in_a_busy_loop() -> None:
    async with following() as f:
        f.api.trouble(raw(b""), watch=True)
        f.api.send(ALL, None)
        await asyncio.sleep(10)
        assert len(f.api.asked(watch=True)) <= 110


OUTAGES: dict[str, Response] = {
    "hangs": hang,
    "closes": cut,
    "breaks off": then_cut(b'{"type": "ADDED", "object": {"meta'),
    "401": refusal(401),
    "403": refusal(403),
    "429": refusal(429),
    "500": refusal(500),
    "503": refusal(503),
}


@pytest.mark.parametrize("name", OUTAGES)
@in_fake_time
async def test_during_an_outage_everything_known_is_kept(name: str) -> None:
    async with following() as f:
        outage = f.api.trouble(OUTAGES[name])
        f.api.send(ALL, None)
        await asyncio.sleep(100)
        assert f.values == {"a": "1"}
        assert f.reflector.problem is not None
        assert "\n" not in f.reflector.problem
        # At most about once a second; aiohttp itself tries again on a connection that was reused.
        assert outage.met <= 2 * 160
        f.api.objects.delete(MAPS, "a")
        f.api.objects.create(MAPS, item("b", "1"))
        outage.end()
        await f.agrees(80)  # a hung watch ends after 75 seconds of silence
        assert f.reflector.problem is None


@in_fake_time
async def test_the_same_problem_is_reported_once() -> None:
    async with following(first=False) as f:
        outage = f.api.trouble(403)
        await asyncio.sleep(60)
        assert f.problems == ["made up: Forbidden"]
        outage.end()
        outage = f.api.trouble(503, times=3)
        await asyncio.sleep(10)
        assert f.problems == ["made up: Forbidden", "made up: ServiceUnavailable", None]


@in_fake_time
async def test_a_silent_watch_is_replaced() -> None:
    async with following() as f:
        f.api.trouble(_silent, watch=True, times=1)
        f.api.send(ALL, None)
        await asyncio.sleep(1)
        f.api.objects.change(MAPS, "a", {"data": {"value": "2"}})
        await asyncio.sleep(60)
        assert f.values == {"a": "1"}
        await f.agrees(20)


async def _silent(request: Any) -> Any:
    from aiohttp import web

    response = web.StreamResponse()
    await response.prepare(request)
    await asyncio.Event().wait()
    return response


@in_fake_time
async def test_one_object_that_cannot_be_converted_is_a_bug_that_shows() -> None:
    async with running() as (api, client):
        api.objects.create(MAPS, item("a", "1"))

        def broken(_: object, __: object) -> str:
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            await Reflector(client, ALL, broken, lambda _: None).run()


def test_events_are_lines() -> None:
    assert json.loads(event("ADDED", {})) == {"type": "ADDED", "object": {}}
