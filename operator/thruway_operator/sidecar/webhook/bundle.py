"""Maintains the CA in the webhook configuration, without which the API server cannot call us.

The chart owns the configuration but omits that field. Only the holder of the Lease writes, so that
replicas whose files differ for a moment do not overwrite each other's value.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.kube import ApiError, KubeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from thruway_operator.kube import KubeClient

__all__ = ["BundleKeeper", "changes"]

_log = logging.getLogger("thruway.injector")

_EVERY: Final = 2.0
"""Seconds between two checks."""
_PATH: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
_MERGE: Final = "application/strategic-merge-patch+json"


class BundleKeeper:
    """The keeper of one replica. `problem` is a sentence while it cannot read or write."""

    def __init__(
        self,
        client: KubeClient,
        name: str,
        authorities: Path,
        may_write: Callable[[], bool],
        *,
        every: float = _EVERY,
    ) -> None:
        self._client = client
        self._name = name
        self._authorities = authorities
        self._may_write = may_write
        self._every = every
        self.problem: str | None = None

    async def run(self) -> None:
        """Check periodically until cancelled."""
        while True:
            if self._may_write():
                await self._try()
            await asyncio.sleep(self._every)

    async def _try(self) -> None:
        try:
            await self._check()
        except (KubeError, OSError) as error:
            problem = self._explained(error)
            if problem != self.problem:
                _log.warning("%s; retrying", problem)
            self.problem = problem
        else:
            self.problem = None

    async def _check(self) -> None:
        path = f"{_PATH}/{self._name}"
        wanted = base64.b64encode(self._authorities.read_bytes()).decode()
        wrong = changes(await self._client.get(path), wanted)
        if wrong and self._may_write():
            await self._client.request("PATCH", path, body={"webhooks": wrong}, content_type=_MERGE)
            _log.info("updated the CA in webhook configuration %s", self._name)

    def _explained(self, error: Exception) -> str:
        what = f"webhook configuration {self._name}"
        if isinstance(error, ApiError) and error.status == 404:
            return f"{what} does not exist: install it with the chart (injector.enabled)"
        return f"the CA in {what} cannot be maintained: {error}"


def changes(configuration: Mapping[str, Any], bundle: str) -> list[dict[str, Any]]:
    """Return the patch for `webhooks`, which the API server merges by name."""
    return [
        {"name": item["name"], "clientConfig": {"caBundle": bundle}}
        for item in configuration.get("webhooks") or ()
        if (item.get("clientConfig") or {}).get("caBundle") != bundle
    ]
