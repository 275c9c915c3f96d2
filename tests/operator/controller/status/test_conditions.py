"""What a route's status says, whatever the replicas tell."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thruway_operator.controller.status.conditions import Proxies, count, status_of
from thruway_operator.controller.status.observed import Observed
from thruway_operator.controller.status.tally import GroupTally, Share
from thruway_operator.translate import Condition, Verdict
from thruway_operator.translate.verdict import NOT_LOOKED_UP

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
ACCEPTED = Condition("Accepted", True, "Accepted", "Fine.")
RESOLVED = Condition("ResolvedRefs", True, "ResolvedRefs", "Fine.")
REFUSED = Condition("Accepted", False, "Conflicted", "Another has it.")


MISSING = Condition("ResolvedRefs", False, "SecretNotFound", "It is missing.")


def observed(
    *, accepted: Condition = ACCEPTED, resolved: Condition = RESOLVED, generation: int = 1
) -> Observed:
    return Observed(
        uid="u",
        generation=generation,
        resource_version=1,
        status={},
        verdict=Verdict("ns/a", generation, accepted, resolved),
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
    connected = sum(tally.connected for replica in told for tally in replica.values())
    assert proxies.connected == connected
    if found["status"] == "True":
        assert found["reason"] == ("Programmed" if holds else "NoProxies")
        assert all(holds)
        assert not silent


verdicts = st.sampled_from([(ACCEPTED, RESOLVED), (ACCEPTED, MISSING), (REFUSED, NOT_LOOKED_UP)])
held = st.builds(
    Proxies, st.integers(0, 2), st.integers(0, 2), st.booleans(), st.sampled_from(["", "", "no"])
)


@given(verdicts, held, st.lists(st.just("two"), max_size=1), st.booleans(), st.booleans())
def test_ready_agrees_with_the_other_conditions(
    verdict: tuple[Condition, Condition],
    proxies: Proxies,
    silent: list[str],
    patient: bool,
    starting: bool,
) -> None:
    """Invariant: Ready is True if all others are, and has the reason of one that is not."""
    route = observed(accepted=verdict[0], resolved=verdict[1])
    status = status_of(route, proxies, {}, NOW, silent=silent, patient=patient, starting=starting)
    ready, *others = status["conditions"]

    assert ready["type"] == "Ready"
    assert [item["type"] for item in others] == ["Accepted", "ResolvedRefs", "Programmed"]
    assert (ready["status"] == "True") == all(item["status"] == "True" for item in others)
    assert ready["observedGeneration"] == status["observedGeneration"]
    if ready["status"] == "True":
        assert ready["reason"] == ("Ready" if proxies.connected else "NoProxies")
        return
    failed = [item for item in others if item["status"] == "False" and item["reason"] != "Pending"]
    source = failed[0] if failed else next(item for item in others if item["status"] != "True")
    assert ready["status"] == ("False" if failed else "Unknown")
    assert (ready["reason"], ready["message"]) == (source["reason"], source["message"])


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

    assert programmed(Proxies()) == ("True", "NoProxies")
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


def test_without_proxies_it_waits_only_while_they_may_still_reconnect() -> None:
    waiting = status_of(observed(), Proxies(), {}, NOW, starting=True)
    waited = status_of(observed(), Proxies(), waiting, LATER)

    assert [condition(waiting, kind)["status"] for kind in ("Ready", "Programmed")] == [
        "Unknown",
        "Unknown",
    ]
    assert [condition(waited, kind)["status"] for kind in ("Ready", "Programmed")] == [
        "True",
        "True",
    ]
    assert "No proxy serves it yet" in condition(waited, "Ready")["message"]


def test_the_first_proxy_that_joins_does_not_flip_it() -> None:
    before = status_of(observed(), Proxies(), {}, NOW)

    joined = status_of(observed(), Proxies(1, 0), before, LATER, patient=True)

    assert condition(joined)["reason"] == "NoProxies"  # it would be wrong to say that all serve it
    assert condition(joined, "Ready") == condition(before, "Ready")


def test_envoys_message_is_bounded() -> None:
    status = status_of(observed(), Proxies(1, 0, rejected="x" * 100_000), {}, NOW)

    assert len(condition(status)["message"]) == 2000
