from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from thruway_operator.laptop.process import reaper_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Eventually(Protocol):
    def __call__(self, condition: Callable[[], object], *, seconds: float = 20) -> None: ...


@pytest.fixture
def eventually() -> Eventually:
    """Waits until a condition holds; the deadline only makes a failure finite."""

    def wait(condition: Callable[[], object], *, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come to hold"
            time.sleep(0.01)

    return wait


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """Whether a process runs; one that ended and was not reaped does not."""

    def check(pid: int) -> bool:
        entry = reaper_process._processes(pid).get(pid)
        return entry is not None and entry[0] not in {"Z", "X"}

    return check


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Invariant of every test here: it leaves no child process behind, running or not reaped."""
    before = _children()
    yield
    assert _children() <= before  # others are of fixtures that live for the whole session


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found.update(map(int, (task / "children").read_text().split()))
    return found
