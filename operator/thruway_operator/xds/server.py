"""The delta ADS server: a thin grpc.aio shell around `protocol`."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from thruway_operator.resources.identity import Identity, check_node
from thruway_operator.xds.admission import (
    FIRST_REQUEST,
    REVIEW,
    Admission,
    Authenticate,
    Context,
)
from thruway_operator.xds.group import Group, Session
from thruway_operator.xds.protocol.stream import LINGER
from thruway_operator.xds.tls import CertificateError, CertificateFiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from thruway_operator.xds.protocol.publisher import GroupStatus
    from thruway_operator.xds.protocol.resources import Assemble, Fragment

__all__ = ["Authenticate", "Node", "XdsError", "XdsServer"]

_log = logging.getLogger("thruway.xds")

_Request: TypeAlias = discovery_pb2.DeltaDiscoveryRequest
_SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_OPTIONS: Final = (
    # A NACK of RDS may quote the whole route configuration.
    ("grpc.max_receive_message_length", 64 << 20),
    # A proxy that no longer responds must not count as connected, or be a witness, for long.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # the default is a minute
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Envoy pings often; by default, three pings in five minutes end the connection
    # ("too_many_pings").
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.so_reuseport", 0),
)
_OPTIONS_OF_A_NETWORK: Final = (
    ("grpc.max_connection_idle_ms", 60_000),  # idle means no stream; an Envoy always has one
    ("grpc.max_concurrent_streams", 16),
    ("grpc.server_handshake_timeout_ms", 10_000),  # a handshake takes milliseconds
    ("grpc.max_metadata_size", 16_384),
)


class XdsError(Exception):
    """The server cannot start; the message is a sentence for users."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a proxy claims about itself (Envoy's `node`), and its proven identity."""

    id: str
    cluster: str
    metadata: Mapping[str, Any]
    identity: Identity | None = None
    """What `authenticate` returned. Unlike the other fields, it is not a claim of the proxy."""


async def _anybody(_: Context) -> Identity | None:
    return None


class XdsServer:
    """Serves each group of proxies the fragments that were published for it.

    `group_of` returns the name of a proxy's group, or raises PermissionError. `on_change` is called
    on the event loop with a group's name, soon after the group's status may have changed. All
    methods belong to one event loop.

    `authenticate` returns the identity of a stream's peer. The peer's node id must be that of its
    pod, and its group alone decides what it is sent. `authenticate` is called again about every
    `review_every` seconds, and the stream ends shortly before the identity expires. `first_within`
    is the time limit for a peer's first request in seconds; `linger` replaces `stream.LINGER`.
    """

    def __init__(
        self,
        assemble: Assemble,
        *,
        group_of: Callable[[Node], str] = lambda _: "",
        on_change: Callable[[str], None] | None = None,
        authenticate: Authenticate = _anybody,
        linger: float = LINGER,
        review_every: float = REVIEW,
        first_within: float = FIRST_REQUEST,
    ) -> None:
        self._assemble = assemble
        self._group_of = group_of
        self._on_change = on_change
        self._admission = Admission(authenticate, review_every, first_within)
        self._linger = linger
        self._groups: dict[str, Group] = {}
        self._ids = count(1)
        self.connected = 0
        """How many proxies are connected."""
        self._server: grpc.aio.Server | None = None

    async def start(
        self,
        listen: str,
        *,
        tls: tuple[Path, Path] | None = None,
        handlers: Sequence[grpc.GenericRpcHandler] = (),
    ) -> int:
        """Listen on a gRPC address, such as `unix:/run/xds.sock`; return the port.

        With `tls`, serve the certificate and the key in these PEM files, which are reloaded when
        they change. `handlers` are further services on the same port.

        Raises:
            XdsError: the server cannot listen on the address, or cannot use the certificate.
        """
        server: grpc.aio.Server = grpc.aio.server(
            options=_OPTIONS + _OPTIONS_OF_A_NETWORK if tls else _OPTIONS
        )
        handler: Any = grpc.stream_stream_rpc_method_handler(
            self._deltas,
            request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
            response_serializer=None,  # the stream returns bytes
        )
        methods = {"DeltaAggregatedResources": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
        server.add_generic_rpc_handlers(tuple(handlers))
        port = _add_port(server, listen, tls)
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """End all streams and stop listening. Published fragments are kept for another `start`."""
        if self._server is None:
            return
        server, self._server = self._server, None
        for group in self._groups.values():
            group.close()
        await server.stop(grace=1.0)

    def publish(self, group: str, fragments: Mapping[str, Fragment]) -> None:
        """Replace what the proxies of a group should hold; the order is kept for `assemble`.

        Before its first `publish`, a group is sent nothing, so that proxies that reconnect keep
        what they have until the current configuration is known.
        """
        self._group(group).publish(fragments)

    def status(self, group: str) -> GroupStatus:
        """Return the rollout's state in a group."""
        return self._group(group).publisher.status()

    def _group(self, name: str) -> Group:
        if name not in self._groups:
            self._groups[name] = Group(name, self._assemble, self._on_change)
        return self._groups[name]

    async def _deltas(self, requests: AsyncIterator[_Request], context: Context) -> None:
        identity = await self._admission.identify(context)
        first = await self._admission.first_request(context, requests)
        if first is None:
            return
        node = _node(first, identity)
        try:
            if identity is not None:
                check_node(identity, node.id)
            name = self._group_of(node)
        except PermissionError as error:
            await self._admission.refuse(context, grpc.StatusCode.PERMISSION_DENIED, str(error))
        async with self._admission.counted(context, identity):
            await self._serve(context, requests, first, node, name)

    async def _serve(
        self,
        context: Context,
        requests: AsyncIterator[_Request],
        first: _Request,
        node: Node,
        name: str,
    ) -> None:
        session = Session(next(self._ids), node.id, self._linger)
        group = self._group(name)
        group.join(session)
        self.connected += 1
        _log.info("proxy %s connected to group %r", node.id, name)
        over = asyncio.timeout(None)
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(_read(requests, first, session, group))
                guard = tasks.create_task(self._end(over, context, node.identity))
                with suppress(TimeoutError):
                    async with over:
                        await _write(context, session, group)
                reader.cancel()
                guard.cancel()
        finally:
            self.connected -= 1
            group.leave(session)
            if group.unused:
                self._groups.pop(name, None)
            _log.info("proxy %s disconnected", node.id)
        if not guard.cancelled():
            _log.info("proxy %s was disconnected because of its token: %s", node.id, guard.result())
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, guard.result())

    async def _end(self, over: asyncio.Timeout, context: Context, identity: Identity | None) -> str:
        """End a stream when it has outlived its token; return the reason."""
        why = await self._admission.outlived(context, identity)
        over.reschedule(0.0)
        return why


def _add_port(server: grpc.aio.Server, listen: str, tls: tuple[Path, Path] | None) -> int:
    try:
        if tls is None:
            return server.add_insecure_port(listen)
        return server.add_secure_port(listen, CertificateFiles(*tls).credentials())
    except CertificateError as error:
        raise XdsError(f"cannot serve xDS: {error}") from error
    except RuntimeError as error:
        raise XdsError(f"cannot serve xDS on {listen}") from error


def _node(request: _Request, identity: Identity | None) -> Node:
    node = request.node
    return Node(node.id, node.cluster, json_format.MessageToDict(node.metadata), identity)


async def _read(
    requests: AsyncIterator[_Request], first: _Request, session: Session, group: Group
) -> None:
    """Pass a stream's requests to its session; when they end or fail, close the session."""
    try:
        group.receive(session, first)
        async for request in requests:
            group.receive(session, request)
    finally:
        session.close()


async def _write(context: Context, session: Session, group: Group) -> None:
    """Send the due responses until the session ends.

    While a slow proxy blocks a write, newer snapshots replace each other: nothing is queued.
    """
    now = asyncio.get_running_loop().time
    while not session.closed:
        session.wake.clear()
        for response in group.advance(session, now()):
            await context.write(response)
        if session.wake.is_set():
            continue
        wake_at = session.stream.wake_at
        with suppress(TimeoutError):
            async with asyncio.timeout_at(wake_at):
                await session.wake.wait()
