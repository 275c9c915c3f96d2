"""The xDS server against the real Envoy: what it holds, serves, refuses and keeps."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import http.client
import json
import shutil
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2 as _dns_cluster
from envoy.extensions.filters.http.credential_injector.v3 import (
    credential_injector_pb2 as _credential_injector,
)
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2 as _upstream_codec
from envoy.extensions.http.injected_credentials.generic.v3 import generic_pb2 as _generic
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2 as _cares
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as _http_options
from google.protobuf import json_format

from thruway_operator.xds import (
    CLUSTER,
    ROUTE,
    SECRET,
    Fragment,
    GroupStatus,
    Resource,
    Snapshot,
    XdsServer,
    snapshot_of,
)
from thruway_testing.plane.envoy import Envoy, wait_until
from thruway_testing.plane.fragments import fragment_of
from thruway_testing.plane.programmed import wait_programmed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

P = ParamSpec("P")
Json = dict[str, Any]

# Imported for json_format: it finds the types of `Any` fields only among those.
_ANY_TYPES = (
    _dns_cluster,
    _credential_injector,
    _upstream_codec,
    _generic,
    _cares,
    _http_options,
)
_T = "type.googleapis.com/envoy."
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
LINGER = 0.1  # seconds; shorter than in production, so that tests need not wait
_ADS: Json = {"ads": {}, "resource_api_version": "V3"}


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def in_thread(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition, "what the test waits for")


def typed(name: str, **config: Any) -> Json:
    return {"@type": f"{_T}{name}", **config}


def cluster(port: int, secret: str | None, **changes: Any) -> Json:
    config: Json = {
        "connect_timeout": "1s",
        "cluster_type": {
            "name": "envoy.cluster.dns",
            "typed_config": typed(
                "extensions.clusters.dns.v3.DnsCluster", dns_lookup_family="V4_ONLY"
            ),
        },
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at("localhost", port)}}]}],
        },
    }
    if secret is not None:
        config["typed_extension_protocol_options"] = {_HTTP_OPTIONS: injecting(secret)}
    return config | changes


def at(host: str, port: int, **more: Any) -> Json:
    return {"socket_address": {"address": host, "port_value": port, **more}}


def injecting(secret: str) -> Json:
    credential = typed(
        "extensions.http.injected_credentials.generic.v3.Generic",
        credential={"name": secret, "sds_config": _ADS},
        header="authorization",
    )
    injector = typed(
        "extensions.filters.http.credential_injector.v3.CredentialInjector",
        overwrite=True,
        credential={"name": "generic", "typed_config": credential},
    )
    codec = typed("extensions.filters.http.upstream_codec.v3.UpstreamCodec")
    return typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http_protocol_options": {}},
        http_filters=[
            {"name": "inject", "typed_config": injector},
            {"name": "codec", "typed_config": codec},
        ],
    )


class NameServer(asyncio.DatagramProtocol):
    """Says of every name, after `delay` seconds, that it is 127.0.0.1; None: says nothing."""

    def __init__(self, delay: float | None) -> None:
        self.delay = delay
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if self.delay is None:
            return
        question = data[12 : data.index(b"\0", 12) + 5]
        head = data[:2] + bytes.fromhex("8180 0001 0001 0000 0000")
        record = bytes.fromhex("c00c 0001 0001 0000003c 0004 7f000001")  # RFC 1035, 4.1.3
        answer = head + question + record
        asyncio.get_running_loop().call_later(self.delay, self.transport.sendto, answer, addr)


@asynccontextmanager
async def name_server(delay: float | None) -> AsyncIterator[int]:
    """Run a name server; yield its port."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(delay), local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def named(config: Json, resolver: int) -> Json:
    """The same cluster, its host's name asked of this name server."""
    cares = typed(
        "extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        resolvers=[at("127.0.0.1", resolver, protocol="UDP")],
    )
    dns = typed(
        "extensions.clusters.dns.v3.DnsCluster",
        dns_lookup_family="V4_ONLY",
        typed_dns_resolver_config={
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": cares,
        },
    )
    [endpoint] = config["load_assignment"]["endpoints"][0]["lb_endpoints"]
    port = endpoint["endpoint"]["address"]["socket_address"]["port_value"]
    endpoint = {"endpoint": {"address": at("api.example.com", port)}}
    return config | {
        "cluster_type": {"name": "envoy.cluster.dns", "typed_config": dns},
        "load_assignment": {"cluster_name": "dead", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def fragment(
    name: str, config: Json, *, key: str | None = "", path: str = "", route: Json | None = None
) -> Fragment:
    """A route `/<name>/` to its own cluster; its secret, if it has one, is named after itself.

    `key` None leaves the secret out; `route` adds to the route.
    """
    digest = hashlib.blake2b(json.dumps(config).encode(), digest_size=6).hexdigest()
    message = json_format.ParseDict({"name": f"{name}@{digest}"} | config, cluster_pb2.Cluster())
    secret = {"name": name, "generic_secret": {"secret": {"inline_string": key}}}
    secrets = () if not key else (json_format.ParseDict(secret, secret_pb2.Secret()),)
    return fragment_of(
        name,
        (Resource.of(CLUSTER, message.name, message.SerializeToString()),),
        tuple(Resource.of(SECRET, s.name, s.SerializeToString()) for s in secrets),
        json.dumps(
            {"match": {"prefix": path or f"/{name}/"}, "route": {"cluster": message.name}}
            | (route or {})
        ),
    )


def assemble(fragments: Sequence[Fragment]) -> Snapshot:
    routes = [json.loads(str(f.routes)) for f in fragments]
    host = {"name": "all", "domains": ["*"], "routes": routes}
    config = json_format.ParseDict(
        {"name": "thruway", "virtual_hosts": [host]}, route_pb2.RouteConfiguration()
    )
    resources = [r for f in fragments for r in (*f.clusters, *f.secrets)]
    body = config.SerializeToString(deterministic=True)
    return snapshot_of([*resources, Resource.of(ROUTE, "thruway", body)])


def bootstrap(xds: str) -> Json:
    h2 = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": {}},
    )
    back_off = {"base_interval": "0.1s", "max_interval": "1s"}
    service = {"cluster_name": "xds", "retry_policy": {"retry_back_off": back_off}}
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge",
        rds={
            "route_config_name": "thruway",
            "config_source": {**_ADS, "initial_fetch_timeout": "0s"},
        },
        http_filters=[
            {
                "name": "envoy.filters.http.router",
                "typed_config": typed("extensions.filters.http.router.v3.Router"),
            }
        ],
    )
    endpoint = {"endpoint": {"address": {"pipe": {"path": xds}}}}
    return {
        "node": {"id": "proxy-1", "cluster": "test"},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": service}],
            },
            "cds_config": {**_ADS, "initial_fetch_timeout": "0s"},
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "xds",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "load_assignment": {
                        "cluster_name": "xds",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                    "typed_extension_protocol_options": {_HTTP_OPTIONS: h2},
                }
            ],
            "listeners": [
                {
                    "name": "main",
                    "address": at("127.0.0.1", 0),
                    "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
                }
            ],
        },
    }


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream: the body of its answer is the Authorization header that it got."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().lower().split("\r\n")
            found = [x.partition(":")[2].strip() for x in lines if x.startswith("authorization:")]
            body = (found[0] if found else "none").encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@dataclass
class Bench:
    """An upstream, an xDS server and an Envoy."""

    port: int
    socket: str
    server: XdsServer = field(default_factory=lambda: XdsServer(assemble, linger=LINGER))
    listener: tuple[str, int] = ("", 0)

    async def publish(self, *fragments: Fragment, within: float = 10.0) -> GroupStatus:
        self.server.publish("", {f.id: f for f in fragments})
        return await wait_programmed(self.server, "", within)

    async def restart_server(self) -> None:
        """Another server process, as Envoy sees it: nothing but the socket stays."""
        await self.server.stop()
        self.server = XdsServer(assemble, linger=LINGER)
        await self.server.start(f"unix:{self.socket}")

    async def get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self.listener, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    async def until(self, path: str, status: int, body: str | None = None) -> None:
        async with asyncio.timeout(10):
            while True:
                got = await self.get(path)
                if got[0] == status and body in (None, got[1]):
                    return


@asynccontextmanager
async def running(make: Callable[[int], Sequence[Fragment]]) -> AsyncIterator[tuple[Bench, Envoy]]:
    """Start everything; `make` gets the upstream's port and returns what is published first."""
    upstream = await asyncio.start_server(_answer, "127.0.0.1", 0)
    folder = Path(tempfile.mkdtemp(prefix="thruway-xds-"))
    bench = Bench(upstream.sockets[0].getsockname()[1], str(folder / "xds.sock"))
    try:
        await bench.server.start(f"unix:{bench.socket}")
        bench.server.publish("", {f.id: f for f in make(bench.port)})
        with Envoy(bootstrap(bench.socket)) as envoy:
            await asyncio.to_thread(envoy.wait_ready)
            bench.listener = envoy.address("main")
            yield bench, envoy
    finally:
        await bench.server.stop()
        upstream.close()
        shutil.rmtree(folder)


def plain(name: str, port: int, key: str | None = "k", **changes: Any) -> Fragment:
    return fragment(name, cluster(port, name, **changes), key=key)


@in_loop
async def test_push_change_and_delete() -> None:
    """What is published is served, a change replaces it, what is unpublished is gone."""
    async with running(lambda port: [plain("a", port, "one")]) as (bench, envoy):
        assert await bench.get("/a/x") == (200, "one")
        assert (await bench.get("/b/x"))[0] == 404
        a, b = plain("a", bench.port, "one"), plain("b", bench.port, "two")
        status = await bench.publish(a, b)
        assert status.fragments["b"].programmed
        assert status.connected == 1
        assert await bench.get("/b/x") == (200, "two")
        moved = plain("b", bench.port, "two", connect_timeout="2s")
        await bench.publish(a, moved)
        assert await bench.get("/b/x") == (200, "two")
        await bench.publish(moved)
        assert (await bench.get("/a/x"))[0] == 404
        await in_thread(lambda: envoy.stat("cluster_manager.active_clusters") == 2)
        names = {c["name"] for c in envoy.get_json("/clusters?format=json")["cluster_statuses"]}
        assert names == {"xds", moved.clusters[0].name}


@in_loop
async def test_a_change_of_cluster_costs_no_request() -> None:
    """Routes never point to a cluster that is still warming (which Envoy answers with 503)."""
    async with name_server(0.1) as resolver:

        def version(port: int, seconds: int) -> Fragment:
            return fragment(
                "a", named(cluster(port, "a", connect_timeout=f"{seconds}s"), resolver), key="k"
            )

        async with running(lambda port: [version(port, 1)]) as (bench, _):
            done = False

            async def knock() -> set[int]:
                seen = set()
                while not done:
                    seen.add((await bench.get("/a/x"))[0])
                return seen

            knocking = asyncio.create_task(knock())
            for seconds in range(2, 8):
                await bench.publish(version(bench.port, seconds))
            done = True
            assert await knocking == {200}


@in_loop
async def test_reconnect_without_resending() -> None:
    """After a restart of the server nothing unchanged is sent again; what vanished is removed."""
    async with running(lambda port: [plain("a", port), plain("b", port)]) as (bench, envoy):
        first = await wait_programmed(bench.server, "", 5)
        assert first.fragments["a"].programmed
        stats = (
            "cluster_manager.cds.update_success",
            "http.edge.rds.thruway.update_success",
            "sds.a.update_success",
        )
        before = [envoy.stat(name) for name in stats]
        await bench.restart_server()
        a, b = plain("a", bench.port), plain("b", bench.port)
        await bench.publish(a, b)
        assert [envoy.stat(name) for name in stats] == before
        await bench.restart_server()
        await bench.publish(b)
        assert (await bench.get("/a/x"))[0] == 404
        assert await bench.get("/b/x") == (200, "k")
        await in_thread(lambda: envoy.stat("cluster_manager.active_clusters") == 2)


@in_loop
async def test_traffic_goes_on_without_the_server() -> None:
    """An unreachable server changes nothing; an unpublished group of a new one neither."""
    async with running(lambda port: [plain("a", port)]) as (bench, envoy):
        await bench.server.stop()
        assert await bench.get("/a/x") == (200, "k")
        await bench.restart_server()
        async with asyncio.timeout(10):
            while bench.server.status("").connected == 0:
                await asyncio.sleep(0.01)
        assert await bench.get("/a/x") == (200, "k")
        assert envoy.stat("cluster_manager.active_clusters") == 2


def many(port: int, count: int) -> list[Fragment]:
    return [plain(f"r{i}", port, f"k{i}", connect_timeout=f"{i + 1}s") for i in range(count)]


BAD_HEADER: Json = {
    "request_headers_to_add": [{"header": {"key": "x", "value": "%REQ("}}],
}


@in_loop
async def test_bad_routes_are_found_among_100_good_ones() -> None:
    """One RDS resource holds all routes; the two that Envoy refuses are left out, soon."""
    async with running(lambda port: [plain("a", port)]) as (bench, _):
        good = many(bench.port, 100)
        bad = [fragment(f"bad{i}", cluster(bench.port, None), route=BAD_HEADER) for i in range(2)]
        begin = time.monotonic()
        status = await bench.publish(*good[:30], bad[0], *good[30:80], bad[1], *good[80:])
        took = time.monotonic() - begin
        rejected = {n: f.rejected for n, f in status.fragments.items() if f.rejected}
        assert rejected.keys() == {"bad0", "bad1"}
        assert "%REQ(" in str(rejected["bad0"])
        assert all(status.fragments[f.id].programmed for f in good)
        assert await bench.get("/r99/x") == (200, "k99")
        assert (await bench.get("/bad0/x"))[0] == 404
        assert took < 5  # 0.2 s on an idle machine


@in_loop
async def test_bad_clusters_are_found() -> None:
    """Both kinds: refused by proto constraints (the whole response), or by CDS (by name)."""
    async with running(lambda port: [plain("a", port)]) as (bench, _):
        static = cluster(bench.port, None)
        del static["cluster_type"]  # a STATIC cluster must not have a host name
        bad = [
            fragment("negative", cluster(bench.port, None, connect_timeout="-1s")),
            fragment("static", static),
        ]
        good = many(bench.port, 20)
        status = await bench.publish(*good[:7], bad[0], *good[7:], bad[1])
        rejected = {n: f.rejected for n, f in status.fragments.items() if f.rejected}
        assert rejected.keys() == {"negative", "static"}
        assert "positive duration" in str(rejected["negative"])
        assert "malformed IP address" in str(rejected["static"])
        assert await bench.get("/r19/x") == (200, "k19")


@in_loop
async def test_the_last_good_version_is_served() -> None:
    """A refused change leaves the version before it in place; a good change replaces both."""
    async with running(lambda port: [plain("a", port), plain("b", port)]) as (bench, _):
        await wait_programmed(bench.server, "", 5)  # Envoy serves before we have its ACK
        a, b = plain("a", bench.port), plain("b", bench.port)
        broken = fragment("a", cluster(bench.port, None), route=BAD_HEADER)
        status = await bench.publish(broken, b)
        assert status.fragments["a"].rejected
        assert not status.fragments["a"].programmed
        assert status.fragments["b"].programmed
        assert await bench.get("/a/x") == (200, "k")
        status = await bench.publish(replace(a, id="a"), b)
        assert status.fragments["a"].programmed
        assert status.fragments["a"].rejected is None


@in_loop
async def test_a_missing_secret_fails_closed_and_heals() -> None:
    """Without its secret a route answers 401; with it 200; deleted again 401, not the old key."""
    async with running(lambda port: [plain("a", port, None)]) as (bench, _):
        assert (await bench.get("/a/x"))[0] == 401
        await bench.publish(plain("a", bench.port, "one"))
        await bench.until("/a/x", 200, "one")
        await bench.publish(plain("a", bench.port, None))
        await bench.until("/a/x", 401)
        await bench.restart_server()
        await bench.publish(plain("a", bench.port, None))
        assert (await bench.get("/a/x"))[0] == 401
        await bench.publish(plain("a", bench.port, "two"))
        await bench.until("/a/x", 200, "two")


@in_loop
async def test_a_secret_deleted_while_the_server_was_away() -> None:
    """The old key stops being injected once the new server has been reached."""
    async with running(lambda port: [plain("a", port, "one")]) as (bench, _):
        assert await bench.get("/a/x") == (200, "one")
        await bench.restart_server()
        await bench.publish(plain("a", bench.port, None))
        await bench.until("/a/x", 401)


@in_loop
async def test_rotation() -> None:
    """A new key is injected without a change of cluster or route, and fails no request."""
    async with running(lambda port: [plain("a", port, "key0")]) as (bench, envoy):
        await wait_programmed(bench.server, "", 5)
        before = envoy.stat("cluster_manager.cds.update_success")
        for i in range(1, 10):
            await bench.publish(plain("a", bench.port, f"key{i}"))
            await bench.until("/a/x", 200, f"key{i}")
        assert envoy.stat("cluster_manager.cds.update_success") == before


@in_loop
async def test_a_dead_name_server_holds_up_nobody() -> None:
    """Neither at the start of Envoy, nor changes of other routes, nor its own removal."""
    async with name_server(None) as resolver:

        def dead(name: str, port: int) -> Fragment:
            return fragment(name, named(cluster(port, name), resolver), key="k")

        async with running(lambda port: [dead("dead", port), plain("a", port)]) as (bench, envoy):
            assert await bench.get("/a/x") == (200, "k")
            assert (await bench.get("/dead/x"))[0] == 503
            begin = time.monotonic()
            both = [dead("dead", bench.port), plain("a", bench.port)]
            await bench.publish(*both, plain("b", bench.port), dead("dead2", bench.port))
            await bench.until("/b/x", 200)
            assert time.monotonic() - begin < 3
            assert envoy.stat("cluster_manager.warming_clusters") > 0
            bad = fragment("bad", cluster(bench.port, None), route=BAD_HEADER)
            status = await bench.publish(*both, bad, plain("c", bench.port))
            assert status.fragments["bad"].rejected
            assert await bench.get("/c/x") == (200, "k")
            await bench.publish(plain("c", bench.port))
            assert await bench.get("/c/x") == (200, "k")
            await in_thread(lambda: envoy.stat("cluster_manager.warming_clusters") == 0)
