"""What an upstream was sent: every request as it came off the wire, and how it ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Journal", "RecordedRequest"]

T = TypeVar("T")


@dataclass
class RecordedRequest:
    """One request. It is recorded when its headers are in; the rest is filled in as it happens."""

    method: str
    raw_path: bytes
    """Path and query, byte for byte."""
    headers: list[tuple[str, str]]
    """In the order received, names as received, repeats kept."""
    subprotocols: list[str]
    """The WebSocket subprotocols that the request offers; empty for plain HTTP."""
    body: bytes = b""
    body_complete: bool = False
    finished: bool = False
    """The upstream is done with it, one way or another."""
    aborted: bool = False
    """The peer closed the connection before the answer was complete."""
    close_code: int | None = None
    """WebSocket only: the code with which the peer closed; 1006 where it just went away."""
    close_reason: str | None = None

    def values(self, name: str) -> list[str]:
        """Return every value of this header, in order; the name in any case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def query(self) -> bytes:
        """What follows the question mark, byte for byte."""
        return self.raw_path.partition(b"?")[2]


@dataclass
class Journal:
    """The requests of one upstream, written by its thread and read by the test's."""

    _requests: list[RecordedRequest] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def record(self, request: RecordedRequest) -> None:
        """Add a request and wake whoever waits."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def update(self, change: Callable[[], None]) -> None:
        """Run `change`, which alters a recorded request, and wake whoever waits."""
        with self._changed:
            change()
            self._changed.notify_all()

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, oldest first, in a list of their own."""
        return list(self._requests)

    def wait_for(self, condition: Callable[[], T | None], timeout: float = 5.0) -> T:
        """Return the first true value of `condition`, asked again at every change.

        Raises TimeoutError after `timeout` seconds.
        """
        with self._changed:
            value = self._changed.wait_for(condition, timeout)
        if not value:
            raise TimeoutError(f"not so within {timeout} s; the last requests: {self._last(5)}")
        return value

    def _last(self, count: int) -> str:
        return ", ".join(
            f"{r.method} {r.raw_path!r} (finished={r.finished}, aborted={r.aborted})"
            for r in self._requests[-count:]
        )
