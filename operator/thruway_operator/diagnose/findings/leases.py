"""The Lease of the replica that writes status: held, if somebody renews it. Pure.

It is renewed each second. One that looks old by our clock, which may be wrong, is looked at twice:
`AGAIN` seconds later it has changed, or nobody holds it.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AGAIN", "LEASE", "holder", "is_fresh", "is_held", "renewed"]

LEASE: Final = "thruway-operator"
AGAIN: Final = 2.5
"""Seconds after which a Lease that looks old is looked at again."""

_FRESH: Final = 4.0
"""Seconds since the last renewal within which nobody's clock matters."""

Lease = dict[str, Any]


def holder(lease: Lease) -> str:
    """Return who holds it, or held it last; "" if it was let go of."""
    return str(_spec(lease).get("holderIdentity") or "")


def renewed(lease: Lease) -> dt.datetime | None:
    """Return when it was renewed last, by its holder's clock."""
    try:
        return dt.datetime.fromisoformat(str(_spec(lease).get("renewTime")))
    except ValueError:
        return None


def is_fresh(lease: Lease, now: dt.datetime) -> bool:
    """Tell whether it was renewed a moment ago, by our clock."""
    then = renewed(lease)
    return then is not None and abs((now - then).total_seconds()) < _FRESH


def is_held(lease: Lease, later: Lease, now: dt.datetime) -> bool:
    """Tell whether somebody holds it: by the clock, or as it has been renewed before our eyes."""
    if not holder(later):
        return False
    return is_fresh(lease, now) or renewed(later) != renewed(lease)


def _spec(lease: Lease) -> Mapping[str, Any]:
    return lease.get("spec") or {}
