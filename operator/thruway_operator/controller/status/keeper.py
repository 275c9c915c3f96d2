"""Combines observed routes, the reports about all replicas' proxies, and the writer."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.controller.status.clock import monotonic
from thruway_operator.controller.status.conditions import (
    Proxies,
    count,
    programmed_reason,
    status_of,
    was_programmed,
)
from thruway_operator.controller.status.events import Events, transitions
from thruway_operator.controller.status.lease import Leader, Presence
from thruway_operator.controller.status.peer_server import PeerServer
from thruway_operator.controller.status.peers import Login, Peers
from thruway_operator.controller.status.tally import GroupTally, changes
from thruway_operator.controller.status.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import grpc

    from thruway_operator.controller.status.observed import Observed
    from thruway_operator.controller.status.writer import Target
    from thruway_operator.kube import KubeClient
    from thruway_operator.xds import XdsServer
    from thruway_operator.xds.server import Authenticate

__all__ = ["StatusKeeper"]

_COALESCE: Final = 0.05
"""Seconds for which changes of a group's proxies are collected."""
_RETURN: Final = 8.0
"""Seconds after our start within which proxies may reconnect before they count as missing; Envoy
may wait for 5 s."""
_PATIENCE: Final = 5.0
"""Seconds within which a new proxy must hold its routes before Programmed becomes False."""


class StatusKeeper:
    """Keeps statuses current, for one replica. Used within one event loop."""

    def __init__(
        self,
        client: KubeClient,
        *,
        replica: str,
        namespace: str,
        service_account: str,
        address: str,
        xds: XdsServer,
        token_file: Path,
        ca_file: Path,
        authenticate: Authenticate,
        server_name: str = "thruway-operator",
    ) -> None:
        self._xds = xds
        self._routes: Mapping[str, Observed] = {}
        self._members: dict[str, set[str]] = {}
        """The routes of each group."""
        self._tallies: dict[str, GroupTally] = {}
        self._stale: set[str] = set()
        self._stale_since = asyncio.Event()
        self._written: dict[str, tuple[int, str, Mapping[str, Any]]] = {}
        """The version, uid and status that we last wrote."""
        self._replaced: dict[str, Mapping[str, Any]] = {}
        """The status that the write in progress replaces. Its result may be observed before the
        API server's response to it arrives."""
        self._started = monotonic()
        self._lacking: dict[str, float] = {}
        """Since when a proxy lacks a route that is programmed."""
        self._leader = Leader(client, namespace, replica, self._mark_all)
        self._presence = Presence(client, namespace, replica, address)
        login = Login(token_file, ca_file, server_name)
        self._peers = Peers(
            client,
            login,
            namespace=namespace,
            replica=replica,
            on_news=self._news,
            on_change=self._mark_all,
            may_write=self._leader.holds,
        )
        self._telling = PeerServer(authenticate, namespace, service_account, self._tallies)
        self._events = Events(client, replica)
        self._writer = Writer(client, self._desired, self._was_written, self._leader.holds)

    @property
    def is_leader(self) -> bool:
        """Whether this replica writes."""
        return self._leader.holds()

    def handlers(self) -> Sequence[grpc.GenericRpcHandler]:
        """Return the handlers for other replicas, to be served on the xDS port."""
        return (self._telling.handler(),)

    def observe(self, routes: Mapping[str, Observed]) -> None:
        """Replace the observations of all routes, by `namespace/name`."""
        before, self._routes = self._routes, routes
        changed = [name for name, route in routes.items() if before.get(name) is not route]
        gone = [name for name in before if name not in routes]
        for name in gone:
            self._writer.forget(name)
            self._written.pop(name, None)
            self._lacking.pop(name, None)
            self._replaced.pop(name, None)
        for name in (*changed, *gone):
            self._regroup(name, before.get(name), routes.get(name))
        self._writer.mark(changed)

    def _regroup(self, name: str, old: Observed | None, new: Observed | None) -> None:
        for group in old.digests if old else ():
            self._members[group].discard(name)
        for group in new.digests if new else ():
            self._members.setdefault(group, set()).add(name)
        if (old.digests if old else {}) != (new.digests if new else {}):
            self._count_again(*(old.digests if old else ()), *(new.digests if new else ()))

    def tally_changed(self, group: str) -> None:
        """Note that the state of a group's proxies may have changed."""
        self._count_again(group)

    def _count_again(self, *groups: str) -> None:
        self._stale.update(groups)
        self._stale_since.set()

    async def run(self) -> None:
        """Run until cancelled, then release the Leases."""
        async with asyncio.TaskGroup() as tasks:
            for part in (
                self._presence.run(),
                self._leader.run(),
                self._peers.run(),
                self._events.run(),
                self._writer.run(),
                self._tally(),
            ):
                tasks.create_task(part)

    async def _tally(self) -> None:
        while True:
            await self._stale_since.wait()
            await asyncio.sleep(_COALESCE)
            self._stale_since.clear()
            stale, self._stale = self._stale, set()
            for group in stale:
                self._count(group)
            self._telling.tell()

    def _count(self, group: str) -> None:
        before = self._tallies.get(group)
        members = self._members.get(group)
        now = GroupTally.of(self._xds.status(group), lambda name: self._digest(group, name))
        if members or now.connected:
            self._tallies[group] = now
        else:
            self._tallies.pop(group, None)
            self._members.pop(group, None)
        self._news(group, changes(before, now))

    def _digest(self, group: str, name: str) -> str | None:
        observed = self._routes.get(name)
        return observed.digests.get(group) if observed else None

    def _news(self, group: str, routes: set[str] | None) -> None:
        members = self._members.get(group, set())
        self._writer.mark(members if routes is None else routes & members)

    def _mark_all(self) -> None:
        self._writer.mark(self._routes)

    def _desired(self, name: str) -> tuple[dict[str, Any], Target] | None:
        observed = self._routes.get(name)
        if observed is None:
            return None
        version, previous = self._previous(name, observed)
        proxies = count(name, observed.digests, [self._tallies, *self._peers.tallies])
        status = status_of(
            observed,
            proxies,
            previous,
            dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            silent=self._peers.silent,
            patient=self._is_patient(name, proxies),
            starting=self._is_starting(name, proxies),
        )
        if status == previous or self._too_early(name, observed, status, previous):
            return None
        self._replaced[name] = previous
        namespace, _, short = name.partition("/")
        return status, (namespace, short, version)

    def _too_early(
        self,
        name: str,
        observed: Observed,
        status: Mapping[str, Any],
        previous: Mapping[str, Any],
    ) -> bool:
        """Whether proxies may be missing only because they have not reconnected yet."""
        left = self._started + _RETURN - monotonic()
        if left <= 0 or not was_programmed(observed, previous):
            return False
        if programmed_reason(status) not in {"NoProxies", "Pending", "Programmed"}:
            return False
        missed = status["proxies"]["connected"] < previous.get("proxies", {}).get("connected", 0)
        if not missed and programmed_reason(status) != "Pending":
            return False
        self._writer.mark([name], after=left)
        return True

    def _is_starting(self, name: str, proxies: Proxies) -> bool:
        left = self._started + _RETURN - monotonic()
        if left > 0 and not proxies.connected:
            self._writer.mark([name], after=left)
        return left > 0

    def _previous(self, name: str, observed: Observed) -> tuple[int, Mapping[str, Any]]:
        """Return the newest known version and its status, either written or observed."""
        written = self._written.get(name)
        if written and written[1] == observed.uid and written[0] > observed.resource_version:
            return written[0], written[2]
        return observed.resource_version, observed.status

    def _is_patient(self, name: str, proxies: Proxies) -> bool:
        if proxies.behind or proxies.rejected or proxies.programmed >= proxies.connected:
            self._lacking.pop(name, None)
            return False
        since = self._lacking.setdefault(name, monotonic())
        left = since + _PATIENCE - monotonic()
        if left > 0:
            self._writer.mark([name], after=left + _COALESCE)
        return left > 0

    def _was_written(self, name: str, answer: dict[str, Any]) -> None:
        observed = self._routes.get(name)
        metadata = answer["metadata"]
        status = answer.get("status") or {}
        if observed is None or observed.uid != metadata["uid"]:
            return
        version = int(metadata["resourceVersion"])
        for found in transitions(self._replaced.pop(name, {}), status):
            namespace, _, short = name.partition("/")
            self._events.add(namespace, short, observed.uid, version, found)
        self._written[name] = version, observed.uid, status
