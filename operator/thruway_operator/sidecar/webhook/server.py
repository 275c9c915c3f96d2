"""Serves the API server's admission requests for pods: kopf's handlers and webhook server."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import kopf

from thruway_operator.kube.kopf_thread import KopfThread
from thruway_operator.sidecar.decide import Injected, Refused, inject
from thruway_operator.sidecar.webhook.tls import server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    from thruway_operator.kube.access import Access
    from thruway_operator.sidecar.decide import Settings
    from thruway_operator.sidecar.webhook.directory import Directory

__all__ = ["OF_NAMESPACE", "OF_POD", "AdmissionServer"]

_log = logging.getLogger("thruway.injector")

OF_NAMESPACE: Final = "namespace"
"""Path of the webhook that receives pods because of their namespace's label."""
OF_POD: Final = "pod"
"""Path of the webhook that receives pods because of their own label."""


class AdmissionServer:
    """One replica's webhook. `listening` says whether it can be called."""

    def __init__(
        self,
        access: Access,
        settings: Settings,
        directory: Directory,
        *,
        listen: tuple[str, int],
        certificate: Path,
        key: Path,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._listen = listen
        self._files = certificate, key
        self.listening = False
        self._thread = KopfThread(access, (), self._register, name="injector")

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._thread.run()

    def _register(self, registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings) -> None:
        # kopf would log every admission and refusal; refusals reach the requester anyway.
        logging.getLogger("kopf.objects").setLevel(logging.CRITICAL)
        host, port = self._listen
        settings.admission.server = _Server(self, server_context(*self._files), host, port)
        settings.admission.managed = None  # the chart owns the configuration
        # The called webhook tells whether the API server sees the namespace's label. Our copy, from
        # a watch, may lag behind.
        for webhook in (OF_NAMESPACE, OF_POD):
            handler = self._handler(asked=webhook == OF_NAMESPACE)
            mutate = kopf.on.mutate(
                "v1", "pods", id=webhook, operations=["CREATE"], registry=registry
            )
            mutate(handler)

    def _handler(self, *, asked: bool) -> Any:  # noqa: ANN401 - kopf's form
        async def handle(
            *,
            body: kopf.Body,
            patch: kopf.Patch,
            warnings: list[str],
            **_: Any,  # noqa: ANN401 - kopf's form
        ) -> None:
            warnings.extend(self._decide(dict(body), patch, asked=asked))

        return handle

    def _decide(self, pod: dict[str, Any], patch: kopf.Patch, *, asked: bool) -> list[str]:
        metadata = pod["metadata"]
        namespace = metadata.get("namespace", "")
        name = f"{namespace}/{metadata.get('name') or metadata.get('generateName')}"
        known = self._directory.namespace(namespace)
        routes = self._directory.routes(namespace)
        found = inject(pod, known, self._settings, routes, asked=asked)
        if isinstance(found, Refused):
            _log.info("refused pod %s: %s", name, found.sentence)
            raise kopf.AdmissionError(f"thruway: {found.sentence}", code=400)
        if isinstance(found, Injected):
            _log.debug("put a sidecar into pod %s", name)
            _change(patch, found.pod)
        else:
            _log.debug("did not change pod %s: %s", name, found.reason)
        return [f"thruway: {warning}" for warning in found.warnings]


def _change(patch: kopf.Patch, pod: dict[str, Any]) -> None:
    """Fill the patch so that it produces the pod: whole lists, because a merge replaces lists."""
    patch["metadata"] = {"annotations": pod["metadata"]["annotations"]}
    patch["spec"] = {
        name: pod["spec"][name] for name in ("initContainers", "containers", "volumes")
    }


class _Server(kopf.WebhookServer):
    """kopf's server, except that a new certificate does not make it restart its listener."""

    def __init__(self, owner: AdmissionServer, tls: ssl.SSLContext, host: str, port: int) -> None:
        super().__init__(addr=host or None, port=port, host=host or "localhost")
        self._owner = owner
        self._tls = tls

    def _build_ssl(self) -> tuple[bytes | None, ssl.SSLContext | None]:
        return None, self._tls

    async def __call__(self, fn: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - kopf's form
        try:
            async for config in super().__call__(fn):
                self._owner.listening = True
                _log.info("admission on port %d", self.port)
                yield config
        finally:
            self._owner.listening = False
