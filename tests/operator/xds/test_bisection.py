"""The search for culprits, against oracles that refuse whatever holds one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import given

from thruway_operator.xds import CLUSTER, Fragment, Resource
from thruway_operator.xds.protocol.bisection import Bisection
from thruway_testing.plane.fragments import fragment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Refuses = Callable[[Mapping[str, Fragment]], str | None]

NAMES = [f"r{i:03}" for i in range(200)]


def fragment(name: str, content: str = "") -> Fragment:
    return fragment_of(name, (Resource.of(CLUSTER, f"{name}@{content}", b""),), (), content)


def run(search: Bisection, refuses: Refuses) -> int:
    """Answer all trials; return how many there were."""
    count = 0
    while (trial := search.trial()) is not None:
        count += 1
        message = refuses(trial)
        if message is None:
            search.passed()
        else:
            search.failed(message)
        assert count < 2000
    return count


@given(st.data())
def test_the_culprits_and_only_they_are_found(data: st.DataObject) -> None:
    """Whatever the messages name, and whether or not the base is known to be good."""
    names = data.draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=60))
    bad = set(data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1)))
    split = data.draw(st.integers(0, len(names) - 1))
    base = {name: fragment(name) for name in names[:split] if name not in bad}
    suspects = {name: fragment(name) for name in names if name not in base}

    def refuses(trial: Mapping[str, Fragment]) -> str | None:
        culprits = sorted(bad & trial.keys())
        if not culprits:
            return None
        says = data.draw(st.sampled_from(["truth", "nothing", "lie"]))
        return {"truth": culprits[0], "nothing": "no", "lie": f"see {names[0]}, {names[-1]}"}[says]

    search = Bisection(base, suspects, "no", base_passed=data.draw(st.booleans()))
    run(search, refuses)
    assert search.error is None
    assert search.culprits.keys() == bad
    assert search.base.keys() == set(names) - bad


@given(st.integers(2, 1000), st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_number_of_trials(n: int, k: int, random: object) -> None:
    """k culprits among n need no more than about 2 k log2(n / k) trials."""
    names = [f"r{i}" for i in range(n)]
    bad = set(random.sample(names, min(k, n)))  # type: ignore[attr-defined]
    search = Bisection({}, {name: fragment(name) for name in names}, "no", base_passed=True)
    count = run(search, lambda trial: "no" if bad & trial.keys() else None)
    k = len(bad)
    assert count <= 2 * k * (math.log2(n / k) + 2)


def test_a_pair_that_does_not_go_together() -> None:
    """Of two fragments that are fine alone and not together, one is left out."""
    suspects = {name: fragment(name) for name in NAMES[:40]}
    search = Bisection({}, suspects, "no", base_passed=True)
    run(search, lambda trial: "no" if {"r003", "r030"} <= trial.keys() else None)
    assert len(search.culprits) == 1
    assert search.culprits.keys() <= {"r003", "r030"}


def test_a_bad_base_blames_no_suspect() -> None:
    """What was believed to be good and never tried is doubted before a suspect is blamed."""
    base = {"old": fragment("old"), "fine": fragment("fine")}
    search = Bisection(base, {"new": fragment("new")}, "no", base_passed=False)
    run(search, lambda trial: "no" if "old" in trial else None)
    assert search.culprits.keys() == {"old"}
    assert search.base.keys() == {"fine", "new"}


def test_refusing_everything() -> None:
    """An Envoy that refuses even nothing blames nobody."""
    search = Bisection({}, {"a": fragment("a"), "b": fragment("b")}, "no", base_passed=False)
    run(search, lambda _: "your bootstrap")
    assert search.error == "your bootstrap"
    assert search.culprits == {}


def test_an_uncertain_pass_proves_nothing_about_the_other_half() -> None:
    """A half that passed as far as is known does not make the other half guilty."""
    search = Bisection({}, {"a": fragment("a"), "b": fragment("b")}, "no", base_passed=True)
    assert search.trial() == {"a": fragment("a")}
    search.passed(certain=False)
    assert search.trial() == {"a": fragment("a"), "b": fragment("b")}
    search.failed("late", blamed={"a"})  # a's own NACK at last
    assert search.trial() == {"a": fragment("a")}
    search.failed("late", blamed={"a"})
    assert search.trial() == {"b": fragment("b")}
    search.passed()
    assert search.trial() is None
    assert search.culprits.keys() == {"a"}


def test_a_change_in_the_midst() -> None:
    """What leaves is forgotten, what is new is tried, and a disturbed trial convicts nobody."""
    suspects = {name: fragment(name) for name in "abcd"}
    search = Bisection({}, suspects, "no", base_passed=True)
    assert search.trial() == {"a": suspects["a"], "b": suspects["b"]}
    wanted = {"b": suspects["b"], "c": fragment("c", "new"), "d": suspects["d"], "e": fragment("e")}
    search.rebase(wanted, ())
    search.failed("a was the culprit")
    seen = []
    while (trial := search.trial()) is not None:
        seen.append(trial)
        search.passed()
    assert search.culprits == {}
    assert search.base == wanted
    assert not any("a" in trial for trial in seen)
