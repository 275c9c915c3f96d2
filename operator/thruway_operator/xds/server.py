"""The delta ADS server: a thin grpc.aio shell around `stream` and `publisher`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from thruway_operator.xds.group import Group, Session
from thruway_operator.xds.stream import LINGER

if TYPE_CHECKING:
    from thruway_operator.xds.publisher import GroupStatus
    from thruway_operator.xds.resources import Assemble, Fragment

__all__ = ["Authenticate", "Node", "XdsError", "XdsServer"]

_log = logging.getLogger("thruway.xds")

_Request: TypeAlias = discovery_pb2.DeltaDiscoveryRequest
_SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_OPTIONS: Final = (
    # A NACK of RDS may quote the whole route configuration.
    ("grpc.max_receive_message_length", 64 << 20),
    # A proxy that no longer answers must not count as connected, or be a witness, for long.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # without it: a minute
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.so_reuseport", 0),
)


class XdsError(Exception):
    """The server cannot do what it was asked to; the message is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a proxy says about itself (Envoy's `node`), and what is known about it."""

    id: str
    cluster: str
    metadata: Mapping[str, Any]
    identity: str | None = None
    """What `authenticate` made of the connection; unlike all else here not the proxy's own word."""


Context = grpc.aio.ServicerContext[Any, Any]
Authenticate = Callable[[Context], Awaitable[str | None]]
"""Takes a stream's context, returns the peer's identity; PermissionError turns it away."""


async def _anybody(_: Context) -> str | None:
    return None


class XdsServer:
    """Serves each group of proxies the fragments that were published for it.

    `group_of` names a proxy's group, or raises PermissionError. `on_change` is called with a
    group's name, on the event loop, soon after its status may have changed. All methods
    belong to one event loop. `linger` is in seconds, see `stream.LINGER`.
    """

    def __init__(
        self,
        assemble: Assemble,
        *,
        group_of: Callable[[Node], str] = lambda _: "",
        on_change: Callable[[str], None] | None = None,
        authenticate: Authenticate = _anybody,
        linger: float = LINGER,
    ) -> None:
        self._assemble = assemble
        self._group_of = group_of
        self._on_change = on_change
        self._authenticate = authenticate
        self._linger = linger
        self._groups: dict[str, Group] = {}
        self._ids = count(1)
        self._server: grpc.aio.Server | None = None

    async def start(self, listen: str) -> None:
        """Listen on a gRPC address, such as `unix:/run/xds.sock`; raise XdsError if that fails."""
        server: grpc.aio.Server = grpc.aio.server(options=_OPTIONS)
        handler: Any = grpc.stream_stream_rpc_method_handler(
            self._deltas,
            request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
            response_serializer=None,  # the stream makes bytes
        )
        methods = {"DeltaAggregatedResources": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
        try:
            server.add_insecure_port(listen)
        except RuntimeError as error:
            raise XdsError(f"cannot serve xDS on {listen}") from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End all streams and stop listening. What was published stays, for another `start`."""
        if self._server is None:
            return
        server, self._server = self._server, None
        for group in self._groups.values():
            group.close()
        await server.stop(grace=1.0)

    def publish(self, group: str, fragments: Mapping[str, Fragment]) -> None:
        """Replace what the proxies of a group shall hold; their order is kept for `assemble`.

        A group gets nothing at all before its first `publish`: proxies that come back keep what
        they have until the truth is known.
        """
        self._group(group).publish(fragments)

    def status(self, group: str) -> GroupStatus:
        """Return how far a group has come."""
        return self._group(group).publisher.status()

    async def wait_programmed(self, group: str, within: float) -> GroupStatus:
        """Wait until all connected proxies (one at least) hold what the group can be given.

        Then return the status, which names rejected fragments; raise TimeoutError after `within`
        seconds.
        """
        found = self._group(group)
        async with asyncio.timeout(within):
            while not (status := found.publisher.status()).settled:
                await found.changed.wait()
        return status

    def _group(self, name: str) -> Group:
        if name not in self._groups:
            self._groups[name] = Group(name, self._assemble, self._on_change)
        return self._groups[name]

    async def _deltas(self, requests: AsyncIterator[_Request], context: Context) -> None:
        first = await anext(aiter(requests), None)
        if first is None:
            return
        try:
            node = _node(first, await self._authenticate(context))
            name = self._group_of(node)
        except PermissionError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        session = Session(next(self._ids), node.id, self._linger)
        group = self._group(name)
        group.join(session)
        _log.info("proxy %s connected to group %r", node.id, name)
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(_read(requests, first, session, group))
                await _write(context, session, group)
                reader.cancel()
        finally:
            group.leave(session)
            if group.unused:
                self._groups.pop(name, None)
            _log.info("proxy %s disconnected", node.id)


def _node(request: _Request, identity: str | None) -> Node:
    node = request.node
    return Node(node.id, node.cluster, json_format.MessageToDict(node.metadata), identity)


async def _read(
    requests: AsyncIterator[_Request], first: _Request, session: Session, group: Group
) -> None:
    """Feed a stream's requests to its session; at their end, or on an error, end the session."""
    try:
        group.receive(session, first)
        async for request in requests:
            group.receive(session, request)
    finally:
        session.close()


async def _write(context: Context, session: Session, group: Group) -> None:
    """Send what is due until the session ends.

    While a slow proxy holds up a write, newer snapshots replace each other: nothing is queued.
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
