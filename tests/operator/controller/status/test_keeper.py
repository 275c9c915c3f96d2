"""Invariant: statuses say what all replicas' proxies hold, and one replica writes them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.controller.status.keeper import StatusKeeper
from thruway_operator.controller.status.lease import leases_path
from thruway_operator.controller.status.observed import Observed
from thruway_operator.resources.identity import Identity
from thruway_operator.translate import Condition, Verdict
from thruway_operator.xds.protocol.publisher import FragmentStatus, GroupStatus
from thruway_testing.plane.fake_api import FakeApi, in_fake_time, running
from thruway_testing.plane.fake_api.troubles import cut, hang
from thruway_testing.plane.peer_network import PeerNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Start = Callable[..., AbstractAsyncContextManager[tuple["World", list["Replica"]]]]

ROUTES = "/apis/thruway.dev/v1alpha1/namespaces/shop/passthroughroutes"
EVENTS = "/api/v1/namespaces/shop/events"
GROUP = "namespace/shop"
ACCEPTED = Condition("Accepted", True, "Accepted", "Fine.")
RESOLVED = Condition("ResolvedRefs", True, "ResolvedRefs", "Fine.")


@dataclass
class FakeXds:
    """A replica's proxies."""

    connected: int = 0
    holding: int = 0
    rejected: str | None = None
    routes: list[str] = field(default_factory=list)

    def status(self, _: str) -> GroupStatus:
        fragments = {
            name: FragmentStatus(self.holding, self.holding == self.connected > 0, self.rejected)
            for name in self.routes
        }
        return GroupStatus(self.connected, 1, True, fragments, None)


async def friend(_: Any) -> Identity:
    return Identity("ops", "operator", "pod", "uid")


class Replica:
    """One replica's keeper, and a task that passes it every change of a route."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.xds = FakeXds()
        self._known: dict[str, Observed] = {}
        fake: Any = self.xds
        self.keeper = StatusKeeper(
            world.client.twin(name),
            replica=name,
            namespace="ops",
            service_account="operator",
            address=f"{name}:18000",
            xds=fake,
            token_file=world.folder / "token",
            ca_file=world.folder / "ca",
            authenticate=friend,
        )
        nobody: Any = None
        world.network.replicas[f"{name}:18000"] = lambda: self.keeper._telling._watch(b"", nobody)
        self._tasks = {
            asyncio.create_task(self.keeper.run()),
            asyncio.create_task(self._follow()),
        }

    async def _follow(self) -> None:
        while True:
            found = {}
            for item in self.world.api.objects.all(ROUTES):
                id_ = f"shop/{item['metadata']['name']}"
                version = int(item["metadata"]["resourceVersion"])
                before = self._known.get(id_)
                same = before is not None and before.resource_version == version
                found[id_] = before if before and same else observed(item)
            self._known = found
            self.xds.routes = list(found)
            self.keeper.observe(found)
            await self.world.api.objects.next_change()

    def proxies(self, connected: int, holding: int, rejected: str | None = None) -> None:
        self.xds.connected, self.xds.holding, self.xds.rejected = connected, holding, rejected
        self.keeper.tally_changed(GROUP)

    @property
    def leads(self) -> bool:
        return self.keeper.is_leader

    @property
    def running(self) -> bool:
        return not any(task.done() for task in self._tasks)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def observed(item: dict[str, Any]) -> Observed:
    metadata = item["metadata"]
    generation = int(metadata["generation"])
    path = item["spec"]["path"]
    return Observed(
        uid=metadata["uid"],
        generation=generation,
        resource_version=int(metadata["resourceVersion"]),
        status=item.get("status") or {},
        verdict=Verdict(f"shop/{metadata['name']}", generation, ACCEPTED, RESOLVED),
        problem="",
        url=f"http://127.0.0.1:4000{path}",
        upstream="https://api.example.com",
        digests={GROUP: path},
    )


class World:
    def __init__(self, api: FakeApi, client: Any, network: PeerNetwork, folder: Path) -> None:
        self.api = api
        self.client = client
        self.network = network
        self.folder = folder
        (folder / "token").write_text("made-up")
        (folder / "ca").write_text("CA")
        self.replicas: list[Replica] = []

    def start(self, name: str) -> Replica:
        self.replicas.append(Replica(self, name))
        return self.replicas[-1]

    async def kill(self, replica: Replica) -> None:
        """End a replica without a chance to release its Leases."""
        outage = self.api.trouble(cut, who=replica.name)
        self.network.dead.add(f"{replica.name}:18000")
        await replica.stop()
        self.replicas.remove(replica)
        outage.end()

    def programmed(self, name: str = "a") -> tuple[str, str]:
        status = self.api.objects.get(ROUTES, name).get("status") or {}
        for item in status.get("conditions", ()):
            if item["type"] == "Programmed":
                return item["status"], item["reason"]
        return "", ""

    def writes(self) -> int:
        return len(self.api.asked("PATCH", "/status"))

    def events(self) -> list[str]:
        return [item["reason"] for item in self.api.objects.all(EVENTS)]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    """A function that starts these replicas."""
    return functools.partial(_world, monkeypatch, tmp_path)


@contextlib.asynccontextmanager
async def _world(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str
) -> AsyncIterator[tuple[World, list[Replica]]]:
    async with running() as (api, client):
        api.objects.create(ROUTES, {"metadata": {"name": "a"}, "spec": {"path": "/a"}})
        found = World(api, client, PeerNetwork(monkeypatch), folder)
        for name in names:
            found.start(name)
        try:
            await asyncio.sleep(2)
            yield found, list(found.replicas)
            assert all(replica.running for replica in found.replicas)
        finally:
            for replica in found.replicas:
                await replica.stop()


GOOD = ("True", "Programmed")


@in_fake_time
async def test_a_route_without_proxies_is_written_once_by_one_replica(world: Start) -> None:
    async with world("x", "y") as (w, replicas):
        assert w.programmed() == ("Unknown", "Pending")  # they may still reconnect
        assert [replica.leads for replica in replicas].count(True) == 1
        await asyncio.sleep(60)
        assert w.programmed() == ("True", "NoProxies")
        assert w.writes() == 2
        status = w.api.objects.get(ROUTES, "a")["status"]
        assert status["url"] == "http://127.0.0.1:4000/a"
        assert status["proxies"] == {"connected": 0, "programmed": 0}


@in_fake_time
async def test_programmed_counts_the_proxies_of_all_replicas(world: Start) -> None:
    async with world("x", "y") as (w, (x, y)):
        x.proxies(2, 2)
        y.proxies(1, 1)
        await asyncio.sleep(6)
        assert w.programmed() == GOOD
        assert w.api.objects.get(ROUTES, "a")["status"]["proxies"] == {
            "connected": 3,
            "programmed": 3,
        }
        assert "Programmed" in w.events()


@in_fake_time
async def test_a_proxy_that_lags_on_either_replica_counts_after_a_while(world: Start) -> None:
    async with world("x", "y") as (w, (x, y)):
        x.proxies(1, 1)
        y.proxies(1, 1)
        await asyncio.sleep(20)
        for lagging in (x, y):
            lagging.proxies(2, 1)
            await asyncio.sleep(4)
            assert w.programmed() == GOOD  # a new proxy gets a few seconds
            await asyncio.sleep(8)
            assert w.programmed() == ("False", "Pending")
            lagging.proxies(2, 2)
            await asyncio.sleep(10)
            assert w.programmed() == GOOD


@in_fake_time
async def test_a_new_generation_is_not_programmed_before_it_is_held(world: Start) -> None:
    async with world("x", "y") as (w, (x, y)):
        x.proxies(1, 1)
        await asyncio.sleep(20)
        w.api.objects.change(ROUTES, "a", {"spec": {"path": "/new"}})
        x.proxies(1, 0)
        await asyncio.sleep(10)
        assert w.programmed() == ("False", "Pending")
        x.proxies(1, 1)
        await asyncio.sleep(6)
        assert w.programmed() == GOOD
        assert w.api.objects.get(ROUTES, "a")["status"]["observedGeneration"] == 2
        assert y.running


@in_fake_time
async def test_a_rejection_by_a_proxy_of_another_replica_is_reported(world: Start) -> None:
    async with world("x", "y") as (w, replicas):
        (other,) = [replica for replica in replicas if not replica.leads]
        other.proxies(1, 0, "no such filter")
        await asyncio.sleep(6)
        assert w.programmed() == ("False", "Rejected")
        conditions = w.api.objects.get(ROUTES, "a")["status"]["conditions"]
        assert "no such filter" in conditions[-1]["message"]
        assert w.events().count("Rejected") == 1


@in_fake_time
async def test_when_the_holder_dies_the_other_goes_on_and_forgets_its_proxies(world: Start) -> None:
    async with world("x", "y") as (w, replicas):
        for replica in replicas:
            replica.proxies(1, 1)
        await asyncio.sleep(20)
        before = w.writes()
        (old,) = [replica for replica in replicas if replica.leads]
        (new,) = [replica for replica in replicas if replica is not old]
        await w.kill(old)
        new.proxies(2, 2)  # its proxy moves over
        await asyncio.sleep(20)
        assert new.leads
        # It may lead for a moment before it forgets the other's proxy, and count three.
        written = [seen.body["status"] for seen in w.api.asked("PATCH", "/status")[before:]]
        assert [status["proxies"]["connected"] for status in written] in ([], [3, 2])
        conditions = [item for status in written for item in status["conditions"]]
        assert {item["status"] for item in conditions} <= {"True"}
        assert w.programmed() == GOOD
        w.api.objects.create(ROUTES, {"metadata": {"name": "b"}, "spec": {"path": "/b"}})
        await asyncio.sleep(5)
        assert w.programmed("b") == GOOD


@in_fake_time
async def test_a_live_replica_that_reports_nothing_makes_it_unknown_and_a_dead_one_does_not(
    world: Start,
) -> None:
    async with world("x", "y") as (w, replicas):
        for replica in replicas:
            replica.proxies(1, 1)
        await asyncio.sleep(20)
        (mute,) = [replica for replica in replicas if not replica.leads]
        w.network.dead.add(f"{mute.name}:18000")
        await asyncio.sleep(15)
        assert w.programmed() == ("Unknown", "ReplicaSilent")
        await w.kill(mute)
        await asyncio.sleep(15)
        assert w.programmed() == GOOD


@in_fake_time
async def test_after_a_restart_proxies_may_reconnect_before_they_count_as_missing(
    world: Start,
) -> None:
    async with world("x") as (w, (x,)):
        x.proxies(1, 1)
        await asyncio.sleep(20)
        writes = w.writes()
        await w.kill(x)
        w.network.dead.clear()
        y = w.start("x")
        await asyncio.sleep(6)
        assert y.leads
        y.proxies(1, 1)
        await asyncio.sleep(60)
        assert w.programmed() == GOOD
        assert w.writes() == writes


@in_fake_time
async def test_proxies_that_do_not_return_are_missed(world: Start) -> None:
    async with world("x") as (w, (x,)):
        x.proxies(1, 1)
        await asyncio.sleep(20)
        await w.kill(x)
        w.network.dead.clear()
        w.start("x")
        await asyncio.sleep(20)
        assert w.programmed() == ("True", "NoProxies")


@in_fake_time
async def test_a_restart_does_not_touch_a_route_without_proxies(world: Start) -> None:
    async with world("x") as (w, (x,)):
        await asyncio.sleep(20)
        writes = w.writes()
        await w.kill(x)
        w.network.dead.clear()
        w.start("x")
        await asyncio.sleep(20)
        assert w.programmed() == ("True", "NoProxies")
        assert w.writes() == writes


@in_fake_time
async def test_the_first_proxy_gets_a_moment_and_then_the_route_is_not_ready(
    world: Start,
) -> None:
    async with world("x") as (w, (x,)):
        await asyncio.sleep(20)
        x.proxies(1, 0)
        await asyncio.sleep(4.5)
        assert w.programmed() == ("True", "NoProxies")
        await asyncio.sleep(5)
        assert w.programmed() == ("False", "Pending")
        x.proxies(1, 1)
        await asyncio.sleep(6)
        assert w.programmed() == GOOD


@in_fake_time
async def test_a_status_that_somebody_else_changes_is_restored(world: Start) -> None:
    async with world("x", "y") as (w, (x, _)):
        x.proxies(1, 1)
        await asyncio.sleep(10)
        before = w.api.objects.get(ROUTES, "a")["status"]
        w.api.objects.change(ROUTES, "a", {"status": {}})
        await asyncio.sleep(10)
        after = w.api.objects.get(ROUTES, "a")["status"]
        assert [c["reason"] for c in after["conditions"]] == [
            c["reason"] for c in before["conditions"]
        ]


@in_fake_time
async def test_a_route_that_is_recreated_gets_a_status_of_its_own(world: Start) -> None:
    async with world("x") as (w, (x,)):
        x.proxies(1, 1)
        await asyncio.sleep(10)
        w.api.objects.delete(ROUTES, "a")
        w.api.objects.create(ROUTES, {"metadata": {"name": "a"}, "spec": {"path": "/a"}})
        await asyncio.sleep(10)
        assert w.programmed() == GOOD


@in_fake_time
async def test_while_the_api_server_is_away_nothing_ends_and_then_all_is_written(
    world: Start,
) -> None:
    async with world("x", "y") as (w, (x, y)):
        for trouble in (503, cut, hang):
            outage = w.api.trouble(trouble)
            w.api.send("", None)
            x.proxies(1, 0)
            y.proxies(1, 0)
            await asyncio.sleep(40)
            assert not x.leads
            assert not y.leads
            outage.end()
            await asyncio.sleep(45)
            assert w.programmed() == ("False", "Pending")
            x.proxies(1, 1)
            y.proxies(1, 1)
            await asyncio.sleep(45)
            assert w.programmed() == GOOD


@in_fake_time
async def test_stopping_releases_the_leases(world: Start) -> None:
    async with world("x") as (w, (x,)):
        await x.stop()
        (lease,) = w.api.objects.all(leases_path("ops"))
        assert lease["metadata"]["name"] == "thruway-operator"
        assert lease["spec"]["holderIdentity"] == ""
        w.replicas.clear()


@in_fake_time
async def test_stopping_while_the_api_server_hangs_takes_two_seconds_at_most(world: Start) -> None:
    async with world("x") as (w, (x,)):
        w.api.trouble(hang)
        started = asyncio.get_running_loop().time()
        await x.stop()
        assert asyncio.get_running_loop().time() - started <= 2
        w.replicas.clear()
