"""The drain before a pod ends: requests in flight, and those about to arrive, can finish."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from thruway_pod.admin import AdminError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Limits", "drain", "drained"]

log = logging.getLogger("thruway.drain")

_EVERY = 0.2  # seconds between two checks


class _Admin(Protocol):
    def fail_health_check(self) -> None: ...
    def requests(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a drain, all in seconds."""

    at_least: float = 5.0
    """The minimum duration. Clients may reach the pod until its endpoint is removed everywhere."""
    quiet: float = 2.0
    """How long no new request must have arrived."""
    at_most: float = 30.0
    """The maximum duration. Streams that last longer are cut."""


def drained(limits: Limits, elapsed: float, since_last: float, active: int) -> bool:
    """Decide whether Envoy may exit.

    `elapsed` and `since_last` are seconds since the drain began and since the last new request.
    """
    if elapsed >= limits.at_most:
        return True
    return active == 0 and elapsed >= limits.at_least and since_last >= limits.quiet


def drain(
    admin: _Admin,
    limits: Limits,
    *,
    keep_ready: bool = False,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Make Envoy close its connections, and wait; return how many requests are cut.

    With `keep_ready`, only wait: an Envoy that is told to close connections never becomes ready
    again, even if the pod stays. If Envoy does not respond, there is nothing to wait for.
    """
    began = last = clock()
    seen = active = 0
    try:
        if not keep_ready:
            admin.fail_health_check()
        while True:
            active, total = admin.requests()
            now = clock()
            if total != seen:
                seen, last = total, now
            if drained(limits, now - began, now - last, active):
                break
            pause(_EVERY)
    except AdminError as error:
        log.warning("%s: nothing to drain", error)
        return 0
    log.info("drained in %.1f s; requests still in flight: %d", clock() - began, active)
    return active
