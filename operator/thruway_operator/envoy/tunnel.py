"""Tunnels through a forward proxy: CONNECT (RFC 9110, 9.3.6).

Envoy's `http_11_proxy` transport socket resolves the upstream's name first, which in many networks
only the proxy can; it needs the proxy's address instead of its name, and supports neither a login
nor TLS to the proxy. So the cluster of an upstream behind a proxy leads to two internal listeners,
which are static and the same for all:

1. the tunnel: its tcp_proxy sends CONNECT; the endpoint's metadata names the destination and the
   cluster to use;
2. the gate: its router sends that CONNECT to the proxy's cluster, whose upstream filters inject the
   login from its secret. tcp_proxy could do both (runtime flag
   `upstream_http_filters_with_tcp_proxy`), but with it Envoy 1.40 crashes once a proxy's cluster is
   removed under an open tunnel.

TLS to the upstream is end to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.config.cluster.v3 import cluster_pb2 as cluster
from envoy.config.core.v3 import base_pb2 as core
from envoy.config.endpoint.v3 import endpoint_components_pb2 as endpoint_pb
from envoy.config.listener.v3 import listener_pb2 as listener
from envoy.extensions.access_loggers.stream.v3 import stream_pb2 as stream
from envoy.extensions.bootstrap.internal_listener.v3 import internal_listener_pb2 as internal
from envoy.extensions.filters.http.router.v3 import router_pb2 as router
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2 as tcp_proxy
from envoy.extensions.transport_sockets.internal_upstream.v3 import (
    internal_upstream_pb2 as internal_upstream,
)
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2 as raw_buffer

from thruway_operator.envoy.names import TUNNEL_GATE, TUNNEL_LISTENER, TUNNEL_METADATA
from thruway_operator.envoy.wire import duration, extension, struct

if TYPE_CHECKING:
    from thruway_operator import ir

__all__ = [
    "authority",
    "internal_listeners",
    "render_gate_cluster",
    "render_tunnel_listeners",
    "through_tunnel",
    "tunnel_endpoint",
]

_BUFFER_KIB = 64
_CLUSTER_HEADER = "x-thruway-cluster"
_ADDED_BY_ENVOY = (_CLUSTER_HEADER, "x-forwarded-proto", "x-request-id")
_LOG = {
    "tunnel": "%REQ(:AUTHORITY)%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}


def authority(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def internal_listeners() -> dict[str, object]:
    """Return the bootstrap's extension without which there are no internal listeners."""
    config = internal.InternalListener(buffer_size_kb={"value": _BUFFER_KIB})
    return extension("envoy.bootstrap.internal_listener", config)


def render_tunnel_listeners() -> list[listener.Listener]:
    """Return the internal listeners that all tunnels go through."""
    tunnel = extension("envoy.filters.network.tcp_proxy", _ask_for_tunnel())
    gate = extension("envoy.filters.network.http_connection_manager", _gate())
    return [_internal(TUNNEL_LISTENER, tunnel), _internal(TUNNEL_GATE, gate)]


def render_gate_cluster() -> cluster.Cluster:
    """Return the cluster that leads from the tunnel to the gate."""
    address = {"envoy_internal_address": {"server_listener_name": TUNNEL_GATE}}
    no_limit = {
        "max_connections": {"value": 1_000_000},
        "max_pending_requests": {"value": 1_000_000},
        "max_requests": {"value": 1_000_000},
    }
    return cluster.Cluster(
        name=TUNNEL_GATE,
        type="STATIC",
        per_connection_buffer_limit_bytes={"value": _BUFFER_KIB * 1024},
        circuit_breakers={"thresholds": [no_limit]},
        load_assignment={
            "cluster_name": TUNNEL_GATE,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    )


def _internal(name: str, network_filter: dict[str, object]) -> listener.Listener:
    return listener.Listener(
        name=name,
        internal_listener={},
        per_connection_buffer_limit_bytes={"value": _BUFFER_KIB * 1024},
        # The limit is for clients' connections, which these are not.
        ignore_global_conn_limit=True,
        filter_chains=[{"filters": [network_filter]}],
    )


def _ask_for_tunnel() -> tcp_proxy.TcpProxy:
    through = {"key": _CLUSTER_HEADER, "value": f"%DYNAMIC_METADATA({TUNNEL_METADATA}:cluster)%"}
    return tcp_proxy.TcpProxy(
        stat_prefix="tunnel",
        cluster=TUNNEL_GATE,
        idle_timeout=duration(0),  # idle streams are the route's to end
        tunneling_config={
            "hostname": f"%DYNAMIC_METADATA({TUNNEL_METADATA}:target)%",
            "headers_to_add": [{"header": through}],
        },
    )


def _gate() -> hcm.HttpConnectionManager:
    route = {
        "match": {"connect_matcher": {}},
        "route": {
            "cluster_header": _CLUSTER_HEADER,
            "timeout": duration(0),
            "idle_timeout": duration(0),
            "upgrade_configs": [{"upgrade_type": "CONNECT", "enabled": {"value": True}}],
        },
        "request_headers_to_remove": _ADDED_BY_ENVOY,
    }
    return hcm.HttpConnectionManager(
        stat_prefix="gate",
        route_config={
            "name": TUNNEL_GATE,
            "virtual_hosts": [{"name": "*", "domains": ["*"], "routes": [route]}],
        },
        generate_request_id={"value": False},
        stream_idle_timeout=duration(0),
        delayed_close_timeout=duration(0),
        upgrade_configs=[{"upgrade_type": "CONNECT"}],
        access_log=[_failures()],
        http_filters=[
            extension("envoy.filters.http.router", router.Router(suppress_envoy_headers=True))
        ],
    )


def _failures() -> dict[str, object]:
    # The request's own log says only that the connection ended; the reason is known only here.
    line = stream.StdoutAccessLog(log_format={"json_format": struct(_LOG)})
    refused = {
        "comparison": {
            "op": "GE",
            "value": {"default_value": 300, "runtime_key": "thruway.tunnel"},
        }
    }
    return {
        **extension("envoy.access_loggers.stdout", line),
        "filter": {"status_code_filter": refused},
    }


def tunnel_endpoint(endpoint: ir.Endpoint, through: str) -> endpoint_pb.LbEndpoint:
    """Return the endpoint of an upstream behind the proxy whose cluster's name is `through`."""
    target = authority(endpoint.host, endpoint.port)
    metadata = struct({"target": target, "cluster": through})
    address = {"server_listener_name": TUNNEL_LISTENER, "endpoint_id": target}
    return endpoint_pb.LbEndpoint(
        endpoint={"address": {"envoy_internal_address": address}},
        metadata={"filter_metadata": {TUNNEL_METADATA: metadata}},
    )


def through_tunnel(inner: core.TransportSocket | None) -> core.TransportSocket:
    """Return the socket that hands the endpoint's metadata to the listener; `inner` is TLS."""
    config = internal_upstream.InternalUpstreamTransport(
        passthrough_metadata=[{"kind": {"host": {}}, "name": TUNNEL_METADATA}],
        transport_socket=inner or _PLAIN,
    )
    return core.TransportSocket(**extension("envoy.transport_sockets.internal_upstream", config))


_PLAIN = core.TransportSocket(
    **extension("envoy.transport_sockets.raw_buffer", raw_buffer.RawBuffer())
)
