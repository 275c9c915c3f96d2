"""Invariant: each live replica is heard or silent, and each dead one is soon forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from thruway_operator.controller.status.lease import DURATION, Presence, leases_path
from thruway_operator.controller.status.peers import Login, Peers
from thruway_operator.controller.status.tally import GroupTally, Share, encode
from thruway_testing.plane.fake_api import FakeApi, background, in_fake_time, running
from thruway_testing.plane.fake_api.troubles import cut, failures, hang
from thruway_testing.plane.peer_network import (
    PeerNetwork,
    Stream,
    heartbeat,
    refuses,
    sends,
    silent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from thruway_testing.plane.fake_api.troubles import Response

LEASES = leases_path("ops")
TALLY = GroupTally(2, {"shop/a": Share("d1", 2)})
REPORT = encode({}, {"namespace/shop": TALLY})


class World:
    """One replica, `me`, and others that are as alive and as talkative as the test wants."""

    def __init__(self, api: FakeApi, client: Any, network: PeerNetwork, folder: Path) -> None:
        self.api = api
        self.client = client
        self.network = network
        self.news: list[tuple[str, set[str] | None]] = []
        self.changes = 0
        self.may_write = False
        (folder / "token").write_text("made-up\n")
        (folder / "ca").write_text("CA")
        self.peers = Peers(
            client,
            Login(folder / "token", folder / "ca", "thruway-operator"),
            namespace="ops",
            replica="me",
            on_news=lambda group, routes: self.news.append((group, routes)),
            on_change=self._note,
            may_write=lambda: self.may_write,
        )
        self._alive: dict[str, asyncio.Task[None]] = {}

    def _note(self) -> None:
        self.changes += 1

    def start(self, name: str, stream: Stream | None, *, address: str = "") -> None:
        """Start a replica that renews its Lease; without a stream, it cannot be reached."""
        address = address or f"{name}:18000"
        if stream:
            self.network.replicas[address] = stream
        presence = Presence(self.client.twin(name), "ops", name, address)
        self._alive[name] = asyncio.create_task(presence.run())

    async def stop(self, name: str) -> None:
        task = self._alive.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def kill(self, name: str) -> None:
        """End a replica without a chance to delete its Lease."""
        outage = self.api.trouble(cut, method="DELETE")
        await self.stop(name)
        outage.end()
        self.network.dead.add(f"{name}:18000")

    async def close(self) -> None:
        for name in list(self._alive):
            await self.stop(name)

    def leases(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.api.objects.all(LEASES)]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> PeerNetwork:
    return PeerNetwork(monkeypatch)


@contextlib.asynccontextmanager
async def world(network: PeerNetwork, folder: Path) -> AsyncIterator[World]:
    async with running() as (api, client):
        found = World(api, client, network, folder)
        try:
            async with background(found.peers.run()):
                yield found
        finally:
            await found.close()


@in_fake_time
async def test_what_a_replica_reports_is_known(network: PeerNetwork, tmp_path: Path) -> None:
    async with world(network, tmp_path) as w:
        w.start("b", sends(REPORT, then=heartbeat))
        await asyncio.sleep(2)
        assert w.peers.tallies == [{"namespace/shop": TALLY}]
        assert list(w.peers.silent) == []
        assert w.news == [("namespace/shop", None)]
        assert network.tokens == {"Bearer made-up"}
        await asyncio.sleep(600)
        assert len(network.calls) == 1


@in_fake_time
async def test_it_does_not_listen_to_itself(network: PeerNetwork, tmp_path: Path) -> None:
    async with world(network, tmp_path) as w:
        w.start("me", sends(REPORT, then=heartbeat))
        await asyncio.sleep(10)
        assert w.peers.tallies == []
        assert network.calls == []


@in_fake_time
async def test_a_lease_without_an_address_is_no_replica(
    network: PeerNetwork, tmp_path: Path
) -> None:
    async with world(network, tmp_path) as w:
        labels = {"thruway.dev/replica": "true"}
        w.api.objects.create(LEASES, {"metadata": {"name": "x", "labels": labels}})
        await asyncio.sleep(10)
        assert w.peers.tallies == []


BAD: dict[str, Stream | None] = {
    "unreachable": None,
    "silent": silent,
    "ends": sends(),
    "unauthenticated": refuses(grpc.StatusCode.UNAUTHENTICATED),
    "permission denied": refuses(grpc.StatusCode.PERMISSION_DENIED),
    "not implemented": refuses(grpc.StatusCode.UNIMPLEMENTED),
    "garbage": sends(b"\xff\xfe"),
    "not an object": sends(b"[1]", then=heartbeat),
    "a number": sends(b"7", then=heartbeat),
    "a later version": sends(json.dumps({"version": 2}).encode(), then=heartbeat),
    "half a message": sends(b'{"version": 1, "groups": {"x": {}}, "gone": []}', then=heartbeat),
    "groups of another type": sends(b'{"version": 1, "groups": 3, "gone": []}', then=heartbeat),
}


@pytest.mark.parametrize("name", BAD)
@in_fake_time
async def test_a_live_replica_that_reports_nothing_usable_is_silent_and_logged_once(
    name: str, network: PeerNetwork, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "thruway")
    async with world(network, tmp_path) as w:
        w.start("b", BAD[name])
        await asyncio.sleep(2)
        before = w.changes
        await asyncio.sleep(58)
        assert len(network.calls) <= 60 / 0.3 + 2
        if name != "ends":
            found = [x for x in caplog.messages if "does not report its proxies" in x]
            assert len(found) == 1, found
            assert list(w.peers.silent) == ["b"]
            assert w.changes > before
        network.replicas["b:18000"] = sends(REPORT, then=heartbeat)
        await asyncio.sleep(5)
        assert list(w.peers.silent) == []
        assert w.peers.tallies == [{"namespace/shop": TALLY}]


@in_fake_time
async def test_a_replica_that_falls_silent_keeps_its_last_report(
    network: PeerNetwork, tmp_path: Path
) -> None:
    async with world(network, tmp_path) as w:
        w.start("b", sends(REPORT, then=silent))
        await asyncio.sleep(2)
        assert list(w.peers.silent) == []
        network.replicas["b:18000"] = silent
        await asyncio.sleep(8)
        assert list(w.peers.silent) == ["b"]
        assert w.peers.tallies == [{"namespace/shop": TALLY}]


@in_fake_time
async def test_the_report_of_an_earlier_process_is_dropped(
    network: PeerNetwork, tmp_path: Path
) -> None:
    async with world(network, tmp_path) as w:
        w.start("b", sends(REPORT))
        await asyncio.sleep(2)
        assert w.peers.tallies == [{"namespace/shop": TALLY}]
        other = {"namespace/bank": GroupTally(1)}
        network.replicas["b:18000"] = sends(encode({}, other), then=heartbeat)
        await asyncio.sleep(2)
        assert w.peers.tallies == [other]
        assert ("namespace/shop", None) in w.news


@in_fake_time
async def test_a_replica_that_stops_is_forgotten_at_once(
    network: PeerNetwork, tmp_path: Path
) -> None:
    async with world(network, tmp_path) as w:
        w.start("b", sends(REPORT, then=heartbeat))
        await asyncio.sleep(2)
        await w.stop("b")
        await asyncio.sleep(0.5)
        assert w.peers.tallies == []
        assert w.news[-1] == ("namespace/shop", None)


@in_fake_time
async def test_a_killed_replica_is_forgotten_before_it_counts_as_silent(
    network: PeerNetwork, tmp_path: Path
) -> None:
    async with world(network, tmp_path) as w:
        w.start("b", sends(REPORT, then=heartbeat))
        await asyncio.sleep(2)
        await w.kill("b")
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert list(w.peers.silent) == []
        assert w.peers.tallies == []
        assert w.leases() == ["thruway-replica-b"]
        w.may_write = True
        await asyncio.sleep(6 * DURATION)
        assert w.leases() == []


@pytest.mark.parametrize("trouble", [403, 500, cut, hang], ids=["403", "500", "cut", "hang"])
@in_fake_time
async def test_a_dead_replicas_lease_that_cannot_be_deleted_does_no_harm(
    trouble: Response | int, network: PeerNetwork, tmp_path: Path
) -> None:
    async with world(network, tmp_path) as w:
        w.may_write = True
        w.start("b", sends(REPORT, then=heartbeat))
        w.start("c", sends(REPORT, then=heartbeat))
        await asyncio.sleep(2)
        await w.kill("b")
        outage = w.api.trouble(trouble, method="DELETE")
        await asyncio.sleep(120)
        assert len(w.peers.tallies) == 1
        assert 2 <= outage.met <= 2 * 8
        outage.end()
        await asyncio.sleep(20)
        assert w.leases() == ["thruway-replica-c"]


@in_fake_time
async def test_a_replica_with_a_new_address_is_listened_to_there(
    network: PeerNetwork, tmp_path: Path
) -> None:
    async with world(network, tmp_path) as w:
        w.start("b", sends(REPORT, then=heartbeat))
        await asyncio.sleep(2)
        await w.kill("b")
        other = {"namespace/bank": GroupTally(1)}
        w.start("b", sends(encode({}, other), then=heartbeat), address="elsewhere:18000")
        await asyncio.sleep(2)
        assert w.peers.tallies == [other]
        assert network.calls == ["b:18000", "elsewhere:18000"]


OUTAGES = failures("403", "503", "cut", "garbage")


@pytest.mark.parametrize("name", OUTAGES)
@in_fake_time
async def test_while_leases_cannot_be_seen_nobody_is_forgotten(
    name: str, network: PeerNetwork, tmp_path: Path
) -> None:
    async with world(network, tmp_path) as w:
        w.may_write = True
        w.start("b", sends(REPORT, then=heartbeat))
        await asyncio.sleep(2)
        outage = w.api.trouble(OUTAGES[name])
        w.api.send("/leases", None)
        await asyncio.sleep(300)
        assert w.peers.tallies == [{"namespace/shop": TALLY}]
        outage.end()
        await asyncio.sleep(30)
        assert w.peers.tallies == [{"namespace/shop": TALLY}]
        assert w.leases() == ["thruway-replica-b"]


@in_fake_time
async def test_a_file_that_is_missing_is_logged_and_read_again(
    network: PeerNetwork, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "thruway")
    async with world(network, tmp_path) as w:
        (tmp_path / "token").unlink()
        w.start("b", sends(REPORT, then=heartbeat))
        await asyncio.sleep(10)
        assert list(w.peers.silent) == ["b"]
        assert "No such file or directory" in caplog.text
        (tmp_path / "token").write_text("new")
        await asyncio.sleep(2)
        assert list(w.peers.silent) == []
        assert network.tokens == {"Bearer new"}
