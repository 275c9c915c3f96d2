"""Finds out by Leases whether an operator runs anywhere in the cluster."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thruway_operator.diagnose.findings.leases import (
    AGAIN,
    LEASE,
    holder,
    is_fresh,
    is_held,
    renewed,
)
from thruway_operator.diagnose.online.fetching import Fetcher
from thruway_operator.kube import KubeError

if TYPE_CHECKING:
    from thruway_operator.diagnose.findings.facts import Answer
    from thruway_operator.kube import KubeClient

__all__ = ["Running", "read_running"]

_PATH = "/apis/coordination.k8s.io/v1/leases"
_LONG_AGO = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Running:
    """Whether one runs; None without permission to list Leases in the whole cluster."""

    value: bool | None
    why: str = ""
    """The evidence that none runs, without a full stop."""

    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"running": self.value, "problem": self.why or None}


async def read_running(client: KubeClient) -> Running:
    """Read the Leases of all operators, and again a moment later if none looks renewed.

    Raises:
        KubeError: the API server cannot be reached, or fails.
    """
    ask, now = Fetcher(client, ""), dt.datetime.now(dt.UTC)
    first = await _leases(ask)
    if not first.there:
        return Running(None)
    if any(holder(lease) and is_fresh(lease, now) for lease in first.items):
        return Running(True)
    await asyncio.sleep(AGAIN)
    later = await _leases(ask)
    before = {lease["metadata"]["uid"]: lease for lease in first.items}
    for lease in later.items:
        if is_held(before.get(lease["metadata"]["uid"], {}), lease, now):
            return Running(True)
    return Running(False, _why(later))


async def _leases(ask: Fetcher) -> Answer:
    found = await ask.everywhere("leases", _PATH, fieldSelector=f"metadata.name={LEASE}")
    if found.lack == "failed":
        raise KubeError(found.why)
    return found


def _why(leases: Answer) -> str:
    newest = max(leases.items, key=lambda lease: renewed(lease) or _LONG_AGO, default=None)
    if newest is None:
        return f"there is no Lease {LEASE} in this cluster"
    where = f"Lease {LEASE} in namespace {newest['metadata']['namespace']}"
    then = renewed(newest)
    if then is None:
        return f"{where} was never renewed"
    return f"{where} was last renewed at {then:%Y-%m-%d %H:%M:%S} UTC"
