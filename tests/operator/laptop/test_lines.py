"""Lines do not depend on how the bytes arrive, none is lost, none is longer than the limit."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thruway_operator.laptop.process.lines import LineSplitter

LIMIT = 5
# Two shared cores may be slow; what matters here is the result.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _expected(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return [line[:LIMIT] for line in (lines if lines[-1] else lines[:-1])]


@UNHURRIED
@given(st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\x00", b"\n"))))
def test_any_chunking_gives_the_same_lines(chunks: list[bytes]) -> None:
    splitter = LineSplitter(LIMIT)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.close()
    assert lines == _expected(b"".join(chunks))
    assert splitter.close() == []


def test_an_endless_line_takes_no_memory() -> None:
    splitter = LineSplitter(LIMIT)
    for _ in range(100):
        splitter.feed(b"x" * 10_000)
    assert len(splitter._rest) == LIMIT
    assert splitter.feed(b"\nnext\n") == [b"xxxxx", b"next"]
