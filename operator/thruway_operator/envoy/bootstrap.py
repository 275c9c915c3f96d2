"""Envoy's bootstrap: the static listener, and the clusters of extproc and the xDS server."""

from __future__ import annotations

from dataclasses import dataclass

from envoy.config.bootstrap.v3 import bootstrap_pb2 as bootstrap
from envoy.config.cluster.v3 import cluster_pb2 as cluster
from envoy.extensions.resource_monitors.downstream_connections.v3 import (
    downstream_connections_pb2 as downstream_connections,
)
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http

from thruway_extproc import rule
from thruway_operator.envoy.clusters import NO_LIMIT
from thruway_operator.envoy.controlplane import XdsService, render_service_cluster
from thruway_operator.envoy.downstream import PLAIN, Downstream
from thruway_operator.envoy.listener import render_listener
from thruway_operator.envoy.names import EXT_PROC_CLUSTER, XDS_CLUSTER
from thruway_operator.envoy.tunnel import (
    internal_listeners,
    render_gate_cluster,
    render_tunnel_listeners,
)
from thruway_operator.envoy.wire import ads, any_of, duration, extension, struct

__all__ = ["ProxyOptions", "render_bootstrap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """What differs from one Envoy to the next. Sockets are paths of Unix sockets.

    The xDS server is behind `xds_socket`, or it is the `xds_service` of a cluster; then `node_id`
    is `<pod>.<namespace>`, and the files of `secret_files` have to lie where the service says.
    """

    node_id: str
    addresses: tuple[tuple[str, int], ...]
    """Where clients connect: (address, port), at least one."""
    admin_socket: str
    xds_socket: str = ""
    xds_service: XdsService | None = None
    extproc_sockets: tuple[str, ...]
    downstream: Downstream = PLAIN
    patience_ms: int = 0
    """How long Envoy waits for its first configuration before it accepts connections without one,
    in milliseconds; 0: forever. Until then, requests get 503 `config_pending`."""


def render_bootstrap(options: ProxyOptions) -> bootstrap.Bootstrap:
    """Return the bootstrap. Serialized, it is what Envoy reads from a file named `*.pb`."""
    service = options.xds_service
    xds = (
        render_service_cluster(XDS_CLUSTER, service)
        if service
        else _local_cluster(XDS_CLUSTER, (options.xds_socket,))
    )
    half = (
        options.patience_ms // 2
    )  # Envoy waits first for clusters, then for the listener's routes
    return bootstrap.Bootstrap(
        node={
            "id": options.node_id,
            "cluster": "thruway",
            # What this proxy supports, so that a newer operator can render for it.
            "metadata": struct({"thruway": {"rule_versions": [rule.VERSION]}}),
        },
        admin={"address": _pipe(options.admin_socket)},
        static_resources={
            "listeners": [
                render_listener(options.addresses, options.downstream, half),
                *render_tunnel_listeners(),
            ],
            "clusters": [
                _local_cluster(EXT_PROC_CLUSTER, options.extproc_sockets),
                xds,
                render_gate_cluster(),
            ],
        },
        bootstrap_extensions=[internal_listeners()],
        dynamic_resources={
            # Thousands of waiting proxies must not overload the operator.
            "ads_config": _ads_stream(longest_wait=5_000 if service else 1_000),
            "cds_config": ads(half),
        },
        layered_runtime={"layers": [{"name": "thruway", "static_layer": struct(_RUNTIME)}]},
        overload_manager=_CONNECTION_LIMIT,
    )


_RUNTIME = {
    # By default every ext_proc stream is reset, and grpc's Python server then keeps 140 bytes of
    # each.
    "envoy.reloadable_features.ext_proc_graceful_grpc_close": True,
    # By default 100, which two dozen letters of a host name can exceed.
    "re2.max_program_size.error_level": 1 << 20,
}

_CONNECTION_LIMIT = {
    "refresh_interval": duration(250),
    "resource_monitors": [
        extension(
            "envoy.resource_monitors.global_downstream_max_connections",
            downstream_connections.DownstreamConnectionsConfig(
                max_active_downstream_connections=50_000
            ),
        )
    ],
}


def _ads_stream(longest_wait: int) -> dict[str, object]:
    back_off = {"base_interval": duration(100), "max_interval": duration(longest_wait)}
    service = {"cluster_name": XDS_CLUSTER, "retry_policy": {"retry_back_off": back_off}}
    return {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": service}],
    }


def _pipe(path: str) -> dict[str, object]:
    return {"pipe": {"path": path}}


def _local_cluster(name: str, sockets: tuple[str, ...]) -> cluster.Cluster:
    return cluster.Cluster(
        name=name,
        type="STATIC",
        connect_timeout=duration(1_000),
        load_assignment={
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _pipe(path)}} for path in sockets]}
            ],
        },
        circuit_breakers={
            "thresholds": [
                {
                    "max_connections": {"value": NO_LIMIT},
                    "max_pending_requests": {"value": NO_LIMIT},
                    "max_requests": {"value": NO_LIMIT},
                    "max_retries": {"value": NO_LIMIT},
                }
            ]
        },
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any_of(_LOCAL_HTTP)
        },
    )


_LOCAL_HTTP = http.HttpProtocolOptions(
    explicit_http_config={
        "http2_protocol_options": {
            "connection_keepalive": {"interval": duration(30_000), "timeout": duration(5_000)}
        }
    }
)
