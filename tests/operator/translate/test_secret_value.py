"""A secret cannot be shown by accident."""

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thruway_operator.resources.secret import SecretValue
from thruway_operator.translate import Resources

CANARY = "sk-canary-4Yq"
SECRET = SecretValue(CANARY)


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r}".format,
        "{!s:>30}".format,
        "%s".__mod__,
        "%r".__mod__,
        lambda secret: f"{secret} {secret!r} {[secret]} { {'k': secret} }",
        lambda secret: repr(Resources(routes=(), secrets={("a", "b"): {"c": secret}})),
        lambda secret: str({SecretValue(CANARY): secret}),
        lambda secret: repr(ValueError(secret)) + str(KeyError(secret)),
    ],
)
def test_it_prints_redacted(show: Callable[[SecretValue], str]) -> None:
    shown = show(SECRET)
    assert "[redacted]" in shown
    assert CANARY not in shown


def test_it_is_redacted_in_logs_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    def fail(secret: SecretValue) -> None:
        raise RuntimeError(f"cannot use {secret}")

    try:
        fail(SECRET)
    except RuntimeError as error:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
        shown = "".join(frames.format())
        logging.getLogger("test").exception("failed with %s", SECRET)
    assert "[redacted]" in shown
    assert CANARY not in shown + caplog.text


@pytest.mark.parametrize(
    "copied",
    [
        json.dumps,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        lambda secret: dataclasses.asdict(Resources(routes=(), environment={"a": secret})),
        vars,
    ],
)
def test_it_is_not_copied_into_another_form(copied: Callable[[SecretValue], Any]) -> None:
    with pytest.raises(TypeError) as caught:
        copied(SECRET)
    assert CANARY not in str(caught.value)


@given(st.text(), st.text())
def test_equality_is_that_of_the_values(one: str, other: str) -> None:
    """Two secrets are equal, with equal hash, exactly if their values are; never to their text."""
    assert (SecretValue(one) == SecretValue(other)) is (one == other)
    assert SecretValue(one) == SecretValue(one)
    assert hash(SecretValue(one)) == hash(SecretValue(one))
    assert SecretValue(one) != one
    assert SecretValue(one).reveal() == one


@given(st.text(st.characters(codec="utf-8"), min_size=4))
def test_a_digest_tells_versions_apart_and_nothing_else(value: str) -> None:
    """A digest is stable, differs with the value, and holds nothing of it."""
    digest = SecretValue(value).digest()
    assert digest == SecretValue(value).digest() != SecretValue(value + "x").digest()
    assert len(digest) == 16
    assert value not in digest
