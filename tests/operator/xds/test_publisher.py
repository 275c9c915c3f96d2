"""What a group is offered, by what its proxies ACK and NACK."""

from __future__ import annotations

from thruway_operator.xds import CLUSTER, ROUTE, SECRET, Fragment, Resource
from thruway_operator.xds.protocol.publisher import Publisher
from thruway_operator.xds.protocol.refusal import Refusal
from thruway_testing.plane.fragments import fragment_of


def fragment(name: str, content: int = 0) -> Fragment:
    return fragment_of(
        name,
        (Resource.of(CLUSTER, f"{name}.{content}", b"c"),),
        (Resource.of(SECRET, f"{name}.{content}", b"s"),),
        content,
    )


def wanting(*fragments: Fragment) -> dict[str, Fragment]:
    return {f.id: f for f in fragments}


class Desk:
    """A publisher and its proxies, which refuse whole snapshots that hold a bad fragment."""

    def __init__(self, *wanted: Fragment, proxies: int = 1) -> None:
        self.publisher = Publisher()
        self.bad: set[Fragment] = set()
        self.trials: dict[int, int] = {}
        self.publisher.want(wanting(*wanted))
        for proxy in range(proxies):
            self.publisher.connect(proxy)
        self.proxies = set(range(proxies))
        self.settle()

    def want(self, *fragments: Fragment) -> None:
        self.publisher.want(wanting(*fragments))

    def answer(self, proxy: int) -> bool:
        """ACK or NACK what this proxy is offered; return whether that changed anything."""
        offer = self.publisher.offer(proxy)
        self.trials[proxy] = self.trials.get(proxy, 0) + offer.trial
        if any(item in self.bad for item in offer.fragments.values()):
            self.publisher.nacked(proxy, Refusal(offer.token, ROUTE, {"thruway": "v"}, "no"))
            return self.publisher.offer(proxy) != offer
        return self.publisher.acked(proxy, offer.token)

    def settle(self) -> None:
        for _ in range(500):
            if not any([self.answer(proxy) for proxy in self.proxies]):  # noqa: C419
                return
        raise AssertionError("they talk without end")

    def served(self, proxy: int = 0) -> dict[str, object]:
        return {n: f.routes for n, f in self.publisher.offer(proxy).fragments.items()}

    @property
    def rejected(self) -> dict[str, str]:
        fragments = self.publisher.status().fragments
        return {n: f.rejected for n, f in fragments.items() if f.rejected}


A, B, C = fragment("a"), fragment("b"), fragment("c")


def test_the_last_good_version_stays() -> None:
    """A refused change is not served, what it would have replaced is; others are changed."""
    desk = Desk(A, B)
    bad = fragment("a", 1)
    desk.bad = {bad}
    desk.want(bad, fragment("b", 1), C)
    desk.settle()
    assert desk.served() == {"a": 0, "b": 1, "c": 0}
    assert desk.rejected == {"a": "no"}
    status = desk.publisher.status()
    assert status.settled
    assert not status.fragments["a"].programmed
    assert status.fragments["b"].programmed


def test_a_rejected_fragment_is_tried_again_only_when_it_changes() -> None:
    """Not by other changes; by one of its own, or when it was gone in between."""
    bad = fragment("b", 1)
    desk = Desk(A)
    desk.bad = {bad}
    desk.want(A, bad)
    desk.settle()
    desk.bad = set()
    desk.want(fragment("a", 2), bad)
    desk.settle()
    assert desk.served() == {"a": 2}
    assert desk.rejected == {"b": "no"}
    desk.want(A, fragment("b", 2))
    desk.settle()
    assert desk.served() == {"a": 0, "b": 2}
    assert desk.rejected == {}


def test_only_the_witness_is_given_trials() -> None:
    """The search takes nothing from other proxies, and its verdict counts for all."""
    desk = Desk(A, B, C, proxies=3)
    desk.bad = {fragment("b", 1)}
    desk.want(fragment("a", 1), fragment("b", 1), fragment("c", 1), fragment("d"))
    desk.settle()
    assert sum(count > 0 for count in desk.trials.values()) == 1
    assert [desk.served(proxy) for proxy in range(3)] == [{"a": 1, "b": 0, "c": 1, "d": 0}] * 3


def test_one_change_needs_no_trial() -> None:
    """If a single fragment changed since all was well, it is the culprit."""
    desk = Desk(A, B, C)
    desk.bad = {fragment("b", 1)}
    desk.want(A, fragment("b", 1), C)
    desk.settle()
    assert desk.trials == {0: 0}
    assert desk.rejected == {"b": "no"}


def test_all_bad() -> None:
    """With nothing good left, nothing is offered and everything is rejected."""
    desk = Desk(proxies=2)
    desk.bad = {A, B, C}
    desk.want(A, B, C)
    desk.settle()
    assert desk.served() == {}
    assert desk.rejected.keys() == {"a", "b", "c"}
    assert desk.publisher.status().settled


def test_no_proxy_nothing_known() -> None:
    """Everything wanted is offered, nothing is programmed, nothing settled."""
    publisher = Publisher()
    publisher.want(wanting(A, B))
    status = publisher.status()
    assert not status.settled
    assert status.connected == 0
    assert not any(f.programmed or f.rejected for f in status.fragments.values())
    publisher.connect(7)
    assert publisher.offer(7).fragments == wanting(A, B)


def test_programmed_means_every_proxy() -> None:
    """A fragment counts as programmed when all connected proxies hold it, not before."""
    desk = Desk(A, proxies=2)
    desk.want(A, B)
    desk.answer(0)
    status = desk.publisher.status()
    assert (status.fragments["b"].proxies, status.fragments["b"].programmed) == (1, False)
    assert status.fragments["a"].programmed
    desk.settle()
    assert desk.publisher.status().fragments["b"].programmed


def test_a_witness_that_leaves() -> None:
    """Its search ends; what it had found stays; another proxy carries on."""
    desk = Desk(A, proxies=2)
    desk.bad = {fragment("b"), fragment("d")}
    desk.want(A, B, C, fragment("d"))
    witness = next(p for p in (0, 1) if desk.answer(p) and desk.publisher.offer(p).trial)
    desk.publisher.disconnect(witness)
    desk.proxies.discard(witness)
    desk.settle()
    [other] = desk.proxies
    assert desk.served(other) == {"a": 0, "c": 0}
    assert desk.rejected.keys() == {"b", "d"}


def test_changes_in_the_midst_of_a_search() -> None:
    """What is deleted, mended or broken meanwhile is judged by its newest content."""
    desk = Desk(A)
    desk.bad = {fragment("b"), fragment("c", 1), fragment("e")}
    desk.want(A, B, C, fragment("d"), fragment("e"))
    assert desk.answer(0)
    assert desk.publisher.offer(0).trial
    desk.want(fragment("b", 1), fragment("c", 1), fragment("e"), fragment("f"))
    desk.settle()
    assert desk.served() == {"b": 1, "f": 0}
    assert desk.rejected.keys() == {"c", "e"}


def test_stale_words_are_ignored() -> None:
    """ACKs and NACKs of offers that have been replaced change nothing."""
    desk = Desk(A)
    old = desk.publisher.offer(0).token
    desk.want(A, B)
    assert not desk.publisher.acked(0, old)
    desk.publisher.nacked(0, Refusal(old, ROUTE, {"thruway": "v"}, "no"))
    assert not desk.publisher.offer(0).trial
    assert desk.rejected == {}


def test_a_refused_cluster_or_secret_blames_its_fragments() -> None:
    """Not only those that changed: a name may resolve, and its secret be asked for, much later."""
    desk = Desk(A, B)
    [bad] = A.secrets
    refusal = Refusal(desk.publisher.offer(0).token, SECRET, {bad.name: bad.version}, "no")
    desk.publisher.nacked(0, refusal)
    desk.settle()
    assert desk.rejected == {"a": "no"}
    assert desk.served() == {"b": 0}


def test_a_refusal_of_nothing_in_particular() -> None:
    """If Envoy refuses even an empty snapshot, that is told, no fragment is, until a change."""
    publisher = Publisher()
    publisher.want(wanting(A, B))
    publisher.connect(0)
    for _ in range(10):
        offer = publisher.offer(0)
        publisher.nacked(0, Refusal(offer.token, ROUTE, {"thruway": "v"}, "bad bootstrap"))
    status = publisher.status()
    assert status.error == "bad bootstrap"
    assert not any(f.rejected for f in status.fragments.values())
    publisher.want(wanting(A))
    assert publisher.status().error is None


def test_equal_wants_change_nothing() -> None:
    """Publishing the same again makes no offer; another order does (assemble may heed it)."""
    desk = Desk(A, B)
    token = desk.publisher.offer(0).token
    desk.want(fragment("a"), fragment("b"))
    assert desk.publisher.offer(0).token == token
    desk.want(B, A)
    assert list(desk.publisher.offer(0).fragments) == ["b", "a"]
