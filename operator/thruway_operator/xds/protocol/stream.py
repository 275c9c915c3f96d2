"""One delta ADS stream as a pure object: requests, snapshots and time go in, responses come out.

A change is sent "make before break" (the xDS protocol page, "Eventual consistency considerations"):
new clusters, then secrets, then routes, and removals last. What Envoy 1.40 does, as measured, and
what follows from it:

- It ACKs CDS once every new cluster has *warmed* (DNS has resolved, secrets have arrived), so after
  the ACK routes may point to them. Requests to a warming cluster get 503. But one name server that
  does not respond delays the ACK by up to 61 s (c-ares' defaults), and also the NACK of a bad
  cluster. So routes wait for the ACK for at most `HOLD`, and CDS continues unacknowledged.
- Such a cluster in the very first CDS response would keep a starting Envoy from requesting routes
  for just as long. So a starting proxy is first sent no clusters, and gets all of them when it
  requests routes: it is ready after `HOLD` at worst.
- While a cluster warms, Envoy does not even *request* CDS on a new stream. So routes wait for that
  request: a proxy keeps what it has instead of getting routes to clusters that cannot be sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thruway_operator.xds.protocol.refusal import Refusal, refusal_text
from thruway_operator.xds.protocol.resources import CLUSTER, ROUTE, SECRET, encode_response, revoked
from thruway_operator.xds.protocol.subscription import Flight, Plan, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envoy.service.discovery.v3 import discovery_pb2

    from thruway_operator.xds.protocol.resources import Resource, Snapshot

__all__ = ["HOLD", "LINGER", "Stream"]

HOLD: Final = 0.5
"""Maximum seconds for which routes wait for new clusters to warm."""

LINGER: Final = 10.0
"""Seconds for which a proxy keeps a cluster that no route uses any more, and its secret.

Envoy selects a request's route before it calls ext_proc, and the cluster afterwards. A request that
is between the two when the cluster is removed gets 503 (observed under load). So this is longer
than ext_proc's message timeout.
"""


class Stream:
    """The state of one stream.

    `receive` processes a request, and `offer` sets what the proxy should hold. After either, and at
    `wake_at`, the caller sends what `advance` returns. Times are seconds of one monotonic clock.
    """

    def __init__(self, hold: float = HOLD, linger: float = LINGER) -> None:
        self._hold = hold
        self._linger = linger
        self._lingering: dict[str, dict[str, float]] = {CLUSTER: {}, SECRET: {}}
        """When each vanished resource is to be removed, by type and name."""
        self._clusters = Subscription(CLUSTER)
        self._secrets = Subscription(SECRET)
        self._routes = Subscription(ROUTE)
        self._types = {s.type_url: s for s in (self._clusters, self._secrets, self._routes)}
        self._token: int | None = None
        self._keep = False
        self._nonce = 0
        self._fresh = False
        """Whether the proxy connected without clusters: it starts, or its snapshot was empty."""
        self._owed = False
        """Whether CDS needs a response even if it is empty: a starting Envoy waits for it."""
        self._routes_due: float | None = None
        """The latest time at which routes that wait for clusters are sent."""
        self.applied: int | None = None
        """The token of the newest offer once the proxy holds all of it, as far as is known."""
        self.wake_at: float | None = None
        """When `advance` must be called again even if nothing happens."""

    @property
    def certain(self) -> bool:
        """Whether all clusters sent were ACKed; if not, a NACK may still come after `applied`."""
        return not any(flight.adds for flight in self._clusters.flights.values())

    def receive(self, request: discovery_pb2.DeltaDiscoveryRequest) -> Refusal | None:
        """Process a DeltaDiscoveryRequest; return its NACK if what it rejects is still offered."""
        subscription = self._types.get(request.type_url)
        if subscription is None:
            return None  # not one of our types; the listener is static
        first = not subscription.asked
        refused = subscription.receive(request)
        if first and subscription is self._clusters and not subscription.sent:
            self._owed = self._fresh = True
        return None if refused is None else self._refusal(subscription, refused, request)

    def _refusal(
        self,
        subscription: Subscription,
        flight: Flight,
        request: discovery_pb2.DeltaDiscoveryRequest,
    ) -> Refusal | None:
        names = subscription.offered(flight)
        if not names or self._token is None:
            return None
        message = refusal_text(request.type_url, request.error_detail.message)
        return Refusal(self._token, request.type_url, names, message)

    def offer(self, token: int, snapshot: Snapshot, *, keep: bool = False) -> None:
        """Replace what the proxy should hold; `token` identifies it in `applied` and in refusals.

        With `keep`, only routes are removed: a trial would otherwise drop clusters that the next
        trial needs again.
        """
        self._token = token
        self._keep = keep
        self.applied = None
        for type_url, subscription in self._types.items():
            subscription.offer(snapshot.get(type_url, {}))
        for type_url, names in self._lingering.items():
            for name in names.keys() & snapshot.get(type_url, {}).keys():
                del names[name]  # wanted again

    def advance(self, now: float) -> list[bytes]:
        """Return the responses to send now, in this order; update `applied` and `wake_at`."""
        out: list[bytes] = []
        if self._token is None:
            return out
        self._send_clusters(now, out)
        self._send_secrets(now, out)
        self._send_routes(now, out)
        if not self._keep and self._routes_settled():
            self._remove(now, out)
        self.applied = self._token if self._holds_all(now) else None
        self.wake_at = self._next_deadline(now)
        return out

    def _send_clusters(self, now: float, out: list[bytes]) -> None:
        if not self._clusters.asked:
            return
        starting = self._fresh and not self._routes.asked
        plan = Plan() if starting else self._clusters.plan
        if plan.changed or plan.absent or self._owed:
            self._owed = False
            self._respond(self._clusters, now, out, plan.changed, plan.absent)

    def _send_secrets(self, now: float, out: list[bytes]) -> None:
        plan = self._secrets.plan
        if (plan.changed or plan.absent) and not self._secrets.flights:
            self._respond(self._secrets, now, out, plan.changed, plan.absent)

    def _send_routes(self, now: float, out: list[bytes]) -> None:
        plan = self._routes.plan
        if not plan:
            self._routes_due = None
            return
        if self._routes.flights or not self._may_route(now):
            return
        self._routes_due = None
        self._respond(self._routes, now, out, plan.changed, plan.absent + plan.vanished)

    def _may_route(self, now: float) -> bool:
        clusters = self._clusters
        if not clusters.asked:
            return False
        if clusters.refused:
            self._routes_due = None
            return False  # the publisher will offer something else
        if self._routes_due is None:
            self._routes_due = now + self._hold
        return now >= self._routes_due or not self._waits(now, adding=True)

    def _waits(self, now: float, *, adding: bool = False) -> bool:
        """Whether a CDS response of the last `hold` seconds is not ACKed (`adding`: adds some)."""
        return any(
            now < flight.sent_at + self._hold
            for flight in self._clusters.flights.values()
            if flight.adds or not adding
        )

    def _routes_settled(self) -> bool:
        routes = self._routes
        return routes.asked and not (routes.plan or routes.flights or routes.refused)

    def _remove(self, now: float, out: list[bytes]) -> None:
        if due := self._outlived(self._clusters, now):
            self._respond(self._clusters, now, out, removed=due)
        # Envoy unsubscribes from the secrets of a removed cluster before it sends the ACK.
        outlived = self._outlived(self._secrets, now)
        due = [n for n in self._secrets.plan.vanished if n in outlived or self._used(n)]
        if due and not (self._waits(now) or self._secrets.flights):
            self._respond(self._secrets, now, out, [revoked(name) for name in due])

    def _outlived(self, subscription: Subscription, now: float) -> list[str]:
        """Return the resources that vanished long enough ago."""
        old, vanished = self._lingering[subscription.type_url], subscription.plan.vanished
        until = {name: old.get(name, now + self._linger) for name in vanished}
        self._lingering[subscription.type_url] = until
        return [name for name in vanished if until[name] <= now]

    def _used(self, secret: str) -> bool:
        """Whether a cluster that stays uses this secret, which is then revoked immediately.

        Otherwise the secret is removed with its cluster, which lingers and needs it. A cluster that
        uses a secret contains the secret's name in its bytes. An accidental match can at worst make
        one lingering request fail.
        """
        name = secret.encode()
        return any(name in cluster.body for cluster in self._clusters.resources.values())

    def _holds_all(self, now: float) -> bool:
        if not self._clusters.asked or not self._routes_settled():
            return False
        if self._waits(now) or self._secrets.flights:
            return False
        return not any(
            s.refused or s.plan.changed or s.plan.absent for s in (self._clusters, self._secrets)
        )

    def _next_deadline(self, now: float) -> float | None:
        deadlines = [t for names in self._lingering.values() for t in names.values()]
        if self.applied is None:
            deadlines += [f.sent_at + self._hold for f in self._clusters.flights.values()]
        if self._routes_due is not None:
            deadlines.append(self._routes_due)
        return min((t for t in deadlines if t > now), default=None)

    def _respond(
        self,
        subscription: Subscription,
        now: float,
        out: list[bytes],
        changed: Iterable[Resource] = (),
        removed: Iterable[str] = (),
    ) -> None:
        self._nonce += 1
        nonce = str(self._nonce)
        changed, removed = tuple(changed), tuple(removed)
        subscription.sending(nonce, now, changed, removed)
        version = "" if self._token is None else str(self._token)
        out.append(encode_response(subscription.type_url, nonce, version, changed, removed))
