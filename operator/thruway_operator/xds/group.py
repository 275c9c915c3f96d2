"""One group of proxies: its publisher, its streams, and the snapshots that they share."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from thruway_operator.xds.protocol.publisher import Publisher
from thruway_operator.xds.protocol.stream import LINGER, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from envoy.service.discovery.v3 import discovery_pb2

    from thruway_operator.xds.protocol.publisher import Offer
    from thruway_operator.xds.protocol.resources import Assemble, Fragment, Snapshot

__all__ = ["Group", "Session"]

_log = logging.getLogger("thruway.xds")


class Session:
    """One connected proxy: its stream, and an event that wakes the task that writes to it."""

    def __init__(self, number: int, node: str, linger: float = LINGER) -> None:
        self.number = number
        self.node = node
        self.stream = Stream(linger=linger)
        self.token = 0
        """The token of the newest offer given to the stream."""
        self.wake = asyncio.Event()
        self.closed = False

    def close(self) -> None:
        """End the session; its writer notices."""
        self.closed = True
        self.wake.set()


class Group:
    """Passes events between the publisher and the streams, all within one event loop."""

    def __init__(
        self, name: str, assemble: Assemble, on_change: Callable[[str], None] | None
    ) -> None:
        self.publisher = Publisher()
        self._name = name
        self._assemble = assemble
        self._on_change = on_change
        self._notifying = False
        self._published = False
        self._sessions: dict[int, Session] = {}
        self._snapshots: dict[int, Snapshot] = {}

    @property
    def unused(self) -> bool:
        """Whether nothing was ever published here and no proxy is connected."""
        return not (self._published or self._sessions)

    def publish(self, fragments: Mapping[str, Fragment]) -> None:
        """Replace the wanted fragments and wake the affected streams."""
        changed = self.publisher.want(fragments)
        if changed or not self._published:
            self._published = True
            self._push()

    def join(self, session: Session) -> None:
        """Add the session of a proxy that connected."""
        self._sessions[session.number] = session
        self.publisher.connect(session.number)
        self._push()

    def leave(self, session: Session) -> None:
        """Remove the session of a proxy that disconnected."""
        del self._sessions[session.number]
        self.publisher.disconnect(session.number)
        self._push()

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions.values():
            session.close()

    def receive(self, session: Session, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        """Process a request from a proxy."""
        refusal = session.stream.receive(request)
        if refusal is not None:
            _log.warning(
                "proxy %s rejected %s: %s",
                session.node,
                refusal.type_url.rpartition(".")[2],
                refusal.message,
            )
            self.publisher.nacked(session.number, refusal)
            self._push()
        session.wake.set()

    def advance(self, session: Session, now: float) -> list[bytes]:
        """Return the responses to send to a proxy now."""
        responses = session.stream.advance(now)
        if session.stream.applied is not None:
            self._applied(session, session.stream.applied)
        return responses

    def _applied(self, session: Session, token: int) -> None:
        if self.publisher.acked(session.number, token, certain=session.stream.certain):
            self._push()

    def _push(self) -> None:
        """Give every stream its current offer, if the offer has changed."""
        if self._published:
            live = {}
            for session in self._sessions.values():
                offer = self.publisher.offer(session.number)
                if offer.token not in live:
                    live[offer.token] = self._snapshot(offer)
                if session.token != offer.token:
                    session.token = offer.token
                    session.stream.offer(offer.token, live[offer.token], keep=offer.trial)
                    session.wake.set()
            self._snapshots = live
        self._notify()

    def _snapshot(self, offer: Offer) -> Snapshot:
        known = self._snapshots.get(offer.token)
        return self._assemble(list(offer.fragments.values())) if known is None else known

    def _notify(self) -> None:
        if self._on_change is not None and not self._notifying:
            self._notifying = True
            asyncio.get_running_loop().call_soon(self._call_on_change)

    def _call_on_change(self) -> None:
        self._notifying = False
        if self._on_change is not None:
            self._on_change(self._name)
