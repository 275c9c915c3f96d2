"""The grpc shell: streams, groups, identities, restarts; a bare gRPC client in place of Envoy."""

from __future__ import annotations

import asyncio
import functools
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from thruway_operator.xds import (
    CLUSTER,
    ROUTE,
    Fragment,
    Identity,
    Node,
    Resource,
    Snapshot,
    XdsError,
    XdsServer,
    snapshot_of,
)
from thruway_testing.plane.fragments import fragment_of
from thruway_testing.plane.programmed import wait_programmed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture
def address() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="thruway-xds-"))
    yield f"unix:{folder}/xds.sock"
    shutil.rmtree(folder)


def assemble(fragments: Sequence[Fragment]) -> Snapshot:
    body = ",".join(str(f.routes) for f in fragments).encode()
    clusters = [cluster for f in fragments for cluster in f.clusters]
    return snapshot_of([*clusters, Resource.of(ROUTE, "thruway", body)])


def fragments(*names: str) -> dict[str, Fragment]:
    return {n: fragment_of(n, (Resource.of(CLUSTER, n, b"c"),), (), n) for n in names}


class Client:
    """A proxy that ACKs all it is sent."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.held: dict[str, bytes] = {}

    async def ask(self, type_url: str, *names: str, node: str = "") -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url, resource_names_subscribe=names
        )
        if node:
            request.node.id = node
            request.node.metadata["group"] = node[0]
        await self.call.write(request)

    async def take(self) -> None:
        response = await self.call.read()
        assert response is not grpc.aio.EOF
        for resource in response.resources:
            self.held[resource.name] = resource.resource.value
        for name in response.removed_resources:
            del self.held[name]
        await self.call.write(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url, response_nonce=response.nonce
            )
        )

    async def start(self, node: str) -> None:
        await self.ask(CLUSTER, node=node)
        await self.take()
        await self.ask(ROUTE, "thruway")

    async def take_until(self, routes: bytes) -> None:
        async with asyncio.timeout(10):
            while self.held.get("thruway") != routes:
                await self.take()


@asynccontextmanager
async def client(address: str) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        call = stub.DeltaAggregatedResources()
        try:
            yield Client(call)
        finally:
            call.cancel()


@asynccontextmanager
async def serving(address: str, **options: Any) -> AsyncIterator[XdsServer]:
    server = XdsServer(assemble, linger=0.0, **options)
    await server.start(address)
    try:
        yield server
    finally:
        await server.stop()


def by_metadata(node: Node) -> str:
    return str(node.metadata["group"])


@in_loop
async def test_groups(address: str) -> None:
    """Each proxy gets its own group's fragments, and only that group's status moves."""
    changed: list[str] = []
    async with (
        serving(address, group_of=by_metadata, on_change=changed.append) as server,
        client(address) as one,
        client(address) as two,
    ):
        server.publish("a", fragments("x"))
        server.publish("b", fragments("y"))
        await one.start("a1")
        await two.start("b1")
        await one.take_until(b"x")
        await two.take_until(b"y")
        status = await wait_programmed(server, "a", 5)
        assert (status.connected, status.fragments["x"].programmed) == (1, True)
        other = await wait_programmed(server, "b", 5)
        changed.clear()
        server.publish("a", fragments("x", "z"))
        await one.take_until(b"x,z")
        await wait_programmed(server, "a", 5)
        assert "a" in changed
        assert server.status("b") == other
        assert one.held.keys() == {"thruway", "x", "z"}
        assert two.held.keys() == {"thruway", "y"}


@in_loop
async def test_nothing_before_the_first_publish(address: str) -> None:
    """Until the truth is known a proxy keeps what it has: it gets not even an empty answer."""
    async with serving(address) as server, client(address) as proxy:
        await proxy.ask(CLUSTER, node="a1")
        await proxy.ask(ROUTE, "thruway")
        async with asyncio.timeout(10):
            while server.status("").connected == 0:
                await asyncio.sleep(0.005)
        reading = asyncio.create_task(proxy.take())
        with pytest.raises(TimeoutError):
            await wait_programmed(server, "", 0.1)
        assert not reading.done()
        server.publish("", fragments("x"))
        await reading
        await proxy.take_until(b"x")


@in_loop
async def test_a_proxy_that_leaves(address: str) -> None:
    """It no longer counts, and the group of an unknown proxy is forgotten."""
    async with serving(address, group_of=by_metadata) as server:
        server.publish("a", fragments("x"))
        async with client(address) as proxy, client(address) as stray:
            await proxy.start("a1")
            await stray.ask(CLUSTER, node="z1")
            await proxy.take_until(b"x")
            await wait_programmed(server, "a", 5)
        async with asyncio.timeout(10):
            while server.status("a").connected or "z" in server._groups:
                await asyncio.sleep(0.005)


@in_loop
async def test_who_may_connect(address: str) -> None:
    """`authenticate` and `group_of` turn a proxy away; the identity reaches `group_of`."""
    seen: list[Node] = []

    async def authenticate(context: Any) -> Identity | None:
        pod = dict(context.invocation_metadata()).get("token", "")
        if not pod:
            raise PermissionError("no token")
        return Identity("team", "app", pod, "uid")

    def group_of(node: Node) -> str:
        seen.append(node)
        if node.id == "b.team":
            raise PermissionError("not here")
        return ""

    async with serving(address, group_of=group_of, authenticate=authenticate) as server:
        server.publish("", fragments("x"))
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)

            async def code(node: str, token: str) -> grpc.StatusCode:
                call = stub.DeltaAggregatedResources(metadata=(("token", token),))
                try:  # a refusal may arrive before the request is written
                    await Client(call).ask(CLUSTER, node=node)
                    await call.read()
                except grpc.aio.AioRpcError as error:
                    return error.code()
                call.cancel()
                return grpc.StatusCode.OK

            unknown, denied = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
            assert await code("a.team", "") == unknown
            assert await code("b.team", "a") == denied
            assert await code("b.team", "b") == denied
            assert await code("a.team", "a") == grpc.StatusCode.OK
    assert [(n.id, n.identity and n.identity.pod) for n in seen] == [
        ("b.team", "b"),
        ("a.team", "a"),
    ]


@in_loop
async def test_stop_and_start(address: str) -> None:
    """Streams end in good order, and what was published is there after another start."""
    server = XdsServer(assemble)
    await server.start(address)
    server.publish("", fragments("x"))
    async with client(address) as proxy:
        await proxy.start("a1")
        await proxy.take_until(b"x")
        await server.stop()
        assert await proxy.call.read() is grpc.aio.EOF
        assert await proxy.call.code() == grpc.StatusCode.OK
    await server.stop()
    await server.start(address)
    async with client(address) as proxy:
        await proxy.start("a1")
        await proxy.take_until(b"x")
    await server.stop()


@in_loop
async def test_an_address_that_cannot_be_listened_on() -> None:
    """The error is ours, and says which address."""
    with pytest.raises(XdsError, match="/nonexistent/folder"):
        await XdsServer(assemble).start("unix:/nonexistent/folder/xds.sock")


@in_loop
async def test_a_proxy_that_does_not_read(address: str) -> None:
    """It is sent no more than flow control lets through, then the newest state only."""
    big = "r" * 4_000_000
    async with serving(address) as server, client(address) as proxy:
        server.publish("", fragments("x"))
        await proxy.start("a1")
        await proxy.take_until(b"x")
        for i in range(50):
            server.publish("", {"x": fragment_of("x", (), (), f"{big}{i}")})
            await asyncio.sleep(0)
        responses = 0
        async with asyncio.timeout(20):
            while not proxy.held["thruway"].endswith(b"r49"):
                await proxy.take()
                responses += 1
        assert responses < 10


@in_loop
async def test_pings_are_welcome(address: str) -> None:
    """gRPC's default ends a connection at the third ping in five minutes: Envoy sends them."""
    frame = b"\0\0\x08\x06\0\0\0\0\0" + b"thruway!"  # RFC 9113, 6.7
    answer = b"\0\0\x08\x06\x01\0\0\0\0" + b"thruway!"
    async with serving(address):
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
        for _ in range(5):
            writer.write(frame)
            seen = b""
            async with asyncio.timeout(10):
                while answer not in seen:
                    data = await reader.read(65_536)
                    assert data, "the connection was ended"
                    seen += data
            await asyncio.sleep(0.55)  # what is tested: that this is not too often
        writer.close()
