"""Connects the parts of the injector in one replica of the operator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from thruway_operator.sidecar.webhook import (
    AdmissionServer,
    BundleKeeper,
    CABundlePublisher,
    Directory,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from thruway_operator.controller.options import OperatorOptions
    from thruway_operator.kube import KubeClient

__all__ = ["InjectorService"]


class InjectorService:
    """Every replica responds to the API server; only the holder of the Lease writes."""

    def __init__(self, client: KubeClient, options: OperatorOptions) -> None:
        assert options.injector is not None  # noqa: S101 (for the type)
        self._client = client
        self._options = options
        self._injector = options.injector
        self._server: AdmissionServer | None = None
        self._publisher: CABundlePublisher | None = None
        self._bundle: BundleKeeper | None = None
        self.directory = Directory(client, options.watched.namespaces, self._namespaces_changed)

    async def run(self, may_write: Callable[[], bool]) -> None:
        """Run until cancelled. The certificate must exist."""
        options, injector = self._options, self._injector
        self._server = AdmissionServer(
            self._client.access,
            injector.settings,
            self.directory,
            listen=(injector.host, injector.port),
            certificate=options.certificate,
            key=options.key,
        )
        self._publisher = CABundlePublisher(
            self._client,
            self.directory,
            options.watched.namespaces,
            options.authorities,
            may_write,
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.directory.run())
            tasks.create_task(self._server.run())
            tasks.create_task(self._publisher.run())
            if injector.webhook:
                self._bundle = BundleKeeper(
                    self._client, injector.webhook, options.authorities, may_write
                )
                tasks.create_task(self._bundle.run())

    @property
    def listening(self) -> bool:
        """Whether the API server can call the webhook."""
        return self._server is not None and self._server.listening

    @property
    def problems(self) -> list[str]:
        """The current problems, as sentences."""
        bundle = self._bundle.problem if self._bundle else None
        return [problem for problem in (self.directory.problem, bundle) if problem]

    def _namespaces_changed(self) -> None:
        if self._publisher:
            self._publisher.look()
