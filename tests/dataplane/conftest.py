"""The real Thruway, once for the session, between the OpenAI SDK and upstreams of real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thruway_testing.product.up import ThruwayUp, thruway_up
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def openai_upstream() -> Iterator[OpenAIUpstream]:
    """An upstream that takes the canary key alone."""
    with OpenAIUpstream(accepted_keys=[CANARY_KEY]) as upstream:
        yield upstream


@pytest.fixture(scope="session")
def native_upstream() -> Iterator[OpenAIUpstream]:
    """Where `/openai` sends what it overrides; takes any key."""
    with OpenAIUpstream(name="native") as upstream:
        yield upstream


@pytest.fixture(scope="session")
def thruway(
    openai_upstream: OpenAIUpstream, native_upstream: OpenAIUpstream
) -> Iterator[ThruwayUp]:
    """`thruway up` with the canary key in its environment, without files."""
    environment = {
        "OPENAI_API_KEY": CANARY_KEY,
        "THRUWAY_UPSTREAM_URL": openai_upstream.url,
        "THRUWAY_NATIVE_URL": native_upstream.url,
    }
    with thruway_up(environment=environment) as up:
        yield up
