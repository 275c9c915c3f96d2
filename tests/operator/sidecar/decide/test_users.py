"""Invariant: the sidecar's user ID is one that the namespace allows, and that is not taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thruway_operator.sidecar.decide import InjectorError
from thruway_operator.sidecar.decide.users import check_user, choose_user, read_range

IDS = st.integers(1, 2**31 - 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1000660000/10000", range(1000660000, 1000670000)),
        ("1000660000-1000669999", range(1000660000, 1000670000)),
        ("1000/1", range(1000, 1001)),
        ("1000660000/10000,5/5", range(1000660000, 1000670000)),
        (None, None),
        ("", None),
        ("0/10", None),
        ("10-5", None),
        ("5/0", None),
        ("2147483647/2", None),
        ("a/b", None),
        ("99999999999/1", None),
        ("٣٣/٣", None),
    ],
)
def test_ranges(text: str | None, found: range | None) -> None:
    assert read_range(text) == found


@given(IDS, st.integers(2, 50), st.sets(IDS))
def test_in_a_range_it_is_free_and_not_the_first(first: int, length: int, taken: set[int]) -> None:
    allowed = range(first, first + length)
    taken -= {first + length - 1}
    found = choose_user(65533, allowed, taken)
    assert found is not None
    assert found in allowed
    assert found not in taken
    assert found != first


@pytest.mark.parametrize("allowed", [range(7, 8), range(7, 9)])
def test_without_a_free_one_the_platform_assigns_it(allowed: range) -> None:
    assert choose_user(65533, allowed, [7, 8]) is None


@given(IDS.filter(lambda user: user > 100), st.sets(IDS, max_size=50))
def test_without_a_range_the_next_lower_one_that_is_free(user: int, taken: set[int]) -> None:
    found = choose_user(user, None, taken)
    assert found is not None
    assert found not in taken
    assert user - 50 <= found <= user
    assert choose_user(None, None, taken) is None


@pytest.mark.parametrize("taken", [{1}, {1, 2}, {1, 2, 3, 65533}])
def test_root_is_never_chosen(taken: set[int]) -> None:
    found = choose_user(2 if 2 in taken else 1, None, taken)
    assert found is not None
    assert found > 0
    assert found not in taken


@pytest.mark.parametrize("text", ["", "root", "-1", "1.5", "٣", "2147483648", "9" * 5000])
def test_wrong_ones_are_named(text: str) -> None:
    with pytest.raises(InjectorError, match="annotation x must be a user ID from 1 to 2147483647"):
        check_user(text, "annotation x")
    assert check_user("assigned", "x") is None
    assert check_user("2000", "x") == 2000
