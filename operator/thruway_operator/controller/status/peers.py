"""The other replicas: which are alive, and what each reports about its proxies.

A replica is forgotten once its Lease is gone. A replica that is alive but does not respond is
*silent*; while there is one, it is unknown whether every proxy holds a route.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from thruway_operator.controller.status.clock import monotonic
from thruway_operator.controller.status.lease import ADDRESS, DURATION, REPLICA, leases_path
from thruway_operator.controller.status.tally import TallyError, decode, take_in
from thruway_operator.kube import KubeError
from thruway_operator.kube.reflector import Reflector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from thruway_operator.controller.status.tally import GroupTally
    from thruway_operator.kube import KubeClient

__all__ = ["METHOD", "SERVICE", "Login", "Peers"]

_log = logging.getLogger("thruway.status")

SERVICE: Final = "thruway.operator.v1.Tallies"
METHOD: Final = "Watch"

_SILENT: Final = 4.0
"""Seconds without a response until a live replica is silent; a dead one is forgotten sooner."""
_HEARTBEAT: Final = 2.5
"""Seconds without a message after which a stream is closed; a message arrives each second."""
_AGAIN: Final = 0.3
_LOOK: Final = 0.25
_REMAINS: Final = 5 * DURATION
"""Seconds after which the unreleased Lease of another replica is deleted. A replica that was only
suspended creates a new one."""


@dataclass(slots=True)
class _Peer:
    name: str
    address: str
    seen: float
    """When we last saw its Lease renewed."""
    answered: float
    """When it last responded."""
    listening: bool = False
    groups: dict[str, GroupTally] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """How this replica authenticates to another, and verifies the other."""

    token: Path
    authorities: Path
    server_name: str


class Peers:
    """Keeps a stream to each other replica.

    `on_news(group, routes)` is called when a replica reports a change in a group; the change
    concerns all routes if `routes` is None. `on_change` is called when a replica becomes silent,
    responds again, appears or vanishes.
    """

    def __init__(
        self,
        client: KubeClient,
        login: Login,
        *,
        namespace: str,
        replica: str,
        on_news: Callable[[str, set[str] | None], None],
        on_change: Callable[[], None],
        may_write: Callable[[], bool],
    ) -> None:
        self._client = client
        self._collection = leases_path(namespace)
        self._may_write = may_write
        self._renewed: dict[str, float] = {}
        """When we last saw each Lease change, including those of dead replicas."""
        self._own = f"thruway-replica-{replica}"
        self._login = login
        self._on_news = on_news
        self._on_change = on_change
        self._peers: dict[str, _Peer] = {}
        self._silent: tuple[str, ...] = ()
        self._leases: Reflector[tuple[str, str, str]] = Reflector(
            client,
            leases_path(namespace),
            _read_lease,
            self._lease_changed,
            params={"labelSelector": f"{REPLICA}=true"},
        )

    @property
    def tallies(self) -> list[Mapping[str, GroupTally]]:
        """The last report of each other replica."""
        return [peer.groups for peer in self._peers.values()]

    @property
    def silent(self) -> tuple[str, ...]:
        """The replicas that are alive but do not respond."""
        return self._silent

    async def run(self) -> None:
        """Find the other replicas and listen to them until cancelled."""
        watching = asyncio.create_task(self._leases.run())
        blind = False
        try:
            while True:
                await asyncio.sleep(_LOOK)
                if watching.done():
                    await watching
                now = monotonic()
                if self._leases.problem is not None or not self._leases.synced.is_set():
                    blind = True  # Leases cannot be seen now, so do not judge replicas by them
                    continue
                if blind:
                    blind = False
                    for peer in self._peers.values():
                        peer.seen = now
                    self._renewed = dict.fromkeys(self._renewed, now)
                self._forget_dead(now)
                await self._delete_leases(now)
                self._find_silent(now)
        finally:
            watching.cancel()
            for peer in self._peers.values():
                if peer.task:
                    peer.task.cancel()

    def _lease_changed(self, key: tuple[str, str]) -> None:
        name = key[1]
        found = self._leases.items.get(key)
        if name == self._own:
            return
        if found is None:
            self._renewed.pop(name, None)
            self._forget(name)
            return
        self._renewed[name] = monotonic()
        holder, address, _ = found
        now = monotonic()
        peer = self._peers.get(name)
        if peer is not None and peer.address == address:
            peer.seen = now
            return
        self._forget(name)
        peer = _Peer(holder, address, now, now)
        peer.task = asyncio.create_task(self._listen(peer))
        self._peers[name] = peer
        self._on_change()

    def _forget_dead(self, now: float) -> None:
        for name in [n for n, peer in self._peers.items() if now > peer.seen + DURATION]:
            self._forget(name)

    async def _delete_leases(self, now: float) -> None:
        if not self._may_write():
            return
        for name in [n for n, renewed in self._renewed.items() if now > renewed + _REMAINS]:
            self._renewed[name] = now  # if that fails, retry after a while
            try:
                await self._client.request("DELETE", f"{self._collection}/{name}", within=2.0)
            except KubeError as error:
                _log.debug("the Lease of a dead replica was not deleted: %s", error)

    def _forget(self, name: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is None:
            return
        if peer.task:
            peer.task.cancel()
        for group in peer.groups:
            self._on_news(group, None)
        self._on_change()

    def _find_silent(self, now: float) -> None:
        silent = tuple(
            sorted(
                peer.name
                for peer in self._peers.values()
                if not peer.listening and now > peer.answered + _SILENT
            )
        )
        if silent != self._silent:
            self._silent = silent
            self._on_change()

    async def _listen(self, peer: _Peer) -> None:
        said = ""
        while True:
            try:
                await self._stream(peer)
            except (grpc.aio.AioRpcError, TimeoutError, OSError, TallyError) as error:
                why = _why(error)
                if why != said:
                    said = why
                    _log.info("replica %s does not report its proxies: %s", peer.name, why)
            finally:
                peer.listening = False
            await asyncio.sleep(_AGAIN)

    async def _stream(self, peer: _Peer) -> None:
        login = self._login
        credentials = grpc.ssl_channel_credentials(
            await asyncio.to_thread(_read, login.authorities)
        )
        token = (await asyncio.to_thread(_read, login.token)).decode().strip()
        options = [("grpc.ssl_target_name_override", login.server_name)]
        async with grpc.aio.secure_channel(peer.address, credentials, options) as channel:
            method: Any = channel.unary_stream(f"/{SERVICE}/{METHOD}")
            call = method(b"", metadata=(("authorization", f"Bearer {token}"),))
            first = True
            while True:
                async with asyncio.timeout(_HEARTBEAT):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    await call.code()
                    return
                if first:
                    # Earlier reports may come from a previous process.
                    first = False
                    self._take_in(peer, {"groups": {}, "gone": list(peer.groups)})
                if message:
                    self._take_in(peer, decode(message))
                # Not before: a replica whose reports cannot be read is silent.
                peer.listening = True
                peer.answered = monotonic()

    def _take_in(self, peer: _Peer, message: dict[str, Any]) -> None:
        for group, routes in take_in(peer.groups, message).items():
            self._on_news(group, routes)


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _why(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {(error.details() or '').splitlines()[:1]}"
    if isinstance(error, TimeoutError):
        return "it sends nothing"
    return str(error) or type(error).__name__


def _read_lease(_: tuple[str, str], item: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the holder, the address, and the opaque time of the last renewal."""
    spec = item.get("spec") or {}
    address = (item["metadata"].get("annotations") or {}).get(ADDRESS)
    if not address:
        return None
    return str(spec.get("holderIdentity")), str(address), str(spec.get("renewTime"))
