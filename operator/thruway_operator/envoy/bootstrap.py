"""Envoy's bootstrap: the static listener, the way to extproc and the way to the xDS server."""

from __future__ import annotations

from dataclasses import dataclass

from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.config.overload import v3 as overload
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections import (
    v3 as downstream_connections,
)
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as http
from envoy_data_plane.google.protobuf import Struct

from thruway_extproc import rule
from thruway_operator.envoy.clusters import NO_LIMIT
from thruway_operator.envoy.listener import render_listener
from thruway_operator.envoy.names import EXT_PROC_CLUSTER, XDS_CLUSTER
from thruway_operator.envoy.reception import PLAIN, Reception
from thruway_operator.envoy.service import XdsService, render_service_cluster
from thruway_operator.envoy.tunnel import (
    internal_listeners,
    render_gate_cluster,
    render_tunnel_listeners,
)
from thruway_operator.envoy.wire import ads, duration, packed

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
    reception: Reception = PLAIN
    patience_ms: int = 0
    """How long Envoy waits for its first configuration before it accepts connections without one,
    in milliseconds; 0: for ever. Until it comes, requests get 503 `config_pending`."""


def render_bootstrap(options: ProxyOptions) -> bootstrap.Bootstrap:
    """Return the bootstrap; `bytes()` of it is what Envoy reads from a file named `*.pb`."""
    extproc = _local_cluster(EXT_PROC_CLUSTER, options.extproc_sockets)
    service = options.xds_service
    xds = (
        render_service_cluster(XDS_CLUSTER, service)
        if service
        else _local_cluster(XDS_CLUSTER, (options.xds_socket,))
    )
    half = options.patience_ms // 2  # clusters are waited for first, then the listener's routes
    return bootstrap.Bootstrap(
        node=core.Node(
            id=options.node_id,
            cluster="thruway",
            # What this proxy understands, so that a newer operator renders what fits.
            metadata=Struct.from_dict({"thruway": {"rule_versions": [rule.VERSION]}}),
        ),
        admin=bootstrap.Admin(address=_pipe(options.admin_socket)),
        static_resources=bootstrap.BootstrapStaticResources(
            listeners=[
                render_listener(options.addresses, options.reception, half),
                *render_tunnel_listeners(),
            ],
            clusters=[extproc, xds, render_gate_cluster()],
        ),
        bootstrap_extensions=[internal_listeners()],
        dynamic_resources=bootstrap.BootstrapDynamicResources(
            ads_config=core.ApiConfigSource(
                api_type=core.ApiConfigSourceApiType.DELTA_GRPC,
                transport_api_version=core.ApiVersion.V3,
                set_node_on_first_message_only=True,
                grpc_services=[
                    core.GrpcService(
                        envoy_grpc=core.GrpcServiceEnvoyGrpc(
                            cluster_name=XDS_CLUSTER,
                            retry_policy=core.RetryPolicy(
                                retry_back_off=core.BackoffStrategy(
                                    base_interval=duration(100),
                                    # Thousands that wait for the operator shall not drown it.
                                    max_interval=duration(5_000 if service else 1_000),
                                )
                            ),
                        )
                    )
                ],
            ),
            cds_config=ads(half),
        ),
        layered_runtime=bootstrap.LayeredRuntime(
            layers=[
                bootstrap.RuntimeLayer(
                    name="thruway",
                    static_layer=Struct.from_dict(
                        # By default every ext_proc stream is reset, and grpc's Python server then
                        # keeps 140 bytes of each.
                        {"envoy.reloadable_features.ext_proc_graceful_grpc_close": True}
                    ),
                )
            ]
        ),
        overload_manager=_connection_limit(),
    )


def _pipe(path: str) -> core.Address:
    return core.Address(pipe=core.Pipe(path=path))


def _local_cluster(name: str, sockets: tuple[str, ...]) -> cluster.Cluster:
    options = http.HttpProtocolOptions(
        explicit_http_config=http.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=core.Http2ProtocolOptions(
                connection_keepalive=core.KeepaliveSettings(
                    interval=duration(30_000), timeout=duration(5_000)
                )
            )
        )
    )
    return cluster.Cluster(
        name=name,
        type=cluster.ClusterDiscoveryType.STATIC,
        connect_timeout=duration(1_000),
        load_assignment=endpoint.ClusterLoadAssignment(
            cluster_name=name,
            endpoints=[
                endpoint.LocalityLbEndpoints(
                    lb_endpoints=[
                        endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=_pipe(path)))
                        for path in sockets
                    ]
                )
            ],
        ),
        circuit_breakers=cluster.CircuitBreakers(
            thresholds=[
                cluster.CircuitBreakersThresholds(
                    max_connections=NO_LIMIT,
                    max_pending_requests=NO_LIMIT,
                    max_requests=NO_LIMIT,
                    max_retries=NO_LIMIT,
                )
            ]
        ),
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(options)
        },
    )


def _connection_limit() -> overload.OverloadManager:
    limit = downstream_connections.DownstreamConnectionsConfig(
        max_active_downstream_connections=50_000
    )
    return overload.OverloadManager(
        refresh_interval=duration(250),
        resource_monitors=[
            overload.ResourceMonitor(
                name="envoy.resource_monitors.global_downstream_max_connections",
                typed_config=packed(limit),
            )
        ],
    )
