"""The other replicas: who lives, and what each tells of its proxies.

A replica that is gone is forgotten once its Lease is; one that lives but does not answer is
*silent*, and then nobody can say that every proxy holds a route.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

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
"""Seconds without an answer that make a live replica silent; a dead one is forgotten before."""
_HEARTBEAT: Final = 2.5
"""Seconds without a message after which a stream is given up; one comes each second."""
_AGAIN: Final = 0.3
_LOOK: Final = 0.25
_REMAINS: Final = 5 * DURATION
"""Seconds after which the Lease of a replica that did not let go of it is taken away. One that was
only asleep makes itself another."""


@dataclass(slots=True)
class _Peer:
    name: str
    address: str
    seen: float
    """When its Lease was renewed last, as far as we saw."""
    answered: float
    """When it answered last."""
    listening: bool = False
    groups: dict[str, GroupTally] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """How this replica proves itself to another, and how it checks the other."""

    token: Path
    authorities: Path
    server_name: str


class Peers:
    """Keeps a stream to each other replica.

    `on_news(group, routes)` is called when one tells something new of a group; of all its routes
    if `routes` is None. `on_change` when a replica went silent, spoke again, came or went.
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
        """When each Lease was seen to change last, those of the dead too."""
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
        """What each of the others told last."""
        return [peer.groups for peer in self._peers.values()]

    @property
    def silent(self) -> tuple[str, ...]:
        """The replicas that live but do not answer."""
        return self._silent

    async def run(self) -> None:
        """Find the others and listen to them, for ever."""
        watching = asyncio.create_task(self._leases.run())
        ill = False
        try:
            while True:
                await asyncio.sleep(_LOOK)
                if watching.done():
                    await watching
                now = time.monotonic()
                if self._leases.problem is not None or not self._leases.synced.is_set():
                    ill = True  # nobody's Lease can be seen: nobody is judged by it
                    continue
                if ill:
                    ill = False
                    for peer in self._peers.values():
                        peer.seen = now
                    self._renewed = dict.fromkeys(self._renewed, now)
                self._bury(now)
                await self._clear_away(now)
                self._listen_for_silence(now)
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
        self._renewed[name] = time.monotonic()
        holder, address, _ = found
        now = time.monotonic()
        peer = self._peers.get(name)
        if peer is not None and peer.address == address:
            peer.seen = now
            return
        self._forget(name)
        peer = _Peer(holder, address, now, now)
        peer.task = asyncio.create_task(self._listen(peer))
        self._peers[name] = peer
        self._on_change()

    def _bury(self, now: float) -> None:
        for name in [n for n, peer in self._peers.items() if now > peer.seen + DURATION]:
            self._forget(name)

    async def _clear_away(self, now: float) -> None:
        if not self._may_write():
            return
        for name in [n for n, renewed in self._renewed.items() if now > renewed + _REMAINS]:
            self._renewed[name] = now  # once in a while, if it cannot be
            try:
                await self._client.request("DELETE", f"{self._collection}/{name}", within=2.0)
            except KubeError as error:
                _log.debug("the Lease of a dead replica stays: %s", error)

    def _forget(self, name: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is None:
            return
        if peer.task:
            peer.task.cancel()
        for group in peer.groups:
            self._on_news(group, None)
        self._on_change()

    def _listen_for_silence(self, now: float) -> None:
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
                    _log.info("replica %s does not tell what its proxies hold: %s", peer.name, why)
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
                    # What it told before may be from another life.
                    first = False
                    self._take_in(peer, {"groups": {}, "gone": list(peer.groups)})
                peer.listening = True
                peer.answered = time.monotonic()
                if message:
                    self._take_in(peer, decode(message))

    def _take_in(self, peer: _Peer, message: dict[str, Any]) -> None:
        for group, routes in take_in(peer.groups, message).items():
            self._on_news(group, routes)


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _why(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {(error.details() or '').splitlines()[:1]}"
    if isinstance(error, TimeoutError):
        return "it says nothing"
    return str(error) or type(error).__name__


def _read_lease(_: tuple[str, str], item: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Holder, address and the time of the last renewal, which need not be understood."""
    spec = item.get("spec") or {}
    address = (item["metadata"].get("annotations") or {}).get(ADDRESS)
    if not address:
        return None
    return str(spec.get("holderIdentity")), str(address), str(spec.get("renewTime"))
