"""One resource type on one delta stream: what the proxy requested, was sent and confirmed.

Source: "Incremental xDS" in https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator.xds.protocol.resources import SECRET, revoked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envoy.service.discovery.v3 import discovery_pb2

    from thruway_operator.xds.protocol.resources import Resource

__all__ = ["Flight", "Plan", "Subscription"]

_ABSENT: Final = ""  # the proxy knows that the name does not exist; no version is empty
_UNSURE: Final = "?"  # part of a response that the proxy rejected: it may or may not hold it


@dataclass(frozen=True, slots=True)
class Flight:
    """A response that is neither ACKed nor NACKed yet; names of removed resources map to ""."""

    sent_at: float
    versions: Mapping[str, str]

    @property
    def adds(self) -> bool:
        """Whether it contains more than removals."""
        return any(self.versions.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between what the proxy was sent and what it should hold."""

    changed: tuple[Resource, ...] = ()
    absent: tuple[str, ...] = ()
    """Requested by name, but nonexistent: reported at once, or a cluster would warm forever."""
    vanished: tuple[str, ...] = ()
    """Held by the proxy, but no longer wanted: the caller decides when removal is safe."""

    def __bool__(self) -> bool:
        return bool(self.changed or self.absent or self.vanished)


class Subscription:
    """The state of one type. `offer` and `receive` change it; `plan` returns what to send."""

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.asked = False
        """Whether the proxy has sent any request for this type on this stream."""
        self.sent: dict[str, str] = {}
        self.flights: dict[str, Flight] = {}
        self._wildcard = False
        self._names: set[str] = set()
        self._refused: dict[str, str] = {}
        self.resources: Mapping[str, Resource] = {}
        self._plan: Plan | None = None

    @property
    def refused(self) -> bool:
        """Whether a resource that is still offered was rejected; it is not sent again."""
        return bool(self._refused)

    def offer(self, resources: Mapping[str, Resource]) -> None:
        """Replace what the proxy should hold; resources that it rejected may be tried again."""
        self.resources = resources
        self._refused.clear()
        self._plan = None

    def receive(self, request: discovery_pb2.DeltaDiscoveryRequest) -> Flight | None:
        """Process a DeltaDiscoveryRequest of this type; return the flight if it is a NACK."""
        subscribed = list(request.resource_names_subscribe)
        unsubscribed = list(request.resource_names_unsubscribe)
        if not self.asked:
            # A first request without names is a wildcard, for clients that do not know "*".
            self._wildcard = not subscribed
            self.sent.update(request.initial_resource_versions)
        self._subscribe(subscribed, request.initial_resource_versions)
        self._unsubscribe(unsubscribed)
        if subscribed or unsubscribed or not self.asked:
            self._plan = None
        self.asked = True
        return self._acknowledge(request)

    def _subscribe(self, names: Iterable[str], claimed: Mapping[str, str]) -> None:
        for name in names:
            if name == "*":
                self._wildcard = True
                continue
            self._names.add(name)
            # A proxy that subscribes (again) gets the resource even if the server believes that
            # the proxy has it, because the proxy may have dropped it. The resource is left out
            # only if the proxy claims to hold it.
            if name not in claimed:
                self.sent.pop(name, None)

    def _unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name == "*":
                self._wildcard = False
                for other in self.sent.keys() - self._names:
                    del self.sent[other]
                continue
            self._names.discard(name)
            self._refused.pop(name, None)
            # The wildcard still covers the name, so the proxy must be sent the resource again.
            if self.sent.pop(name, None) is not None and self._wildcard:
                self.sent[name] = _UNSURE

    def _acknowledge(self, request: discovery_pb2.DeltaDiscoveryRequest) -> Flight | None:
        flight = self.flights.pop(request.response_nonce, None)
        if flight is None or not request.HasField("error_detail"):
            return None
        for name, version in flight.versions.items():
            if self.sent.get(name) == version:  # otherwise a newer response supersedes it
                self.sent[name] = _UNSURE
        self._refused.update(self.offered(flight))
        self._plan = None
        return flight

    def _version(self, name: str) -> str | None:
        resource = self.resources.get(name)
        return None if resource is None else resource.version

    def offered(self, flight: Flight) -> dict[str, str]:
        """Return what a flight added, if the proxy should still hold all of it; otherwise nothing.

        If the flight was rejected, a resource that is no longer offered may have been the cause, so
        the remaining ones deserve another try.
        """
        added = {name: version for name, version in flight.versions.items() if version}
        return added if all(self._version(n) == v for n, v in added.items()) else {}

    @property
    def plan(self) -> Plan:
        """Return what to send now; computed once per change of state."""
        if self._plan is None:
            self._plan = self._compute()
        return self._plan

    def _compute(self) -> Plan:
        resources, sent, refused = self.resources, self.sent, self._refused
        wanted = resources.keys() if self._wildcard else [n for n in resources if n in self._names]
        changed = (
            resources[name]
            for name in wanted
            if sent.get(name) != resources[name].version and name not in refused
        )
        return Plan(
            tuple(changed),
            tuple(sorted(n for n in self._names - resources.keys() if n not in sent)),
            tuple(sorted(n for n in sent.keys() - resources.keys() if not self._gone(n))),
        )

    def _gone(self, name: str) -> bool:
        version = self.sent[name]
        return version == _ABSENT or (self.type_url == SECRET and version == revoked(name).version)

    def sending(
        self, nonce: str, now: float, changed: Iterable[Resource], removed: Iterable[str]
    ) -> None:
        """Record that a response with this content is being sent."""
        versions = {resource.name: resource.version for resource in changed}
        versions.update(dict.fromkeys(removed, _ABSENT))
        self.flights[nonce] = Flight(now, versions)
        for name, version in versions.items():
            if version == _ABSENT and name not in self._names:
                self.sent.pop(name, None)
            else:
                self.sent[name] = version
        self._plan = None
