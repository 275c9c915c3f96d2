"""Leases: they decide which replica writes statuses, and show which replicas exist.

A Lease has expired if *we* have not seen its record change for long enough by our own monotonic
clock. Clocks of other machines are not used (like in client-go's leader election). The holder knows
until when no other replica can have acquired the Lease, so a holder that was suspended does not
write afterwards.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.controller.status.clock import monotonic
from thruway_operator.kube import ApiError, KubeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from thruway_operator.kube import KubeClient

__all__ = ["ADDRESS", "DURATION", "REPLICA", "Leader", "Presence", "leases_path"]

_log = logging.getLogger("thruway.status")

DURATION: Final = 3.0
"""Seconds without a renewal after which a Lease is free, or a replica counts as gone."""
_RENEW: Final = 0.8
_MARGIN: Final = 0.5
_WITHIN: Final = 1.5
"""Seconds for a heartbeat: after one that hangs, another one still arrives in time."""
REPLICA: Final = "thruway.dev/replica"
"""Label of the Leases that replicas use as a heartbeat."""
ADDRESS: Final = "thruway.dev/address"
"""Annotation of such a Lease: host and port of the replica's xDS server."""


def leases_path(namespace: str) -> str:
    """Return the API path of a namespace's Leases."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Leader:
    """The Lease that one replica holds at a time. `on_change` is called when we gain or lose it."""

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        identity: str,
        on_change: Callable[[], None],
        *,
        name: str = "thruway-operator",
        duration: float = DURATION,
    ) -> None:
        self._client = client
        self._collection = leases_path(namespace)
        self._name = name
        self._identity = identity
        self._on_change = on_change
        self._duration = duration
        self._record: dict[str, Any] | None = None
        """The Lease as we last saw it."""
        self._stale = False
        """Whether our record is known to be old. What we saw of it still counts."""
        self._seen = 0.0
        """When we last saw it change."""
        self._until = 0.0
        """Until when it is ours."""
        self._said = False

    def holds(self) -> bool:
        """Whether we hold the Lease at this moment."""
        return monotonic() < self._until

    async def run(self) -> None:
        """Acquire and keep the Lease until cancelled, then release it."""
        try:
            while True:
                await self._step()
                if self.holds() != self._said:
                    self._said = self.holds()
                    _log.info("%s the Lease: %s", *self._words())
                    self._on_change()
                # Others check more often than the holder renews, to notice an expiry soon.
                pause = _RENEW if self.holds() else _RENEW / 2
                await asyncio.sleep(pause * random.uniform(0.8, 1.0))  # noqa: S311
        finally:
            await self._release()

    def _words(self) -> tuple[str, str]:
        if self.holds():
            return "holds", "this replica writes status"
        return "does not hold", "another replica writes status"

    async def _step(self) -> None:
        try:
            await self._try()
        except ApiError as error:
            if error.status in {404, 409}:
                self._stale = (
                    True  # another replica was faster, or the Lease is gone: read it again
                )
            else:
                _log.warning("the Lease %s cannot be acquired: %s", self._name, error)
        except KubeError as error:
            _log.debug("the Lease %s cannot be acquired: %s", self._name, error)

    async def _try(self) -> None:
        if self._record is None or self._stale or not self.holds():
            await self._look()
            self._stale = False
        if self._record is None:
            await self._write("POST", self._collection, {})
        elif self._ours() or self._lapsed():
            await self._write("PUT", f"{self._collection}/{self._name}", self._record)

    async def _look(self) -> None:
        path = f"{self._collection}/{self._name}"
        try:
            found = await self._client.request("GET", path, within=self._within())
        except ApiError as error:
            if error.status != 404:
                raise
            # If somebody deleted it, its holder may still write for a moment.
            if self._record is None or self._ours() or self._lapsed():
                self._record = None
            return
        if self._record is None or _version(found) != _version(self._record):
            self._seen = monotonic()
        self._record = found

    def _ours(self) -> bool:
        return self._holder() == self._identity

    def _holder(self) -> str:
        return str((self._record or {}).get("spec", {}).get("holderIdentity") or "")

    def _lapsed(self) -> bool:
        return not self._holder() or monotonic() > self._seen + self._duration

    async def _write(self, method: str, path: str, before: dict[str, Any]) -> None:
        spec = dict(before.get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec |= {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "renewTime": _now(),
        }
        metadata = before.get("metadata") or {"name": self._name}
        started = monotonic()
        body = _lease(metadata, spec)
        self._record = await self._client.request(method, path, body=body, within=self._within())
        self._seen = monotonic()
        # Counted from before the request: another replica that reads the Lease waits longer.
        self._until = started + self._duration - _MARGIN

    def _within(self) -> float:
        """Return the time limit of a request: one that hangs must not delay a takeover."""
        return max(0.2, self._duration - _MARGIN)

    async def _release(self) -> None:
        if not self.holds() or self._record is None:
            return
        self._until = 0.0
        spec = {**self._record["spec"], "holderIdentity": ""}
        body = _lease(self._record["metadata"], spec)
        try:
            path = f"{self._collection}/{self._name}"
            await self._client.request("PUT", path, body=body, within=1.0)
        except KubeError as error:
            _log.debug("the Lease was not released: %s", error)


class Presence:
    """A replica's own Lease: its heartbeat and its address."""

    def __init__(self, client: KubeClient, namespace: str, replica: str, address: str) -> None:
        self._client = client
        self._collection = leases_path(namespace)
        self._name = f"thruway-replica-{replica}"
        self._metadata = {
            "name": self._name,
            "labels": {REPLICA: "true"},
            "annotations": {ADDRESS: address},
        }
        self._replica = replica

    async def run(self) -> None:
        """Renew the Lease until cancelled, then delete it."""
        metadata: dict[str, Any] | None = None
        try:
            while True:
                pause = _RENEW
                try:
                    metadata = await self._renew(metadata)
                except KubeError as error:
                    pause = _RENEW / 2
                    if isinstance(error, ApiError):
                        metadata = None
                    self._report(error)
                await asyncio.sleep(pause)
        finally:
            await self._remove()

    def _report(self, error: KubeError) -> None:
        if not isinstance(error, ApiError):
            _log.debug("the heartbeat Lease was not renewed: %s", error)
        elif error.status not in {404, 409}:
            _log.warning("other replicas cannot see this one: %s", error)

    async def _renew(self, metadata: dict[str, Any] | None) -> dict[str, Any]:
        spec = {
            "holderIdentity": self._replica,
            "leaseDurationSeconds": round(DURATION),
            "renewTime": _now(),
        }
        if metadata is None:
            try:
                body = _lease(self._metadata, spec)
                made = await self._client.request(
                    "POST", self._collection, body=body, within=_WITHIN
                )
            except ApiError as error:
                if error.status != 409:
                    raise
                path = f"{self._collection}/{self._name}"
                made = await self._client.request("GET", path, within=_WITHIN)
            return dict(made["metadata"])
        kept = {**metadata, **{k: self._metadata[k] for k in ("labels", "annotations")}}
        path = f"{self._collection}/{self._name}"
        body = _lease(kept, spec)
        renewed = await self._client.request("PUT", path, body=body, within=_WITHIN)
        return dict(renewed["metadata"])

    async def _remove(self) -> None:
        try:
            await self._client.request("DELETE", f"{self._collection}/{self._name}", within=1.0)
        except KubeError as error:
            _log.debug("the heartbeat Lease was not deleted: %s", error)


def _lease(metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec,
    }


def _version(lease: dict[str, Any]) -> str:
    return str(lease["metadata"]["resourceVersion"])
