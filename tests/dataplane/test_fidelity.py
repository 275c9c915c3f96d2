"""What passes through Thruway is what was sent: generated traffic, both ways, byte for byte."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from thruway_testing.wire.fidelity_bench import FidelityBench, fidelity_bench
from thruway_testing.wire.fidelity_strategies import ROUTES, answers, requests
from thruway_testing.wire.rawhttp import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = int(os.environ.get("THRUWAY_FUZZ_EXAMPLES", "500"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FidelityBench]:
    with fidelity_bench(tmp_path_factory.mktemp("fidelity")) as bench:
        yield bench


@pytest.mark.timeout(180 + EXAMPLES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=set(Phase) - {Phase.explain},  # takes minutes and says nothing about Envoy
)
@given(data=st.data())
def test_a_request_passes_as_it_would_directly(bench: FidelityBench, data: st.DataObject) -> None:
    """For all requests and answers: both ends see through Thruway what they see without it.

    But for what `thruway_testing.wire.fidelity.ALLOWED` lists.
    """
    way = data.draw(st.sampled_from(ROUTES), label="way")
    request = data.draw(requests(), label="request")
    upstream = (
        Version.HTTP2
        if Version.HTTP2 in (way.removeprefix("http"), request.version)
        else Version.HTTP11
    )
    answer = data.draw(answers(request, upstream), label="answer")
    found = bench.compare(way, request, answer)
    assert not found, "\n".join(found)
