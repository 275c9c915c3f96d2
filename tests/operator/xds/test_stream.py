"""One stream: which response goes when, and what a proxy is never sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy.service.discovery.v3 import discovery_pb2

from thruway_operator.xds import CLUSTER, ROUTE, SECRET, Resource, snapshot_of
from thruway_operator.xds.protocol.resources import revoked
from thruway_operator.xds.protocol.stream import HOLD, LINGER, Stream

if TYPE_CHECKING:
    from thruway_operator.xds import Snapshot
    from thruway_operator.xds.protocol.refusal import Refusal

SHORT = {CLUSTER: "cds", SECRET: "sds", ROUTE: "rds"}
LONG = {short: type_url for type_url, short in SHORT.items()}


def cluster(name: str, secret: str = "") -> Resource:
    return Resource.of(CLUSTER, name, f"{name} injects {secret}".encode())


def secret(name: str, value: str) -> Resource:
    return Resource.of(SECRET, name, value.encode())


def routes(text: str) -> Resource:
    return Resource.of(ROUTE, "thruway", text.encode())


class Proxy:
    """The test's end of a stream; `sent` shows responses as "cds +a -b"."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.now = 0.0
        self.nonces: dict[str, list[str]] = {"cds": [], "sds": [], "rds": []}
        self.tokens = 0

    def offer(self, *resources: Resource, keep: bool = False) -> list[str]:
        snapshot: Snapshot = snapshot_of(resources)
        self.tokens += 1
        self.stream.offer(self.tokens, snapshot, keep=keep)
        return self.sent()

    def sent(self) -> list[str]:
        return [self._show(data) for data in self.stream.advance(self.now)]

    def _show(self, data: bytes) -> str:
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
        short = SHORT[response.type_url]
        self.nonces[short].append(response.nonce)
        names = [f"+{r.name}" for r in response.resources]
        return " ".join([short, *names, *(f"-{name}" for name in response.removed_resources)])

    def applied(self) -> int | None:
        return self.stream.applied

    def at(self, now: float) -> list[str]:
        self.now = now
        return self.sent()

    def ask(self, short: str, *names: str, drop: tuple[str, ...] = (), **held: str) -> list[str]:
        self.send(
            short,
            resource_names_subscribe=names,
            resource_names_unsubscribe=drop,
            initial_resource_versions=held,
        )
        return self.sent()

    def ack(self, short: str) -> list[str]:
        self.send(short, response_nonce=self.nonces[short].pop(0))
        return self.sent()

    def nack(self, short: str, message: str = "no") -> Refusal | None:
        request: dict[str, Any] = {"error_detail": {"message": message}}
        return self.send(short, response_nonce=self.nonces[short].pop(0), **request)

    def send(self, short: str, **fields: Any) -> Refusal | None:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=LONG[short], **fields)
        return self.stream.receive(request)


def running(*resources: Resource) -> Proxy:
    """A proxy that has started and holds these; secrets are asked for by their names."""
    proxy = Proxy()
    proxy.offer(*resources)
    proxy.ask("cds")
    proxy.ask("rds", "thruway")
    proxy.ask("sds", *(r.name for r in resources if r.type_url == SECRET))
    while any(proxy.nonces.values()):
        for short, nonces in proxy.nonces.items():
            if nonces:
                proxy.ack(short)
    assert proxy.applied() == proxy.tokens
    return proxy


A, B, C = cluster("a", "k"), cluster("b"), cluster("c")


def test_a_starting_proxy_gets_clusters_when_it_asks_for_routes() -> None:
    """A dead upstream in the first CDS response would keep Envoy from asking for routes."""
    proxy = Proxy()
    assert proxy.ask("cds") == []  # nothing is known yet
    assert proxy.offer(A, routes("1")) == ["cds"]
    assert proxy.ack("cds") == []
    assert proxy.applied() is None
    assert proxy.ask("rds", "thruway") == ["cds +a"]
    assert proxy.ack("cds") == ["rds +thruway"]
    assert proxy.applied() is None
    assert proxy.ack("rds") == []
    assert proxy.applied() == 1


def test_make_before_break() -> None:
    """New clusters, then (once ACKed) routes, then (once ACKed, and later) no old clusters."""
    proxy = running(A, routes("1"))
    assert proxy.offer(B, routes("2")) == ["cds +b"]
    assert proxy.sent() == []
    assert proxy.ack("cds") == ["rds +thruway"]
    assert proxy.ack("rds") == []
    assert proxy.applied() == 2
    assert proxy.stream.wake_at == LINGER
    assert proxy.at(LINGER - 0.1) == []
    assert proxy.at(LINGER) == ["cds -a"]
    assert proxy.ack("cds") == []
    assert proxy.stream.wake_at is None


def test_what_is_wanted_again_does_not_linger() -> None:
    """A cluster that comes back is not removed, and lingers anew when it goes again."""
    proxy = running(A, B, routes("1"))
    proxy.offer(A, routes("2"))
    proxy.ack("rds")
    proxy.now = 6.0
    proxy.offer(A, B, routes("3"))
    proxy.ack("rds")
    assert proxy.at(LINGER) == []
    proxy.offer(A, routes("4"))
    proxy.ack("rds")
    assert proxy.at(LINGER + 1) == []
    assert proxy.at(2 * LINGER) == ["cds -b"]


def test_a_dead_upstream_holds_routes_up_for_a_while_only() -> None:
    """Routes wait HOLD for the ACK of new clusters; later clusters are sent without it."""
    proxy = running(A, routes("1"))
    assert proxy.offer(A, B, routes("2")) == ["cds +b"]
    assert proxy.stream.wake_at == HOLD
    assert proxy.at(HOLD / 2) == []
    assert proxy.offer(A, B, C, routes("3")) == ["cds +c"]
    assert proxy.at(HOLD) == ["rds +thruway"]
    assert proxy.ack("rds") == []
    assert proxy.applied() is None
    assert proxy.at(2 * HOLD) == []
    assert proxy.applied() == 3
    assert not proxy.stream.certain
    assert proxy.offer(A, B, C, routes("4")) == ["rds +thruway"]


def test_a_late_nack_is_reported() -> None:
    """The NACK of a cluster that came after routes had stopped waiting for it still counts."""
    proxy = running(routes("1"))
    proxy.offer(B, routes("2"))
    proxy.at(HOLD)
    proxy.ack("rds")
    assert proxy.applied() == 2
    refusal = proxy.nack("cds", "bad b")
    assert refusal is not None
    assert (refusal.token, refusal.message, dict(refusal.names)) == (2, "bad b", {"b": B.version})
    assert proxy.sent() == []
    assert proxy.applied() is None


def test_nothing_refused_is_sent_again_until_another_offer() -> None:
    """A NACK is answered by nothing; routes wait; the next offer resends what is in doubt."""
    proxy = running(A, routes("1"))
    proxy.offer(A, B, C, routes("2"))
    assert proxy.nack("cds") is not None
    assert proxy.sent() == []
    assert proxy.at(10) == []
    assert proxy.offer(A, B, routes("3")) == ["cds +b"]
    assert proxy.ack("cds") == ["rds +thruway"]
    assert proxy.nack("rds") is not None
    assert proxy.at(20) == []
    assert proxy.offer(A, routes("1")) == ["rds +thruway"]
    proxy.ack("rds")
    assert proxy.at(40) == ["cds -b -c"]


def test_a_stale_nack_blames_nobody() -> None:
    """If part of a refused response is no longer offered, the rest gets another try."""
    proxy = running(routes("1"))
    proxy.offer(B, C, routes("2"))
    proxy.offer(B, routes("2"))
    assert proxy.nack("cds") is None
    assert proxy.sent() == ["cds +b"]
    assert proxy.nack("cds") is not None


def test_reconnecting() -> None:
    """Nothing unchanged is sent again; what changed is, in order; what is gone is removed."""
    proxy = Proxy()
    proxy.offer(A, C, secret("k", "1"), routes("2"))
    # A proxy with a warming cluster asks for routes before it can ask for clusters.
    assert proxy.ask("rds", "thruway", thruway=routes("1").version) == []
    assert proxy.at(9.0) == []
    assert proxy.ask("cds", a=A.version, b=B.version) == ["cds +c"]
    assert proxy.ask("sds", "k", k=secret("k", "1").version) == []
    assert proxy.ack("cds") == ["rds +thruway"]
    assert proxy.ack("rds") == []
    assert proxy.at(9.0 + LINGER) == ["cds -b"]


def test_reconnecting_unchanged_sends_nothing() -> None:
    """A proxy that claims what is offered is applied at once."""
    proxy = Proxy()
    proxy.offer(A, routes("1"))
    assert proxy.ask("cds", a=A.version) == []
    assert proxy.ask("rds", "thruway", thruway=routes("1").version) == []
    assert proxy.applied() == 1


def test_secrets() -> None:
    """Asked for: answered, absent or not; changed: sent; deleted while in use: emptied at once."""
    proxy = running(A, routes("1"))
    assert proxy.ask("sds", "k", "other") == ["sds -k -other"]
    proxy.ack("sds")
    assert proxy.offer(A, secret("k", "1"), routes("1")) == ["sds +k"]
    assert proxy.offer(A, secret("k", "2"), routes("1")) == []  # one at a time
    assert proxy.offer(A, secret("k", "3"), routes("1")) == []
    assert proxy.ack("sds") == ["sds +k"]
    proxy.ack("sds")
    assert proxy.applied() == proxy.tokens
    assert proxy.offer(A, routes("1")) == ["sds +k"]
    assert proxy.stream._secrets.sent["k"] == revoked("k").version
    proxy.ack("sds")
    assert proxy.applied() == proxy.tokens
    assert proxy.sent() == []


def test_a_secret_deleted_while_away_is_emptied_once() -> None:
    """On the first stream after the deletion, and not on the second."""
    proxy = Proxy()
    proxy.offer(A, routes("1"))
    proxy.ask("rds", "thruway", thruway=routes("1").version)
    proxy.ask("cds", a=A.version)
    assert proxy.ask("sds", "k", k=secret("k", "1").version) == ["sds +k"]
    proxy = Proxy()
    proxy.offer(A, routes("1"))
    proxy.ask("rds", "thruway", thruway=routes("1").version)
    proxy.ask("cds", a=A.version)
    assert proxy.ask("sds", "k", k=revoked("k").version) == []


def test_a_secret_lingers_with_its_cluster() -> None:
    """A request on its way to a cluster that goes needs the key; the proxy unsubscribes then."""
    proxy = running(A, secret("k", "1"), routes("1"))
    proxy.offer(B, routes("2"))
    proxy.ack("cds")
    assert proxy.ack("rds") == []
    assert proxy.at(LINGER) == ["cds -a"]
    assert proxy.ask("sds", drop=("k",)) == []
    assert proxy.ack("cds") == []


def test_asking_again_is_answered_again() -> None:
    """A proxy that subscribes anew may have dropped what it had (xDS protocol page)."""
    proxy = running(A, secret("k", "1"), routes("1"))
    assert proxy.ask("sds", "k") == ["sds +k"]
    proxy.ack("sds")
    assert proxy.ask("sds", drop=("k",)) == []
    assert proxy.offer(A, secret("k", "2"), routes("1")) == []
    assert proxy.ask("sds", "k") == ["sds +k"]


def test_names_and_the_wildcard() -> None:
    """A proxy may ask for clusters by name, add the wildcard, and take it back."""
    proxy = Proxy()
    proxy.offer(A, B, routes("1"))
    proxy.ask("rds", "thruway")
    assert proxy.ask("cds", "a", "nope") == ["cds +a -nope"]
    proxy.ack("cds")
    proxy.ack("rds")
    assert proxy.ask("cds", "*") == ["cds +b"]
    proxy.ack("cds")
    assert proxy.ask("cds", drop=("a",)) == ["cds +a"]  # told again that it has it
    proxy.ack("cds")
    assert proxy.ask("cds", drop=("*",)) == []
    assert proxy.offer(A, B, C, routes("1")) == []


def test_trials_remove_nothing() -> None:
    """With `keep` clusters stay, for the next trial; the offer after it removes them."""
    proxy = running(A, B, routes("1"))
    assert proxy.offer(A, routes("2"), keep=True) == ["rds +thruway"]
    proxy.ack("rds")
    assert proxy.at(2 * LINGER) == []
    assert proxy.applied() == 2
    assert proxy.offer(A, routes("2")) == []
    assert proxy.at(3 * LINGER) == ["cds -b"]


def test_a_slow_proxy_gets_the_newest_only() -> None:
    """Offers that came while routes were in flight are skipped but for the last."""
    proxy = running(routes("0"))
    assert proxy.offer(routes("1")) == ["rds +thruway"]
    for i in range(2, 100):
        assert proxy.offer(routes(str(i))) == []
    assert proxy.ack("rds") == ["rds +thruway"]
    assert proxy.ack("rds") == []
    assert proxy.applied() == proxy.tokens


def test_types_that_are_not_ours_are_ignored() -> None:
    """The listener is static: LDS and the rest get no answer."""
    proxy = running(A, routes("1"))
    request = discovery_pb2.DeltaDiscoveryRequest(
        type_url="type.googleapis.com/envoy.config.listener.v3.Listener"
    )
    assert proxy.stream.receive(request) is None
    assert proxy.sent() == []
