"""A bare xDS client in place of Envoy: asks what it likes, says of itself what it likes.

async with XdsClient(address, authorities=ca.read_bytes(), token=token) as proxy:
    await proxy.start("pod.namespace")
    await proxy.take_until(b"routes")
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from thruway_operator.xds import CLUSTER, ROUTE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["XdsClient"]


class XdsClient:
    """One stream, which ACKs all that `take` reads.

    With `authorities` (PEM) it speaks TLS and expects a certificate for `server_name`; `token` is
    what it presents.
    """

    def __init__(
        self,
        address: str,
        *,
        authorities: bytes | None = None,
        server_name: str = "thruway-operator",
        token: str | None = None,
    ) -> None:
        # Channels of a process share connections otherwise.
        options = (("grpc.use_local_subchannel_pool", 1),)
        if authorities is None:
            self._channel = grpc.aio.insecure_channel(address, options=options)
        else:
            self._channel = grpc.aio.secure_channel(
                address,
                grpc.ssl_channel_credentials(authorities),
                options=(*options, ("grpc.ssl_target_name_override", server_name)),
            )
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self.held: dict[tuple[str, str], bytes] = {}
        """The body of each resource that it has, by type and name."""
        self.received = b""
        """All that was ever sent to it."""

    async def __aenter__(self) -> Self:
        stub: Any = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel)
        self._call = stub.DeltaAggregatedResources(metadata=self._metadata)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()
        await self._channel.close()

    async def ask(
        self,
        type_url: str,
        *names: str,
        node: str = "",
        claims: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Send a request; `claims` are versions that it says it has."""
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url, resource_names_subscribe=names, initial_resource_versions=claims
        )
        if node:
            request.node.id = node
        for name, value in (metadata or {}).items():
            request.node.metadata[name] = value
        # A stream that has been refused meanwhile tells its reader.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)

    async def take(self) -> Any:
        """Read a response, ACK it and return it; AioRpcError if the stream ends."""
        response = await self._call.read()
        assert response is not grpc.aio.EOF, await self.ended()
        self.received += response.SerializeToString()
        for resource in response.resources:
            self.held[response.type_url, resource.name] = resource.resource.value
        for name in response.removed_resources:
            self.held.pop((response.type_url, name), None)
        await self._call.write(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url, response_nonce=response.nonce
            )
        )
        return response

    async def start(self, node: str, **more: Any) -> None:
        """Ask as a starting Envoy does."""
        await self.ask(CLUSTER, node=node, **more)
        await self.take()
        await self.ask(ROUTE, "thruway")

    async def take_until(self, routes: bytes, within: float = 10.0) -> None:
        """Read until it has this route configuration."""
        async with asyncio.timeout(within):
            while self.held.get((ROUTE, "thruway")) != routes:
                await self.take()

    async def ended(self, within: float = 20.0) -> tuple[grpc.StatusCode, str]:
        """Read until the stream ends; return its status."""
        async with asyncio.timeout(within):
            while not self._call.done():
                try:
                    if await self._call.read() is grpc.aio.EOF:
                        break
                except grpc.aio.AioRpcError:
                    break
            return await self._call.code(), str(await self._call.details())

    @property
    def alive(self) -> bool:
        """Whether the stream has not ended."""
        return not self._call.done()
