"""Reads a proxy's recent calls from Envoy's access log, and tells which of them failed."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["SECONDS", "STREAK", "Call", "Failing", "by_destination", "failing", "read_calls"]

SECONDS: Final = 60
"""Age of the oldest call that is considered: a call is evidence of now, or of nothing."""
_LATEST: Final = 20
"""How many calls to a destination are considered, the newest."""
STREAK: Final = 3
"""How many in a row, or among the latest, are more than a coincidence."""
_TELLING: Final = frozenset({401, 403, 404, 429})
"""Statuses below 500 that an upstream may send to every call because of the route."""
_REFUSALS: Final = frozenset({
    "connect_not_supported", "foreign_host", "foreign_origin", "invalid_api_key",
    "malformed_request", "method_not_allowed", "missing_api_key", "origin_not_allowed",
    "path_has_dot_segments", "request_headers_timeout", "request_headers_too_large",
    "route_not_found",
})  # fmt: skip
"""The codes of requests that Thruway rejects (docs/errors.md)."""
_ENDED: Final = "client_closed"
"""The code of calls that the client ended."""


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the access log."""

    route: str = ""
    """As `namespace/name`; "" if it reached no route."""
    upstream: str = ""
    """As `host:port`; "" if it went nowhere."""
    settings: str = ""
    """The digest of the upstream's settings, such as its CA."""
    status: int = 0
    code: str = ""
    """Thruway's code of an error (docs/errors.md); "" for a response of the upstream."""
    path: str = ""
    details: str = ""

    @property
    def trouble(self) -> str:
        """The code or status of a failure that may be the route's or the upstream's; or ""."""
        if self.code:
            return self.code if self.is_thruways else ""
        return str(self.status) if self.status in _TELLING or self.status >= 500 else ""

    @property
    def is_thruways(self) -> bool:
        """Whether Thruway ended it with an error that is not about the request."""
        return bool(self.code) and not self.is_refused and not self.is_ended

    @property
    def is_ended(self) -> bool:
        """Whether the client ended it."""
        return self.code == _ENDED

    @property
    def is_refused(self) -> bool:
        """Whether Thruway rejected the request, and sent nothing."""
        return self.code in _REFUSALS

    @property
    def is_response(self) -> bool:
        """Whether the upstream has responded."""
        return not self.code and self.status > 0


@dataclass(frozen=True, slots=True)
class Failing:
    """What is wrong with the latest calls to a destination."""

    call: Call
    """The newest that failed."""
    failed: int
    of: int

    @property
    def share(self) -> str:
        """How many calls failed, as the subject of a sentence."""
        if self.failed < self.of:
            return f"{self.failed} of the last {self.of} calls"
        return "the last call" if self.of == 1 else f"all of the last {self.of} calls"


def read_calls(log: str) -> list[Call]:
    """Return the calls in a log, oldest first. Other lines are ignored."""
    return [call for line in log.splitlines() if (call := _read(line))]


def _read(line: str) -> Call | None:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):  # other programs may write into the same log
        return None
    if not isinstance(found, dict) or found.get("event") != "call":
        return None
    status = found.get("status")
    address, _, settings = _text(found, "upstream").rpartition("/")
    return Call(
        route=_text(found, "route").partition("#")[0],  # without the override's name
        upstream=address,
        settings=settings,
        status=status if isinstance(status, int) else 0,
        code=_text(found, "code"),
        path=_text(found, "path"),
        details=_text(found, "details"),
    )


def _text(found: Mapping[str, Any], field: str) -> str:
    value = found.get(field)
    # Envoy writes - for a value that does not exist.
    return value if isinstance(value, str) and value != "-" else ""


def by_destination(calls: Iterable[Call]) -> dict[tuple[str, str], list[Call]]:
    """Return the latest calls by route and upstream, without those that say nothing about it.

    These are requests that Thruway rejected, calls that the client ended, and those with settings
    of the upstream that have changed since.
    """
    found: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        if call.route and (call.is_response or call.is_thruways):
            found[call.route, call.upstream].append(call)
    return {
        key: [call for call in items if call.settings == items[-1].settings][-_LATEST:]
        for key, items in found.items()
    }


def failing(calls: Sequence[Call]) -> Failing | None:
    """Return what is wrong with the latest calls to a destination; None if they succeed.

    An error of Thruway's counts if it is the newest, or frequent. An error status of the upstream
    may be about one request, so it counts if the newest calls all have it.
    """
    ours = [call for call in calls if call.is_thruways]
    if ours and (calls[-1].is_thruways or len(ours) >= STREAK):
        return Failing(ours[-1], len(ours), len(calls))
    newest = calls[-STREAK:]
    if newest and newest[-1].trouble and len({call.trouble for call in newest}) == 1:
        same = [call for call in calls if call.trouble == newest[-1].trouble]
        return Failing(newest[-1], len(same), len(calls))
    return None
