"""What replicas tell each other arrives as it was, however it changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thruway_operator.controller.status.tally import (
    GroupTally,
    Share,
    TallyError,
    decode,
    encode,
    take_in,
)

names = st.sampled_from(["ns/a", "ns/b"])
shares = st.builds(
    Share, st.sampled_from(["x", "y"]), st.integers(0, 2), st.sampled_from(["", "é"])
)
groups = st.builds(GroupTally, st.integers(0, 2), st.dictionaries(names, shares))
states = st.lists(st.dictionaries(st.sampled_from(["gateway", "namespace/ns"]), groups), max_size=6)


@given(states)
def test_a_peer_knows_what_was_told_last(history: list[dict[str, GroupTally]]) -> None:
    """Invariant: after each message the peer has the sender's picture, and news is what changed."""
    told: dict[str, GroupTally] = {}
    known: dict[str, GroupTally] = {}
    for state in history:
        news = take_in(known, decode(encode(told, state)))
        assert known == state
        for group in told.keys() | state.keys():
            if told.get(group) != state.get(group):
                assert group in news
        told = state


@pytest.mark.parametrize(
    "message",
    [b"", b"[]", b"{}", b'{"version": 2}', b"\xff", json.dumps({"version": "1"}).encode()],
)
def test_what_is_no_message_of_ours(message: bytes) -> None:
    with pytest.raises(TallyError):
        decode(message)


@pytest.mark.parametrize("broken", [{}, {"gone": [], "groups": {"a": {}}}, {"gone": 1}])
def test_what_is_half_a_message(broken: dict[str, object]) -> None:
    with pytest.raises(TallyError):
        take_in({}, broken)
