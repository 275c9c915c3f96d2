"""Upstreams that have no IPv4 address."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2 as _dns_cluster
from envoy.extensions.http.header_formatters.preserve_case.v3 import (
    preserve_case_pb2 as _preserve_case,
)
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2 as _cares
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as _http_options
from google.protobuf import json_format

from thruway_operator import ir
from thruway_operator.envoy.clusters import render_cluster
from thruway_testing.plane.envoy import Envoy
from thruway_testing.product.manifests import route, write
from thruway_testing.product.up import thruway_up
from thruway_testing.upstreams.connect_proxy import ConnectProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Imported for json_format: it finds the types of `Any` fields only among those.
_ANY_TYPES = (_dns_cluster, _cares, _preserve_case, _http_options)
_HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path} of {self.headers['host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def upstream() -> Iterator[int]:
    """Serve on ::1 alone, and give the port."""
    with _Server(("::1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_an_address_in_the_url(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    with upstream() as port:
        write(file, route("a", "/a", f"http://[::1]:{port}"))
        with thruway_up("-f", str(file)) as up:
            answer = httpx.get(f"{up.url}/a/models", trust_env=False)
    assert answer.text == f"/v1/models of [::1]:{port}"


def test_a_proxy_on_ipv6(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    with ExitStack() as stack:
        proxy = stack.enter_context(ConnectProxy({}, address="::1"))
        document = route("a", "/a", "https://[2001:db8::1]")
        document["spec"]["upstream"]["proxy"] = {"url": proxy.url}
        plain = route("b", "/b", "http://[2001:db8::1]:8080")
        plain["spec"]["upstream"]["proxy"] = {"url": proxy.url}
        write(file, document, plain)
        up = stack.enter_context(thruway_up("-f", str(file)))
        assert httpx.get(f"{up.url}/a/models", trust_env=False).status_code == 502
        assert proxy.tunnels[0] == "[2001:db8::1]:443"
        assert httpx.get(f"{up.url}/b/models", trust_env=False).status_code == 502
        assert proxy.requests[-1].target == "http://[2001:db8::1]:8080/v1/models"


class _Names(socketserver.BaseRequestHandler):
    """A name server: whatever is asked for is ::1, and has no IPv4 address."""

    def handle(self) -> None:
        query, sock = self.request
        end = query.index(b"\0", 12) + 5
        kind = query[end - 4 : end - 2]
        answer = b"\xc0\x0c" + kind + b"\0\1\0\0\0\x3c\0\x10" + b"\0" * 15 + b"\1"
        found = answer if kind == b"\0\x1c" else b""
        counts = b"\0\1" + (b"\0\1" if found else b"\0\0") + b"\0" * 4
        sock.sendto(query[:2] + b"\x81\x80" + counts + query[12:end] + found, self.client_address)


@contextmanager
def name_server() -> Iterator[int]:
    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), _Names) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def bootstrap(endpoint: ir.Endpoint, resolver: int) -> dict[str, Any]:
    """A listener in front of the cluster as it is rendered, but for the name server."""
    cluster = json_format.MessageToDict(cluster_pb2.Cluster.FromString(render_cluster(endpoint)))
    dns = cluster["clusterType"]["typedConfig"]["typedDnsResolverConfig"]["typedConfig"]
    dns["resolvers"] = [{"socket_address": {"address": "127.0.0.1", "port_value": resolver}}]
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        },
    }
    to_cluster = {"match": {"prefix": "/"}, "route": {"cluster": cluster["name"]}}
    manager = {
        "@type": f"type.googleapis.com/{_HCM}",
        "stat_prefix": "test",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [to_cluster]}]
        },
        "http_filters": [router],
    }
    listener = {
        "name": "test",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def test_a_name_that_has_ipv6_addresses_only() -> None:
    with upstream() as port, name_server() as resolver:
        endpoint = ir.Endpoint("six.corp.test", port, None, ir.Protocol.AUTO, 5000, None)
        with Envoy(bootstrap(endpoint, resolver)) as envoy:
            envoy.wait_ready()
            host, listening = envoy.address("test")
            answer = httpx.get(f"http://{host}:{listening}/x", trust_env=False)
            assert answer.text == f"/x of {host}:{listening}"
