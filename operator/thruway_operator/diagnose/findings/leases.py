"""Decides whether the Lease of the replica that writes status is held, that is, renewed. Pure.

It is renewed each second. Our clock may be wrong, so a Lease that looks old is read again `AGAIN`
seconds later: if it has not changed, no replica holds it.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AGAIN", "LEASE", "holder", "is_fresh", "is_held", "renewed"]

LEASE: Final = "thruway-operator"
AGAIN: Final = 2.5
"""Seconds after which a Lease that looks old is read again."""

_FRESH: Final = 4.0
"""A Lease renewed within this many seconds is held, even if clocks differ a little."""

Lease = dict[str, Any]


def holder(lease: Lease) -> str:
    """Return its holder, or the last one; "" if it was released."""
    return str(_spec(lease).get("holderIdentity") or "")


def renewed(lease: Lease) -> dt.datetime | None:
    """Return when it was last renewed, by its holder's clock."""
    try:
        return dt.datetime.fromisoformat(str(_spec(lease).get("renewTime")))
    except ValueError:
        return None


def is_fresh(lease: Lease, now: dt.datetime) -> bool:
    """Return whether it was just renewed, by our clock."""
    then = renewed(lease)
    return then is not None and abs((now - then).total_seconds()) < _FRESH


def is_held(lease: Lease, later: Lease, now: dt.datetime) -> bool:
    """Return whether it is held: by the clock, or because it was renewed between two reads."""
    if not holder(later):
        return False
    return is_fresh(lease, now) or renewed(later) != renewed(lease)


def _spec(lease: Lease) -> Mapping[str, Any]:
    return lease.get("spec") or {}
