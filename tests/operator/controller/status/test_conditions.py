"""What a route's status says, whatever the replicas tell."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thruway_operator.controller.status.conditions import Proxies, count, status_of
from thruway_operator.controller.status.observed import Observed
from thruway_operator.controller.status.tally import GroupTally, Share
from thruway_operator.translate import Condition, Verdict

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
ACCEPTED = Condition("Accepted", True, "Accepted", "Fine.")
RESOLVED = Condition("ResolvedRefs", True, "ResolvedRefs", "Fine.")
REFUSED = Condition("Accepted", False, "Conflicted", "Another has it.")


def observed(*, accepted: Condition = ACCEPTED, generation: int = 1) -> Observed:
    return Observed(
        uid="u",
        generation=generation,
        resource_version=1,
        status={},
        verdict=Verdict("ns/a", generation, accepted, RESOLVED),
        problem="",
        url="http://127.0.0.1:4000/a",
        upstream="https://api.example.com",
        digests={"namespace/ns": "d"},
    )


def condition(status: dict[str, Any], kind: str = "Programmed") -> dict[str, Any]:
    return next(dict(item) for item in status["conditions"] if item["type"] == kind)


shares = st.builds(
    Share, st.sampled_from(["new", "old"]), st.integers(0, 3), st.sampled_from(["", "", "bad"])
)
tallies = st.builds(
    GroupTally, st.integers(0, 3), st.dictionaries(st.just("ns/a"), shares, max_size=1)
)
replicas = st.lists(st.dictionaries(st.just("namespace/ns"), tallies, max_size=1), max_size=3)


@given(replicas, st.lists(st.just("two"), max_size=1))
def test_programmed_only_if_every_proxy_of_every_live_replica_holds_it(
    told: list[dict[str, GroupTally]], silent: list[str]
) -> None:
    """Invariant: True is never said while some connected proxy may serve something else."""
    proxies = count("ns/a", {"namespace/ns": "new"}, told)

    found = condition(status_of(observed(), proxies, {}, NOW, silent=silent))

    groups = [tally for replica in told for tally in replica.values() if tally.connected]
    holds = [
        (share := tally.shares.get("ns/a")) is not None
        and share.digest == "new"
        and share.proxies == tally.connected
        and not share.rejected
        for tally in groups
    ]
    if found["status"] == "True":
        assert holds
        assert all(holds)
        assert not silent
    connected = sum(tally.connected for replica in told for tally in replica.values())
    assert proxies.connected == connected


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8))
def test_the_transition_time_changes_with_the_status_alone(seen: list[tuple[int, int]]) -> None:
    """Invariant: lastTransitionTime is when `status` became what it is."""
    status: dict[str, Any] = {}
    for number, (connected, programmed) in enumerate(seen):
        before = condition(status) if status else {}
        now = f"2026-01-01T00:00:{number:02}Z"
        proxies = Proxies(connected, min(connected, programmed))
        status = status_of(observed(), proxies, status, now)
        found = condition(status)
        if before.get("status") == found["status"]:
            assert found["lastTransitionTime"] == before["lastTransitionTime"]
        else:
            assert found["lastTransitionTime"] == now


def test_the_same_again_is_equal_whatever_the_time() -> None:
    first = status_of(observed(), Proxies(2, 2), {}, NOW)

    assert status_of(observed(), Proxies(2, 2), first, LATER) == first


def test_reasons() -> None:
    def programmed(proxies: Proxies, **options: Any) -> tuple[str, str]:
        found = condition(status_of(observed(**options), proxies, {}, NOW))
        return found["status"], found["reason"]

    assert programmed(Proxies()) == ("Unknown", "NoProxies")
    assert programmed(Proxies(2, 1)) == ("False", "Pending")
    assert programmed(Proxies(2, 2, behind=True)) == ("False", "Pending")
    assert programmed(Proxies(2, 0, rejected="no")) == ("False", "Rejected")
    assert programmed(Proxies(2, 2)) == ("True", "Programmed")
    assert programmed(Proxies(2, 2), accepted=REFUSED) == ("False", "NotAccepted")
    silent = condition(status_of(observed(), Proxies(2, 2), {}, NOW, silent=["operator-1"]))
    assert (silent["status"], silent["reason"]) == ("Unknown", "ReplicaSilent")
    assert "operator-1" in silent["message"]


def test_a_joining_proxy_does_not_flip_it_and_a_new_generation_does() -> None:
    before = status_of(observed(), Proxies(1, 1), {}, NOW)

    joined = status_of(observed(), Proxies(2, 1), before, LATER, patient=True)
    changed = status_of(observed(generation=2), Proxies(2, 1), before, LATER, patient=True)

    assert condition(joined)["status"] == "True"
    assert joined["proxies"] == {"connected": 2, "programmed": 1}
    assert condition(changed)["reason"] == "Pending"


def test_envoys_message_is_bounded() -> None:
    status = status_of(observed(), Proxies(1, 0, rejected="x" * 100_000), {}, NOW)

    assert len(condition(status)["message"]) == 2000
