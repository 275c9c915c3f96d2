"""Invariant: each transition becomes one Event, a repeated one counts up, and none is a flood."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.controller.status.events import Events, transitions
from thruway_testing.plane.fake_api import FakeApi, background, in_fake_time, running
from thruway_testing.plane.fake_api.troubles import failures, hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


EVENTS = "/api/v1/namespaces/shop/events"
REJECTED = ("Warning", "Rejected", "Envoy rejects it.")


class Posting:
    def __init__(self, api: FakeApi, events: Events) -> None:
        self.api = api
        self.events = events

    def add(self, found: tuple[str, str, str] = REJECTED, *, name: str = "a") -> None:
        self.events.add("shop", name, f"uid-of-{name}", 7, found)

    @property
    def posted(self) -> list[dict[str, Any]]:
        return self.api.objects.all(EVENTS)

    @property
    def counts(self) -> list[int]:
        return [item["count"] for item in self.posted]


@contextlib.asynccontextmanager
async def posting() -> AsyncIterator[Posting]:
    async with running() as (api, client):
        events = Events(client, "replica-1")
        async with background(events.run()):
            yield Posting(api, events)


@in_fake_time
async def test_an_event_names_its_route_and_its_reporter() -> None:
    async with posting() as p:
        p.add(("Warning", "Rejected", "x" * 5_000))
        await asyncio.sleep(1)
        (found,) = p.posted
        about = found["involvedObject"]
        assert (about["kind"], about["namespace"], about["name"], about["uid"]) == (
            "PassthroughRoute",
            "shop",
            "a",
            "uid-of-a",
        )
        assert about["resourceVersion"] == "7"
        assert (found["type"], found["reason"], found["count"]) == ("Warning", "Rejected", 1)
        assert len(found["message"]) == 1_024
        assert found["reportingInstance"] == "replica-1"
        assert found["firstTimestamp"] == found["lastTimestamp"]


@in_fake_time
async def test_the_same_event_counts_up() -> None:
    async with posting() as p:
        for _ in range(5):
            p.add()
            await asyncio.sleep(10)
        assert p.counts == [5]
        p.add(("Normal", "Programmed", "All connected proxies serve it."))
        p.add(name="b")
        await asyncio.sleep(1)
        assert sorted(p.counts) == [1, 1, 5]


@in_fake_time
async def test_an_event_that_has_expired_is_posted_again() -> None:
    async with posting() as p:
        p.add()
        await asyncio.sleep(1)
        p.api.objects.delete(EVENTS, p.posted[0]["metadata"]["name"])
        p.add()
        await asyncio.sleep(1)
        assert p.counts == [1]
        p.add()
        await asyncio.sleep(1)
        assert p.counts == [2]


@in_fake_time
async def test_an_event_that_another_replica_posted_counts_up() -> None:
    async with posting() as p:
        p.add()
        await asyncio.sleep(1)
        p.events._counts.clear()  # as if we had just started
        p.add()
        await asyncio.sleep(1)
        assert p.counts == [2]


@in_fake_time
async def test_a_flood_is_cut_to_ten_a_second() -> None:
    async with posting() as p:
        for number in range(1_000):
            p.add(name=f"r{number:04}")
        await asyncio.sleep(1)
        assert len(p.posted) == 200
        for number in range(1_000, 2_000):
            p.add(name=f"r{number:04}")
        await asyncio.sleep(1)
        assert 205 <= len(p.posted) <= 215
        await asyncio.sleep(60)
        p.add(name="later")
        await asyncio.sleep(1)
        assert any("later" in item["metadata"]["name"] for item in p.posted)


@in_fake_time
async def test_a_hung_api_server_does_not_fill_the_memory() -> None:
    async with posting() as p:
        hung = p.api.trouble(hang)
        for number in range(5_000):
            p.add(name=f"r{number:04}")
            await asyncio.sleep(0.01)
        assert p.events._queue.qsize() <= 1_000
        hung.end()
        await asyncio.sleep(60)
        assert len(p.posted) > 100


TROUBLES = failures("403", "404", "429", "500", "cut", "garbage")


@pytest.mark.parametrize("name", TROUBLES)
@in_fake_time
async def test_a_lost_event_is_logged_and_the_next_one_is_posted(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "thruway")
    async with posting() as p:
        trouble = p.api.trouble(TROUBLES[name])
        p.add()
        await asyncio.sleep(30)
        assert p.posted == []
        assert len([x for x in caplog.messages if x.startswith("an event was lost: ")]) == 1
        trouble.end()
        p.add()
        await asyncio.sleep(1)
        assert p.counts == [1]


@in_fake_time
async def test_the_events_that_are_remembered_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thruway_operator.controller.status.events._KNOWN", 3)
    async with posting() as p:
        for name in "abcdef":
            p.add(name=name)
        await asyncio.sleep(1)
        assert len(p.events._counts) == 3


def status(*conditions: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "conditions": [
            {"type": kind, "status": value, "reason": reason, "message": f"{kind} {reason}"}
            for kind, value, reason in conditions
        ]
    }


GOOD = ("Programmed", "True", "Programmed")


@pytest.mark.parametrize(
    ("before", "now", "reasons"),
    [
        ([], [("Accepted", "True", "Accepted")], ["Accepted"]),
        ([GOOD], [GOOD], []),
        ([], [("ResolvedRefs", "True", "ResolvedRefs")], []),
        (
            [("ResolvedRefs", "False", "SecretNotFound")],
            [("ResolvedRefs", "True", "ResolvedRefs")],
            ["ResolvedRefs"],
        ),
        ([GOOD], [("Programmed", "False", "Rejected")], ["Rejected"]),
        ([GOOD], [("Programmed", "False", "Pending")], []),
        ([GOOD], [("Programmed", "Unknown", "ReplicaSilent")], []),
        ([("Programmed", "True", "NoProxies")], [GOOD], ["Programmed"]),
        ([], [("Ready", "False", "Rejected"), ("Programmed", "False", "Rejected")], ["Rejected"]),
    ],
)
def test_transitions(
    before: list[tuple[str, str, str]], now: list[tuple[str, str, str]], reasons: list[str]
) -> None:
    found = list(transitions(status(*before), status(*now)))
    assert [reason for _, reason, _ in found] == reasons
    assert all(
        kind == ("Warning" if reason == "Rejected" else "Normal") for kind, reason, _ in found
    )
