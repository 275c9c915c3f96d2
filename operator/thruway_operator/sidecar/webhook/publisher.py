"""Publishes the operator's CA to sidecars, in a ConfigMap of their namespace."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.kube import ApiError, KubeError
from thruway_operator.kube.reflector import Reflector
from thruway_operator.sidecar.decide.names import CA_CONFIG_MAP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from thruway_operator.kube import KubeClient
    from thruway_operator.sidecar.webhook.directory import Directory

__all__ = ["CABundlePublisher"]

_log = logging.getLogger("thruway.injector")

_EVERY: Final = 2.0
"""Seconds between two comparisons without a known change."""
_AT_ONCE: Final = 8
_KEY: Final = "ca.crt"
_LABELS: Final = {"app.kubernetes.io/managed-by": "thruway-operator"}


class CABundlePublisher:
    """The publisher of one replica; it corrects ConfigMaps while it `may_write`."""

    def __init__(
        self,
        client: KubeClient,
        directory: Directory,
        watched: Sequence[str],
        authorities: Path,
        may_write: Callable[[], bool],
    ) -> None:
        self._client = client
        self._directory = directory
        self._authorities = authorities
        self._may_write = may_write
        self._changed = asyncio.Event()
        self._said: dict[str, str] = {}
        self._maps = [
            Reflector(
                client,
                f"/api/v1/namespaces/{scope}/configmaps" if scope else "/api/v1/configmaps",
                lambda _, item: _text(item),
                lambda _: self.look(),
                params={"fieldSelector": f"metadata.name={CA_CONFIG_MAP}"},
            )
            for scope in (tuple(watched) or ("",))
        ]

    def look(self) -> None:
        """Compare soon, because something may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Maintain the ConfigMaps until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._maps:
                tasks.create_task(reflector.run())
            for reflector in self._maps:
                await reflector.synced.wait()
            while True:
                self._changed.clear()
                if self._may_write():
                    await self._compare()
                try:
                    async with asyncio.timeout(_EVERY):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def _compare(self) -> None:
        try:
            text = self._authorities.read_text(encoding="utf-8")
        except OSError as error:
            self._warn_once("", f"the operator's CA cannot be read: {error.strerror}")
            return
        there = {
            namespace: found
            for reflector in self._maps
            for (namespace, _), found in reflector.items.items()
        }
        wrong = [name for name in sorted(self._directory.wanted) if there.get(name) != text]
        slots = asyncio.Semaphore(_AT_ONCE)

        async def write(namespace: str) -> None:
            async with slots:
                if self._may_write():
                    await self._write(namespace, text, exists=namespace in there)

        await asyncio.gather(*map(write, wrong))

    async def _write(self, namespace: str, text: str, *, exists: bool) -> None:
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        data = {"data": {_KEY: text}}
        head = {"metadata": {"name": CA_CONFIG_MAP, "labels": _LABELS}}
        try:
            if exists:
                merge = "application/merge-patch+json"
                where = f"{path}/{CA_CONFIG_MAP}"
                await self._client.request("PATCH", where, body=data, content_type=merge)
            else:
                await self._client.request("POST", path, body={**head, **data})
        except ApiError as error:
            # Another replica wrote it, or the namespace was deleted: the watch will report it.
            if error.status not in {404, 409} and "being terminated" not in str(error):
                self._warn_once(namespace, str(error))
        except KubeError as error:
            self._warn_once(namespace, str(error))
        else:
            self._said.pop(namespace, None)

    def _warn_once(self, namespace: str, problem: str) -> None:
        if self._said.get(namespace) != problem:
            self._said[namespace] = problem
            where = f" into namespace {namespace}" if namespace else ""
            _log.warning("the CA cannot be published%s: %s; retrying", where, problem)


def _text(item: Mapping[str, Any]) -> str:
    return str((item.get("data") or {}).get(_KEY, ""))
