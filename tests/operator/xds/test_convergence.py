"""Groups of model Envoys: whatever happens in whatever order, they end up with what is wanted.

The model does what Envoy 1.40 was seen to do (tests/dataplane has the real one): it ACKs CDS when
all clusters have warmed, asks for a cluster's secret when its name has been resolved, applies the
good clusters of a refused response or none of them, and takes or refuses routes as a whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from thruway_operator.xds import CLUSTER, ROUTE, SECRET, Fragment, Resource, snapshot_of
from thruway_operator.xds.group import Group, Session
from thruway_operator.xds.protocol.resources import revoked
from thruway_testing.plane.fragments import fragment_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thruway_operator.xds import Snapshot

KINDS = ("good", "good", "good", "route", "constraint", "cluster", "secret")
BAD = {"route", "constraint", "cluster", "secret"}


def resource(type_url: str, name: str, **body: Any) -> Resource:
    return Resource.of(type_url, name, json.dumps(body).encode())


def fragment(name: str, variant: int, kind: str, key: str | None, *, dead: bool) -> Fragment:
    """A fragment with one cluster, shared with others of its variant if it needs no secret."""
    if kind == "secret":
        key = "bad"
    about = f"{variant}{kind if kind in {'constraint', 'cluster'} else ''}{'dead' * dead}"
    cluster = f"shared-{about}" if key is None else f"{name}-{about}"
    secrets = () if key in {None, "missing"} else (resource(SECRET, cluster, key=key),)
    body = {"kind": kind if kind in {"constraint", "cluster"} else "", "dead": dead}
    wants = None if key is None else cluster
    return fragment_of(
        name,
        (resource(CLUSTER, cluster, **body, secret=wants),),
        secrets,
        json.dumps([name, cluster, kind == "route"]),
    )


def is_bad(item: Fragment) -> bool:
    bodies = [json.loads(r.body) for r in (*item.clusters, *item.secrets)]
    return json.loads(str(item.routes))[2] or any(
        body.get("kind") or body.get("key") == "bad" for body in bodies
    )


def assemble(fragments: Sequence[Fragment]) -> Snapshot:
    routes = [json.loads(str(f.routes)) for f in fragments]
    resources = [r for f in fragments for r in (*f.clusters, *f.secrets)]
    return snapshot_of([*resources, resource(ROUTE, "thruway", routes=routes)])


@dataclass
class Held:
    version: str
    body: dict[str, Any]


@dataclass
class ModelEnvoy:
    held: dict[str, dict[str, Held]] = field(
        default_factory=lambda: {CLUSTER: {}, SECRET: {}, ROUTE: {}}
    )
    unclaimed: set[str] = field(default_factory=set)
    """Clusters applied from a refused response; on a new stream Envoy does not claim them."""
    unsure: set[tuple[str, str]] = field(default_factory=set)
    warming: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    delayed: list[Any] = field(default_factory=list)
    """CDS requests, which wait until nothing is warming."""
    outbox: list[Any] = field(default_factory=list)
    inbox: list[Any] = field(default_factory=list)
    routes_asked: bool = False
    initialised: bool = False
    slow: bool = False
    """Whether messages or clusters ever took so long that routes did not wait for its ACK."""

    def connect(self) -> None:
        self.outbox, self.inbox, self.delayed = [], [], []
        claimed = {n: h for n, h in self.held[CLUSTER].items() if n not in self.unclaimed}
        self.request(CLUSTER, (), claimed)
        self.routes_asked = False
        if self.initialised:
            self.ask_routes()
        if self.asked:
            self.request(SECRET, sorted(self.asked), self.held[SECRET])
        self.warm()

    def request(self, type_url: str, names: Sequence[str], claimed: Mapping[str, Held]) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=names,
            initial_resource_versions={n: h.version for n, h in claimed.items()},
        )
        self.send(request)

    def send(self, request: Any) -> None:
        (self.delayed if request.type_url == CLUSTER and self.initialised else self.outbox).append(
            request
        )

    def ask_routes(self) -> None:
        self.routes_asked = True
        self.request(ROUTE, ["thruway"], self.held[ROUTE])

    def ask_secret(self, cluster: str) -> None:
        name = self.held[CLUSTER][cluster].body["secret"]
        if name is not None and name not in self.asked:
            self.asked.add(name)
            self.request(SECRET, [name], {})

    def resolve(self) -> None:
        """All name servers answer at last."""
        for name in sorted(self.warming):
            self.held[CLUSTER][name].body["dead"] = False
            self.ask_secret(name)
        self.warm()

    def warm(self) -> None:
        for name in sorted(self.warming):
            body = self.held[CLUSTER][name].body
            if not body["dead"] and (body["secret"] is None or body.get("answered")):
                self.warming.discard(name)
        if not self.warming:
            self.outbox += self.delayed
            self.delayed = []
            if self.initialised and not self.routes_asked:
                self.ask_routes()

    def handle(self) -> None:
        response = self.inbox.pop(0)
        error = {CLUSTER: self.clusters, SECRET: self.secrets, ROUTE: self.routes}[
            response.type_url
        ](response)
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=response.type_url, response_nonce=response.nonce
        )
        names = {(response.type_url, r.name) for r in response.resources}
        if error:
            request.error_detail.message = error
            self.unsure |= names
        else:
            self.unsure -= names
        self.send(request)
        if response.type_url == CLUSTER and not self.initialised:
            self.initialised = True
        self.warm()

    def take(self, type_url: str, item: Any, body: dict[str, Any]) -> None:
        old = self.held[type_url].get(item.name)
        again = old is not None and old.version == item.version
        assert not again or (type_url, item.name) in self.unsure, f"{item.name} was sent again"
        self.held[type_url][item.name] = Held(item.version, body)

    def clusters(self, response: Any) -> str:
        bodies = {r.name: json.loads(r.resource.value) for r in response.resources}
        if any(body["kind"] == "constraint" for body in bodies.values()):
            return "Proto constraint validation failed"
        bad = [name for name, body in bodies.items() if body["kind"]]
        for item in response.resources:
            if item.name in bad:
                continue
            old = self.held[CLUSTER].get(item.name)
            self.take(CLUSTER, item, bodies[item.name])
            (self.unclaimed.add if bad else self.unclaimed.discard)(item.name)
            if old is not None and old.version == item.version:
                self.held[CLUSTER][item.name] = old  # unchanged: it does not warm again
                continue
            self.warming.add(item.name)
            if not bodies[item.name]["dead"]:
                self.ask_secret(item.name)
                secret = bodies[item.name]["secret"]
                if secret in self.held[SECRET]:
                    bodies[item.name]["answered"] = True
        for name in response.removed_resources:
            self.remove(name)
        return "" if not bad else "Error adding/updating cluster(s) " + ", ".join(bad)

    def remove(self, name: str) -> None:
        used = {c for _, c, _ in self.routing()}
        assert name not in used, f"{name} was removed while a route needs it"
        held = self.held[CLUSTER].pop(name, None)
        self.warming.discard(name)
        self.unclaimed.discard(name)
        secret = None if held is None else held.body["secret"]
        if secret in self.asked:
            self.asked.discard(secret)
            self.held[SECRET].pop(secret, None)
            self.unsure.discard((SECRET, secret))
            self.send(
                discovery_pb2.DeltaDiscoveryRequest(
                    type_url=SECRET, resource_names_unsubscribe=[secret]
                )
            )

    def secrets(self, response: Any) -> str:
        names = [r.name for r in response.resources] + list(response.removed_resources)
        for name in names:
            if name in self.held[CLUSTER]:
                self.held[CLUSTER][name].body["answered"] = True
        for item in response.resources:
            value = item.resource.value
            body = json.loads(value) if value[:1] == b"{" else {"key": None}
            if body["key"] == "bad":
                return "bad secret"
            if item.name in self.asked:
                self.take(SECRET, item, body)
        return ""

    def routes(self, response: Any) -> str:
        [item] = response.resources
        routes = json.loads(item.resource.value)
        for name, _, bad in routes["routes"]:
            if bad:
                return f"bad route {name}"
        missing = {c for _, c, _ in routes["routes"]} - self.held[CLUSTER].keys()
        assert self.slow or not missing, f"routes to missing {missing}"
        self.take(ROUTE, item, routes)
        return ""

    def routing(self) -> list[Any]:
        held = self.held[ROUTE].get("thruway")
        return [] if held is None else list(held.body["routes"])


class Proxies(RuleBasedStateMachine):
    """After quiescence every proxy holds exactly what is wanted but for the culprits, and only they
    are quarantined; on the way nothing unchanged is sent again, and no route lacks its cluster."""

    online = Bundle("online")
    offline = Bundle("offline")

    def __init__(self) -> None:
        super().__init__()
        self.group = Group("g", assemble, None)
        self.now = 0.0
        self.wanted: dict[str, Fragment] = {}
        self.sessions: dict[int, tuple[Session, ModelEnvoy]] = {}
        self.numbers = 0

    @initialize()
    def start(self) -> None:
        self.group.publish(self.wanted)

    @rule(target=offline)
    def boot(self) -> ModelEnvoy:
        return ModelEnvoy()

    @rule(target=online, envoy=consumes(offline))
    def connect(self, envoy: ModelEnvoy) -> int:
        self.numbers += 1
        session = Session(self.numbers, f"proxy-{self.numbers}")
        self.sessions[self.numbers] = (session, envoy)
        envoy.connect()
        self.group.join(session)
        return self.numbers

    @rule(target=offline, number=consumes(online))
    def disconnect(self, number: int) -> ModelEnvoy:
        session, envoy = self.sessions.pop(number)
        self.group.leave(session)
        return envoy

    @rule(
        name=st.sampled_from("abcdefgh"),
        variant=st.integers(0, 2),
        kind=st.sampled_from(KINDS),
        key=st.sampled_from([None, "k1", "k2", "missing"]),
        dead=st.integers(0, 9).map(lambda n: n == 9),
    )
    def want(self, name: str, variant: int, kind: str, key: str | None, dead: bool) -> None:
        self.wanted[name] = fragment(name, variant, kind, key, dead=dead)

    @rule(name=st.sampled_from("abcdefgh"))
    def drop(self, name: str) -> None:
        self.wanted.pop(name, None)

    @rule()
    def publish(self) -> None:
        self.group.publish(self.wanted)

    @rule(number=online, steps=st.integers(1, 8))
    def work(self, number: int, steps: int) -> None:
        for _ in range(steps):
            self.step(*self.sessions[number])

    def step(self, session: Session, envoy: ModelEnvoy) -> bool:
        """Pass one message in each direction; return whether there was anything to do."""
        wake_at = session.stream.wake_at
        due = session.wake.is_set() or (wake_at is not None and wake_at <= self.now)
        busy = due or bool(envoy.outbox or envoy.inbox)
        if envoy.outbox:
            self.group.receive(session, envoy.outbox.pop(0))
        if due or session.wake.is_set():
            session.wake.clear()
            for data in self.group.advance(session, self.now):
                envoy.inbox.append(discovery_pb2.DeltaDiscoveryResponse.FromString(data))
        if envoy.inbox:
            envoy.handle()
        return busy

    @rule(seconds=st.sampled_from([0.1, 0.6]))
    def wait(self, seconds: float) -> None:
        for session, envoy in self.sessions.values():
            busy = session.wake.is_set() or envoy.inbox or envoy.outbox
            envoy.slow |= bool(busy or envoy.warming or envoy.delayed)
        self.now += seconds

    def teardown(self) -> None:
        self.group.publish(self.wanted)
        if not self.sessions:
            return
        for _ in range(20):
            for _ in range(3000):
                busy = [self.step(*pair) for pair in self.sessions.values()]
                if not any(busy):
                    break
            else:
                raise AssertionError("they talk without end")
            self.wait(3.0)
            for _, envoy in self.sessions.values():
                envoy.resolve()
            if self.group.publisher.status().settled and self.is_quiet():
                break
        self.check()

    def is_quiet(self) -> bool:
        return not any(
            envoy.inbox or envoy.outbox or session.wake.is_set() or session.stream.wake_at
            for session, envoy in self.sessions.values()
        )

    def check(self) -> None:
        status = self.group.publisher.status()
        assert status.settled
        assert status.error is None
        culprits = {name for name, item in self.wanted.items() if is_bad(item)}
        assert {n for n, f in status.fragments.items() if f.rejected} == culprits
        assert {n for n, f in status.fragments.items() if not f.programmed} == culprits
        for session, envoy in self.sessions.values():
            served = self.group.publisher.offer(session.number).fragments
            assert not any(is_bad(item) for item in served.values())
            assert {n: f for n, f in served.items() if n not in culprits} == {
                n: f for n, f in self.wanted.items() if n not in culprits
            }
            self.check_proxy(envoy, assemble(list(served.values())))

    def check_proxy(self, envoy: ModelEnvoy, snapshot: Snapshot) -> None:
        routes = {n: r.version for n, r in snapshot[ROUTE].items()}
        assert {n: h.version for n, h in envoy.held[ROUTE].items()} == routes
        # What a refused response left behind unknown to the protocol stays, without any route.
        clusters = {n: r.version for n, r in snapshot[CLUSTER].items()}
        held = {n: h.version for n, h in envoy.held[CLUSTER].items()}
        assert {n: v for n, v in held.items() if n in clusters} == clusters
        assert held.keys() - clusters.keys() <= envoy.unclaimed
        for name, resource in snapshot[SECRET].items():
            assert envoy.held[SECRET][name].version == resource.version
        gone = envoy.held[SECRET].keys() - snapshot[SECRET].keys()
        for name in gone - envoy.unclaimed:
            assert envoy.held[SECRET][name].version == revoked(name).version


TestProxies = Proxies.TestCase
TestProxies.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
