"""What runs in an application's container: it knows what every OpenAI SDK reads, and no more.

`python -m thruway_testing.plane.node.application load`: traffic until SIGTERM, and an account of
it as JSON lines. `… last-words`: one stream that SIGTERM finds halfway, and that ends after it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import uuid
from typing import TypeVar

import aiohttp

from thruway_testing.plane.node.calls import Traffic

T = TypeVar("T", bound=Traffic)

_EVERY = 0.25  # seconds between two lines


def _traffic(kind: type[T]) -> T:
    base = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
    return kind.of(base, os.environ["OPENAI_API_KEY"])


def _say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)  # noqa: T201 - it is read as the pod's log


def load() -> None:
    """Call, and tell how it goes."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with _traffic(Traffic) as found:
        while not stop.wait(_EVERY):
            failures, found.failures = found.failures, []
            cut, found.cut = found.cut, []
            _say(done=found.done, whole=found.whole, failures=failures, cut=cut)


class _Halfway(Traffic):
    """Stops halfway until it is told to end."""

    events = 0

    async def pace(self) -> None:
        self.events += 1
        if self.events != 4:
            return
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        _say(halfway=True)
        await told.wait()
        _say(told_to_end=True)
        await asyncio.sleep(3)  # as an answer that takes its time


async def _last_words() -> None:
    found = _traffic(_Halfway)
    async with aiohttp.ClientSession(headers=found.headers) as session:
        await found._stream(session, f"{found.streams[0]}/{uuid.uuid4().hex}")
    _say(whole=found.events)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load()
    else:
        asyncio.run(_last_words())
