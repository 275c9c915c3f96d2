"""An event loop whose clock jumps to the next timer whenever nothing else can happen.

A test may wait for a minute with `asyncio.sleep(60)`; it takes a few milliseconds, and everything
that was due within that minute has happened. It works because client and server share the loop and
talk over Unix sockets: what one has sent, the other can read at once. While something outside the
loop works (a thread, gRPC), `paused` stops the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import selectors
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from concurrent.futures import Executor

__all__ = ["FakeTimeLoop", "in_fake_time", "paused"]

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Selector(selectors.DefaultSelector):
    """Lets the clock jump instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.held = 0
        """How many reasons there are for the clock to stand still."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if self.held or timeout is None:
            return super().select(None)
        self.now += timeout
        return []


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """The loop; `time` starts at 1,000 seconds."""

    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run it in a thread, while the clock stands still."""
        self.selector.held += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._release)
        return future

    async def shutdown_default_executor(self, *timeout: float | None) -> None:
        """Wait for its threads while the clock stands still: Python 3.12 and later limit it."""
        self.selector.held += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self.selector.held -= 1

    def _release(self, _: object) -> None:
        self.selector.held -= 1


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Stop the clock, to wait for something outside the event loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeTimeLoop)
    loop.selector.held += 1
    try:
        yield
    finally:
        loop.selector.held -= 1


def in_fake_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test in such a loop; it fails if the test leaves a task behind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)
            # Cancelled tasks may need a few rounds to end.
            for _ in range(10):
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"the test left tasks behind: {left}"

        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(main())

    return run
