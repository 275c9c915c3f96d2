"""Invariant: at most one replica holds the Lease at any moment, whatever the API server does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thruway_operator.controller.status.lease import DURATION, Leader, Presence, leases_path
from thruway_testing.plane.fake_api import FakeApi, background, in_fake_time, running
from thruway_testing.plane.fake_api.troubles import cut, failures, hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


LEASES = leases_path("ops")
NAME = "thruway-operator"


class Replica:
    """One replica, which takes part until it stops or is killed."""

    def __init__(self, client: Any, name: str) -> None:
        self.name = name
        self.client = client.twin(name)
        self.changes: list[bool] = []
        self.leader = Leader(self.client, "ops", name, self._note)
        self._task = asyncio.create_task(self.leader.run())

    def _note(self) -> None:
        self.changes.append(self.leader.holds())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@contextlib.asynccontextmanager
async def replicas(*names: str) -> AsyncIterator[tuple[FakeApi, list[Replica]]]:
    async with running() as (api, client):
        found = [Replica(client, name) for name in names]
        try:
            yield api, found
        finally:
            for replica in found:
                await replica.stop()


def holders(found: list[Replica]) -> list[str]:
    return [replica.name for replica in found if replica.leader.holds()]


def holder(api: FakeApi) -> str:
    return str(api.objects.get(LEASES, NAME)["spec"]["holderIdentity"])


@in_fake_time
async def test_one_of_three_holds_it_and_renews() -> None:
    async with replicas("a", "b", "c") as (api, found):
        await asyncio.sleep(1)
        first = holders(found)
        assert len(first) == 1
        await asyncio.sleep(600)
        assert holders(found) == first == [holder(api)]
        assert api.objects.get(LEASES, NAME)["spec"]["leaseTransitions"] == 1
        assert [replica.changes for replica in found if replica.name in first] == [[True]]
        assert [replica.changes for replica in found if replica.name not in first] == [[], []]


@in_fake_time
async def test_a_replica_that_stops_hands_it_over() -> None:
    async with replicas("a", "b") as (api, found):
        await asyncio.sleep(1)
        (old,) = [replica for replica in found if replica.leader.holds()]
        await old.stop()
        assert holder(api) == ""
        assert not old.leader.holds()
        await asyncio.sleep(0.5)
        assert len(holders(found)) == 1
        assert api.objects.get(LEASES, NAME)["spec"]["leaseTransitions"] == 2


OUTAGES = failures("cut", "hang", "403", "429", "500", "garbage")


@pytest.mark.parametrize("name", OUTAGES)
@in_fake_time
async def test_a_holder_that_cannot_renew_gives_up_before_another_may_take_it(name: str) -> None:
    async with replicas("a", "b") as (api, found):
        await asyncio.sleep(1)
        (old,) = [replica for replica in found if replica.leader.holds()]
        (new,) = [replica for replica in found if replica is not old]
        outage = api.trouble(OUTAGES[name], who=old.name)
        async for _ in ticks(DURATION * 3):
            assert len(holders(found)) <= 1
        assert holders(found) == [new.name]
        assert old.changes == [True, False]
        outage.end()
        await asyncio.sleep(30)
        assert holders(found) == [new.name]


@in_fake_time
async def test_a_conflict_is_no_reason_to_believe_that_the_lease_is_ours() -> None:
    async with replicas("a") as (api, found):
        await asyncio.sleep(1)
        assert holders(found) == ["a"]
        lease = api.objects.get(LEASES, NAME)
        api.objects.change(LEASES, NAME, {"spec": lease["spec"] | {"holderIdentity": "thief"}})
        async for _ in ticks(DURATION - 0.3):
            pass
        assert holders(found) == []
        assert holder(api) == "thief"
        await asyncio.sleep(DURATION + 1)  # the thief does not renew
        assert holders(found) == ["a"] == [holder(api)]


@in_fake_time
async def test_a_lease_that_was_deleted_is_created_again() -> None:
    async with replicas("a", "b") as (api, found):
        await asyncio.sleep(1)
        first = holders(found)
        api.objects.delete(LEASES, NAME)
        async for _ in ticks(10):
            assert len(holders(found)) <= 1
        assert len(holders(found)) == 1
        assert holder(api) in holders(found)
        assert first


@in_fake_time
async def test_a_write_whose_response_is_lost_does_not_split_the_replicas() -> None:
    async with replicas("a", "b") as (api, found):
        await asyncio.sleep(1)
        (old,) = [replica for replica in found if replica.leader.holds()]

        async def written_but_lost(request: Any) -> Any:
            body = await request.json()
            api.objects.change(LEASES, NAME, body)
            return await cut(request)

        api.trouble(written_but_lost, method="PUT", who=old.name, times=1)
        async for _ in ticks(10):
            assert len(holders(found)) <= 1
        assert holders(found) == [old.name]


@in_fake_time
async def test_a_replica_that_wakes_up_after_a_suspension_does_not_write() -> None:
    async with running() as (api, client):
        twin = client.twin("a")
        leader = Leader(twin, "ops", "a", lambda: None)
        async with background(leader.run()):
            await api.until(lambda: len(api.asked("POST")) == 1)
            await asyncio.sleep(0.1)
            assert leader.holds()
            # The whole process sleeps: time passes, and none of its timers runs.
            loop: Any = asyncio.get_running_loop()
            loop.selector.now += 60
            assert not leader.holds()
        assert len(api.asked("PUT")) == 0  # it does not release what it no longer holds


async def ticks(seconds: float) -> AsyncIterator[None]:
    """Yield every 50 ms."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.05)
        yield


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", ""]),
            st.sampled_from(sorted(OUTAGES)),
            st.floats(0.05, 6),
        ),
        max_size=8,
    )
)
@in_fake_time
async def test_there_are_never_two_holders(plan: list[tuple[str, str, float]]) -> None:
    async with replicas("a", "b", "c") as (api, found):
        for who, kind, seconds in plan:
            outage = api.trouble(OUTAGES[kind], who=who)
            async for _ in ticks(seconds):
                assert len(holders(found)) <= 1
            outage.end()
        await asyncio.sleep(DURATION * 3)
        assert len(holders(found)) == 1


@in_fake_time
async def test_a_request_that_hangs_delays_no_takeover() -> None:
    async with replicas("a", "b") as (api, found):
        await asyncio.sleep(1)
        (old,) = [replica for replica in found if replica.leader.holds()]
        (new,) = [replica for replica in found if replica is not old]
        api.trouble(hang, who=new.name, times=1)
        await asyncio.sleep(0.5)
        api.trouble(cut, who=old.name)
        await asyncio.sleep(DURATION * 2)
        assert holders(found) == [new.name]


class TestPresence:
    """A replica's own Lease."""

    @staticmethod
    def lease(api: FakeApi) -> dict[str, Any]:
        return api.objects.get(LEASES, "thruway-replica-a")

    @staticmethod
    @contextlib.asynccontextmanager
    async def present(address: str = "10.0.0.1:18000") -> AsyncIterator[FakeApi]:
        async with running() as (api, client):
            async with background(Presence(client, "ops", "a", address).run()):
                await api.until(lambda: bool(api.requests))
                yield api
            assert api.objects.all(LEASES) == []

    @in_fake_time
    async def test_it_is_renewed_and_deleted_at_the_end(self) -> None:
        async with self.present() as api:
            await asyncio.sleep(1)
            first = self.lease(api)
            assert first["metadata"]["annotations"] == {"thruway.dev/address": "10.0.0.1:18000"}
            await asyncio.sleep(60)
            assert int(self.lease(api)["metadata"]["resourceVersion"]) > int(
                first["metadata"]["resourceVersion"]
            )
            assert 70 <= len(api.asked("PUT")) <= 80

    @in_fake_time
    async def test_a_lease_of_an_earlier_process_is_taken_over_with_the_new_address(self) -> None:
        async with running() as (api, client):
            old = {"labels": {}, "annotations": {"thruway.dev/address": "old"}}
            api.objects.create(LEASES, {"metadata": {"name": "thruway-replica-a", **old}})
            async with background(Presence(client, "ops", "a", "new").run()):
                await asyncio.sleep(2)
                metadata = self.lease(api)["metadata"]
                assert metadata["annotations"] == {"thruway.dev/address": "new"}
                assert metadata["labels"] == {"thruway.dev/replica": "true"}

    @pytest.mark.parametrize("name", OUTAGES)
    @in_fake_time
    async def test_it_returns_after_an_outage_in_which_it_was_deleted(self, name: str) -> None:
        async with self.present() as api:
            await asyncio.sleep(1)
            outage = api.trouble(OUTAGES[name])
            await asyncio.sleep(30)
            api.objects.delete(LEASES, "thruway-replica-a")
            outage.end()
            await asyncio.sleep(20)
            assert self.lease(api)["spec"]["holderIdentity"] == "a"

    @in_fake_time
    async def test_a_hung_api_server_does_not_keep_a_replica_from_stopping(self) -> None:
        async with running() as (api, client):
            task = asyncio.create_task(Presence(client, "ops", "a", "x").run())
            await asyncio.sleep(1)
            api.trouble(hang)
            task.cancel()
            started = asyncio.get_running_loop().time()
            await asyncio.gather(task, return_exceptions=True)
            assert asyncio.get_running_loop().time() - started < 1.5

    @in_fake_time
    async def test_a_request_that_hangs_does_not_make_a_replica_look_dead(self) -> None:
        async with self.present() as api:
            await asyncio.sleep(1)
            for _ in range(20):
                api.trouble(hang, times=1)
                before = self.lease(api)
                seen = asyncio.get_running_loop().time()
                await api.until(lambda before=before: self.lease(api) != before)  # type: ignore[misc]
                assert asyncio.get_running_loop().time() - seen < DURATION - 0.2
