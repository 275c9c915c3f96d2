"""The way through a forward proxy: CONNECT (RFC 9110, 9.3.6).

Envoy's `http_11_proxy` transport socket resolves the upstream's name first, which many networks do
on the proxy alone; it wants the proxy's address, not its name, and knows neither a login nor TLS to
the proxy. So the cluster of an upstream behind a proxy leads into two listeners inside of Envoy,
static and the same for all:

1. the tunnel: its tcp_proxy asks for CONNECT; the endpoint's metadata says where to, and through
   which cluster;
2. the gate: its router sends that CONNECT to the proxy's cluster, whose upstream filters inject the
   login from its secret. tcp_proxy could do both (runtime flag
   `upstream_http_filters_with_tcp_proxy`), but with it Envoy 1.40 crashes once a proxy's cluster is
   removed below a living tunnel.

TLS is the upstream's own and goes through end to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.config.core.v3 import base_pb2 as core_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2 as endpoint_pb2
from envoy.extensions.transport_sockets.internal_upstream.v3 import internal_upstream_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint_pb
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route_pb
from envoy_data_plane.envoy.extensions.access_loggers.stream import v3 as stream
from envoy_data_plane.envoy.extensions.bootstrap.internal_listener import v3 as internal
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy import v3 as tcp_proxy
from envoy_data_plane.google.protobuf import Struct

from thruway_operator.envoy.names import TUNNEL_GATE, TUNNEL_LISTENER, TUNNEL_METADATA
from thruway_operator.envoy.wire import any_of, duration, packed

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


def internal_listeners() -> core.TypedExtensionConfig:
    """Return the extension of the bootstrap without which there are no internal listeners."""
    return core.TypedExtensionConfig(
        name="envoy.bootstrap.internal_listener",
        typed_config=packed(internal.InternalListener(buffer_size_kb=_BUFFER_KIB)),
    )


def render_tunnel_listeners() -> list[listener.Listener]:
    """Return the internal listeners that all tunnels go through."""
    tunnel = listener.Filter(
        name="envoy.filters.network.tcp_proxy", typed_config=packed(_ask_for_tunnel())
    )
    gate = listener.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=packed(_gate())
    )
    return [_internal(TUNNEL_LISTENER, tunnel), _internal(TUNNEL_GATE, gate)]


def render_gate_cluster() -> cluster.Cluster:
    """Return the cluster that leads from the tunnel to the gate."""
    address = core.EnvoyInternalAddress(server_listener_name=TUNNEL_GATE)
    gate = endpoint_pb.LbEndpoint(
        endpoint=endpoint_pb.Endpoint(address=core.Address(envoy_internal_address=address))
    )
    no_limit = cluster.CircuitBreakersThresholds(
        max_connections=1_000_000, max_pending_requests=1_000_000, max_requests=1_000_000
    )
    return cluster.Cluster(
        name=TUNNEL_GATE,
        type=cluster.ClusterDiscoveryType.STATIC,
        per_connection_buffer_limit_bytes=_BUFFER_KIB * 1024,
        circuit_breakers=cluster.CircuitBreakers(thresholds=[no_limit]),
        load_assignment=endpoint_pb.ClusterLoadAssignment(
            cluster_name=TUNNEL_GATE,
            endpoints=[endpoint_pb.LocalityLbEndpoints(lb_endpoints=[gate])],
        ),
    )


def _internal(name: str, network_filter: listener.Filter) -> listener.Listener:
    return listener.Listener(
        name=name,
        internal_listener=listener.ListenerInternalListenerConfig(),
        per_connection_buffer_limit_bytes=_BUFFER_KIB * 1024,
        # These are no clients' connections, which the limit is about.
        ignore_global_conn_limit=True,
        filter_chains=[listener.FilterChain(filters=[network_filter])],
    )


def _ask_for_tunnel() -> tcp_proxy.TcpProxy:
    through = core.HeaderValue(
        key=_CLUSTER_HEADER, value=f"%DYNAMIC_METADATA({TUNNEL_METADATA}:cluster)%"
    )
    return tcp_proxy.TcpProxy(
        stat_prefix="tunnel",
        cluster=TUNNEL_GATE,
        idle_timeout=duration(0),  # idle streams are the route's to end
        tunneling_config=tcp_proxy.TcpProxyTunnelingConfig(
            hostname=f"%DYNAMIC_METADATA({TUNNEL_METADATA}:target)%",
            headers_to_add=[core.HeaderValueOption(header=through)],
        ),
    )


def _gate() -> hcm.HttpConnectionManager:
    connect = route_pb.RouteActionUpgradeConfig(upgrade_type="CONNECT", enabled=True)
    route = route_pb.Route(
        match=route_pb.RouteMatch(connect_matcher=route_pb.RouteMatchConnectMatcher()),
        route=route_pb.RouteAction(
            cluster_header=_CLUSTER_HEADER,
            timeout=duration(0),
            idle_timeout=duration(0),
            upgrade_configs=[connect],
        ),
        request_headers_to_remove=list(_ADDED_BY_ENVOY),
    )
    return hcm.HttpConnectionManager(
        stat_prefix="gate",
        route_config=route_pb.RouteConfiguration(
            name=TUNNEL_GATE,
            virtual_hosts=[route_pb.VirtualHost(name="*", domains=["*"], routes=[route])],
        ),
        generate_request_id=False,
        stream_idle_timeout=duration(0),
        delayed_close_timeout=duration(0),
        upgrade_configs=[hcm.HttpConnectionManagerUpgradeConfig(upgrade_type="CONNECT")],
        access_log=[_failures()],
        http_filters=[
            hcm.HttpFilter(
                name="envoy.filters.http.router",
                typed_config=packed(router.Router(suppress_envoy_headers=True)),
            )
        ],
    )


def _failures() -> accesslog.AccessLog:
    # The request's own log says only that the connection ended: the reason is known here alone.
    line = stream.StdoutAccessLog(
        log_format=core.SubstitutionFormatString(json_format=Struct.from_dict(_LOG))
    )
    refused = accesslog.StatusCodeFilter(
        comparison=accesslog.ComparisonFilter(
            op=accesslog.ComparisonFilterOp.GE,
            value=core.RuntimeUInt32(default_value=300, runtime_key="thruway.tunnel"),
        )
    )
    return accesslog.AccessLog(
        name="envoy.access_loggers.stdout",
        filter=accesslog.AccessLogFilter(status_code_filter=refused),
        typed_config=packed(line),
    )


def tunnel_endpoint(endpoint: ir.Endpoint, through: str) -> endpoint_pb2.LbEndpoint:
    """Return the endpoint of an upstream behind the proxy whose cluster's name is `through`."""
    target = authority(endpoint.host, endpoint.port)
    found = endpoint_pb2.LbEndpoint()
    internal = found.endpoint.address.envoy_internal_address
    internal.server_listener_name, internal.endpoint_id = TUNNEL_LISTENER, target
    found.metadata.filter_metadata[TUNNEL_METADATA].update({"target": target, "cluster": through})
    return found


def through_tunnel(inner: core_pb2.TransportSocket | None) -> core_pb2.TransportSocket:
    """Return the socket that hands the endpoint's metadata to the listener; `inner` is TLS."""
    config = internal_upstream_pb2.InternalUpstreamTransport(
        passthrough_metadata=[{"kind": {"host": {}}, "name": TUNNEL_METADATA}],
        transport_socket=inner or _PLAIN,
    )
    return core_pb2.TransportSocket(
        name="envoy.transport_sockets.internal_upstream", typed_config=any_of(config)
    )


_PLAIN = core_pb2.TransportSocket(
    name="envoy.transport_sockets.raw_buffer", typed_config=any_of(raw_buffer_pb2.RawBuffer())
)
