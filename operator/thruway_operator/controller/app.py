"""One replica of the operator: connects source, translation, xDS and status.

If a part ends, the whole process exits, and kubelet restarts it: a partly working operator would
serve outdated configuration. Meanwhile, proxies keep what they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.controller.certificates import CertificateKeeper, Terms
from thruway_operator.controller.groups import group_of
from thruway_operator.controller.health import Health, HealthError
from thruway_operator.controller.injector import InjectorService
from thruway_operator.controller.observation import Observation
from thruway_operator.controller.serving import Serving
from thruway_operator.controller.status import StatusKeeper
from thruway_operator.envoy.fragments import assemble
from thruway_operator.kube import AccessError, KubeClient, load_access
from thruway_operator.kube.tokens import TokenReviewer
from thruway_operator.sources.files.cabundle import (
    CABundleError,
    extra_ca_bundle,
    system_ca_bundle,
)
from thruway_operator.sources.kubernetes.cluster import ClusterSource
from thruway_operator.translate import Translator
from thruway_operator.translate.gateway import GatewayPolicy, check_exposure
from thruway_operator.translate.groups import groups_of
from thruway_operator.xds import XdsError, XdsServer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from pathlib import Path

    from thruway_operator.controller.options import OperatorOptions
    from thruway_operator.resources.model import Resources
    from thruway_operator.xds.server import Node

__all__ = ["Operator", "OperatorError", "run"]

_log = logging.getLogger("thruway.operator")

_PENDING: Final = 1.0
"""Maximum seconds for which translation waits for a Secret that a new route references."""
_REST: Final = 0.01
"""Minimum seconds between two translations; the pause is also as long as the last translation."""


class OperatorError(Exception):
    """The operator cannot start; the message is a sentence."""


async def run(
    options: OperatorOptions, environment: Mapping[str, str], *, kubeconfig: Path | None = None
) -> None:
    """Run until SIGINT or SIGTERM.

    Raises:
        OperatorError: it cannot start, or one of its parts has ended.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        access = load_access(environment, kubeconfig=str(kubeconfig) if kubeconfig else None)
        async with KubeClient(access) as client:
            await Operator(options, client, _authorities(options, environment)).run(stop)
    except (AccessError, CABundleError, HealthError, XdsError) as error:
        raise OperatorError(str(error)) from error


class Operator:
    """The parts of the operator, and the connections between them."""

    def __init__(self, options: OperatorOptions, client: KubeClient, system_ca: str) -> None:
        self._options = options
        self._changed = asyncio.Event()
        self._said: list[str] = []
        self._input: tuple[Resources, GatewayPolicy | None] | None = None
        self._translator = Translator(groups_of)
        self._injection = InjectorService(client, options) if options.injector else None
        self._source = ClusterSource(
            client,
            options.watched,
            self._changed.set,
            proxies=options.proxies,
            on_route=self._injection.directory.route_changed if self._injection else _ignored,
        )
        authenticate = TokenReviewer(client).authenticate
        self._xds = XdsServer(
            partial(assemble, keep_browsers_out=False),
            group_of=self._group_of,
            on_change=self._proxies_changed,
            authenticate=authenticate,
        )
        self._certificates = _certificates(options, client)
        self._serving = Serving(self._xds, system_ca)
        self._observation = Observation(options)
        self._keeper = StatusKeeper(
            client,
            replica=options.replica,
            namespace=options.namespace,
            service_account=options.service_account,
            address=options.address,
            xds=self._xds,
            token_file=options.token,
            ca_file=options.authorities,
            authenticate=authenticate,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; raise OperatorError if a part ends before that."""
        options = self._options
        health = Health(self._is_ready, self._problems, self._figures)
        async with contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(
                health.serving(options.health_host, options.health_port)
            )
            _log.info("health on port %d", port)
            if self._certificates:
                await _unless(stop, self._certificates.first())
                if stop.is_set():
                    return
            await self._xds.start(
                options.xds_listen,
                tls=(options.certificate, options.key),
                handlers=self._keeper.handlers(),
            )
            stack.push_async_callback(self._xds.stop)
            _log.info("xDS on %s", options.xds_listen)
            parts: set[asyncio.Task[Any]] = {
                asyncio.create_task(part, name=name)
                for name, part in (
                    ("source", self._source.run()),
                    ("translation", self._follow()),
                    ("status", self._keeper.run()),
                )
            }
            if self._certificates:
                renewal = self._certificates.run()
                parts.add(asyncio.create_task(renewal, name="certificates"))
            if self._injection:
                injecting = self._injection.run(lambda: self._keeper.is_leader)
                parts.add(asyncio.create_task(injecting, name="injector"))
            stopping: asyncio.Task[Any] = asyncio.create_task(stop.wait(), name="stop")
            try:
                done, _ = await asyncio.wait(
                    {stopping, *parts}, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                await _cancel({stopping, *parts})
            if stopping not in done:
                raise OperatorError(_why_ended(done))

    def _is_ready(self) -> bool:
        return self._serving.open and (self._injection is None or self._injection.listening)

    def _problems(self) -> list[str]:
        more = self._injection.problems if self._injection else []
        return [*self._source.problems, *more]

    def _figures(self) -> dict[str, float]:
        return {
            "routes": float(len(self._source.objects)),
            "proxies": float(self._xds.connected),
            "writes_status": float(self._keeper.is_leader),
        }

    def _group_of(self, node: Node) -> str:
        gateway = self._options.gateway
        account = (gateway.namespace, gateway.service_account) if gateway else None
        return self._serving.join(group_of(node.identity, account))

    def _proxies_changed(self, group: str) -> None:
        self._keeper.tally_changed(group)

    async def _follow(self) -> None:
        """Translate and publish after each change, until cancelled."""
        while True:
            await self._changed.wait()
            await self._await_references()
            self._changed.clear()
            self._log_problems()
            started = time.monotonic()
            if self._source.ready:
                self._update()
            await asyncio.sleep(max(_REST, time.monotonic() - started))

    async def _await_references(self) -> None:
        """Wait briefly for Secrets on their way: routes would be refused for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PENDING):
                while self._source.pending:
                    self._changed.clear()
                    await self._changed.wait()

    def _update(self) -> None:
        first = not self._serving.open
        resources, policy = self._source.resources(), self._policy()
        if self._input != (resources, policy):  # they are equal if only a status has changed
            self._input = resources, policy
            check = partial(check_exposure, gateway=policy)
            self._translation = self._translator.translate(resources, check)
            self._serving.publish(self._translation.groups)
        if first:
            _log.info("serving %d routes", len(resources.routes))
        self._keeper.observe(
            self._observation.of(self._source.objects, self._translation, self._serving)
        )

    def _policy(self) -> GatewayPolicy | None:
        gateway = self._options.gateway
        if gateway is None:
            return None
        return GatewayPolicy(
            namespaces=self._source.gateway_namespaces,
            allow_private=gateway.allow_private_upstreams,
        )

    def _log_problems(self) -> None:
        problems = self._source.problems
        for problem in problems:
            if problem not in self._said:
                _log.warning("%s; retrying", problem)
        if self._said and not problems:
            _log.info("all lists and watches work again")
        self._said = problems


def _ignored(*_: object) -> None:
    """Do nothing."""


def _authorities(options: OperatorOptions, environment: Mapping[str, str]) -> str:
    """Return the CAs by which proxies verify upstreams, as PEM."""
    system = system_ca_bundle(environment)
    return f"{system}\n{extra_ca_bundle(options.extra_authorities)}"


def _certificates(options: OperatorOptions, client: KubeClient) -> CertificateKeeper | None:
    own = options.own_certificates
    if own is None:
        return None
    terms = Terms(names=own.names, overlap=dt.timedelta(seconds=own.overlap))
    return CertificateKeeper(
        client,
        namespace=options.namespace,
        secret=own.secret,
        config_map=own.config_map,
        folder=options.certificate.parent,
        terms=terms,
    )


async def _unless(stop: asyncio.Event, what: Coroutine[Any, Any, None]) -> None:
    """Run `what` until it ends or `stop` is set."""
    doing, stopping = asyncio.ensure_future(what), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
    finally:
        await _cancel({doing, stopping})


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _why_ended(done: set[asyncio.Task[Any]]) -> str:
    for task in done:
        error = task.exception()
        if error is not None:
            _log.error("the operator's %s failed", task.get_name(), exc_info=error)
            return (
                f"its {task.get_name()} failed ({type(error).__name__}): it exits to be restarted"
            )
    return "one of its parts ended: it exits to be restarted"
