"""When a pod may end: decided by what Envoy says of its requests, with the clock passed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thruway_pod.admin import AdminError
from thruway_pod.drain import Limits, drain, drained

LIMITS = Limits(at_least=5, quiet=2, at_most=30)


class FakeTime:
    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


class Envoy:
    """`requests(elapsed)` says what is under way and what has come."""

    def __init__(self, time: FakeTime, active_until: float, coming_until: float) -> None:
        self.time, self.start = time, time.now
        self.active_until, self.coming_until = active_until, coming_until
        self.failed = 0

    def fail_health_check(self) -> None:
        self.failed += 1

    def requests(self) -> tuple[int, int]:
        elapsed = self.time.now - self.start
        return int(elapsed < self.active_until), int(min(elapsed, self.coming_until) * 10)


def _drain(active_until: float, coming_until: float) -> tuple[float, int]:
    time = FakeTime()
    envoy = Envoy(time, active_until, coming_until)
    cut = drain(envoy, LIMITS, clock=time.clock, pause=time.pause)
    assert envoy.failed == 1
    return time.now - 100.0, cut


def test_an_idle_one_ends_after_the_shortest_time() -> None:
    took, cut = _drain(0, 0)
    assert 5 <= took < 5.5
    assert cut == 0


def test_it_waits_until_nobody_comes_any_more() -> None:
    took, cut = _drain(0, 9)
    assert 11 <= took < 11.5
    assert cut == 0


def test_it_waits_for_a_stream() -> None:
    took, cut = _drain(20, 0)
    assert 20 <= took < 20.5
    assert cut == 0


def test_an_endless_stream_is_cut() -> None:
    took, cut = _drain(1000, 0)
    assert 30 <= took < 30.5
    assert cut == 1


def test_an_envoy_that_is_gone_is_not_waited_for() -> None:
    class Gone:
        def fail_health_check(self) -> None:
            raise AdminError("Envoy does not respond (Connection refused)")

        def requests(self) -> tuple[int, int]:
            raise AssertionError

    time = FakeTime()
    assert drain(Gone(), LIMITS, clock=time.clock, pause=time.pause) == 0
    assert time.now == 100.0


@given(st.floats(0, 60), st.floats(0, 60), st.integers(0, 3), st.floats(0, 40), st.floats(0, 40))
def test_no_request_is_cut_before_the_longest_time(
    elapsed: float, since: float, active: int, at_least: float, more: float
) -> None:
    """Envoy never ends with a request under way, or soon after one came, before `at_most`."""
    limits = Limits(at_least, 2.0, at_least + more)
    if drained(limits, elapsed, since, active) and elapsed < limits.at_most:
        assert active == 0
        assert since >= 2.0
        assert elapsed >= at_least
