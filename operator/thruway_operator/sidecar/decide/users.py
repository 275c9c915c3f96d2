"""Chooses the user ID of the sidecar's containers: one that no other container of the pod has.

Platforms such as OpenShift give each namespace a range of IDs, and reject pods with others.
"""

from __future__ import annotations

import re
from itertools import chain, count
from typing import TYPE_CHECKING, Final

from thruway_operator.sidecar.decide.settings import InjectorError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["ASSIGNED", "RANGE", "USER", "check_user", "choose_user", "read_range"]

ASSIGNED: Final = "assigned"
"""In place of an ID: the platform assigns one."""
RANGE: Final = "openshift.io/sa.scc.uid-range"
"""The annotation of a namespace with its range: `FIRST/LENGTH`, or `FIRST-LAST`.

See OpenShift, "Managing security context constraints: pre-allocated values".
"""
# Not 65532: distroless images run as this user, which no manifest shows.
USER: Final = 65533
_LARGEST: Final = 2**31 - 1  # Kubernetes' limit of runAsUser
_ID: Final = re.compile(r"[0-9]{1,10}")
_RANGE: Final = re.compile(r"([0-9]{1,10})([/-])([0-9]{1,10})")


def read_range(text: str | None) -> range | None:
    """Return the IDs in such an annotation; None if there is none, or it is not understood."""
    found = _RANGE.fullmatch((text or "").partition(",")[0].strip())
    if found is None:
        return None
    first, other = int(found[1]), int(found[3])
    last = other if found[2] == "-" else first + other - 1
    return range(first, last + 1) if 0 < first <= last <= _LARGEST else None


def check_user(text: str, what: str) -> int | None:
    """Return the user ID in a setting; None for `assigned`.

    Raises:
        InjectorError: it is neither `assigned` nor an ID, or it is root's.
    """
    if text == ASSIGNED:
        return None
    if not (_ID.fullmatch(text) and 0 < int(text) <= _LARGEST):
        raise InjectorError(
            f"{what} must be a user ID from 1 to {_LARGEST}, or {ASSIGNED}: the platform's"
        )
    return int(text)


def choose_user(
    preferred: int | None, allowed: range | None, taken: Collection[object]
) -> int | None:
    """Return an ID that is not taken; None if the platform assigns it.

    In a range, it is the last one that is free, because platforms assign the first to containers
    without an ID.
    """
    if allowed is not None:
        free = (user for user in reversed(allowed) if user not in taken)
        return next(free, None) if len(allowed) > 1 else None
    if preferred is None:
        return None
    others = chain(range(preferred, 0, -1), count(preferred + 1))  # never 0, which is root
    return next(user for user in others if user not in taken)
