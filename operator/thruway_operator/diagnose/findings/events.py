"""Reads Events of the core API: the latest message about an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thruway_operator.diagnose.findings.facts import Object

__all__ = ["last_word"]


def last_word(events: Iterable[Object]) -> str:
    """Return the message of the newest event, without a full stop; "" if there is none."""
    found = max(events, key=_moment, default=None)
    return str((found or {}).get("message") or "").rstrip(". ")


def _moment(event: Object) -> str:
    """Return whole seconds, the common prefix of the RFC 3339 forms that the API server writes."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((str(time)[:19] for time in times if time), "")
