"""Upstream clusters: one for each distinct endpoint, named by its content.

A changed upstream is a new cluster: routes move over, then the old one goes, and what is in flight
stays. Equal endpoints of several routes share a cluster and so its connections.
"""

from __future__ import annotations

import hashlib
import ipaddress
from functools import lru_cache

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint_pb
from envoy_data_plane.envoy.extensions.clusters.common.dns import v3 as dns_common
from envoy_data_plane.envoy.extensions.clusters.dns import v3 as dns
from envoy_data_plane.envoy.extensions.filters.http.credential_injector import v3 as injector
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec import v3 as codec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.injected_credentials.generic import v3 as generic
from envoy_data_plane.envoy.extensions.network.dns_resolver.cares import v3 as cares
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls_pb
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as http
from envoy_data_plane.envoy.type import v3 as type_pb
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from thruway_operator import ir
from thruway_operator.envoy.names import SYSTEM_CA
from thruway_operator.envoy.tunnel import authority, through_tunnel, tunnel_endpoint
from thruway_operator.envoy.wire import ads, as_sent, duration, packed

__all__ = [
    "NO_LIMIT",
    "authority_secret",
    "cluster_name",
    "credential_secret",
    "login_secret",
    "proxy_cluster_name",
    "render_cluster",
    "render_proxy_cluster",
    "tunnels",
]

NO_LIMIT = 1_000_000
"""Circuit breakers default to 1,024 requests, which a gateway of streams reaches."""

_BUFFER = 64 * 1024
# By default a name server that does not answer holds up a new cluster for a minute.
_RESOLVER = cares.CaresDnsResolverConfig(query_timeout_seconds=1, query_tries=3)
_TLS_VERSIONS = {
    "TLSv1.2": tls_pb.TlsParametersTlsProtocol.TLSv1_2,
    "TLSv1.3": tls_pb.TlsParametersTlsProtocol.TLSv1_3,
}


def cluster_name(endpoint: ir.Endpoint, *, upgrades: bool = False) -> str:
    """Return the cluster's name; `upgrades` is the HTTP/1.1-only twin for WebSocket."""
    digest = hashlib.blake2b(repr((endpoint, upgrades)).encode(), digest_size=6).hexdigest()
    return f"{endpoint.host}:{endpoint.port}/{digest}"


def authority_secret(name: str) -> str:
    """Return the SDS name of a CA bundle; "" is the system's."""
    return f"ca/{name}" if name else SYSTEM_CA


def credential_secret(endpoint: ir.Endpoint, credential: ir.Credential) -> str:
    """Return the SDS name of an endpoint's credential.

    It holds the address: if key and upstream change at once, the old upstream, which is in use
    until the routes have moved, must not be given the new key.
    """
    return f"{credential.secret}@{endpoint.host}:{endpoint.port}"


def login_secret(proxy: ir.ForwardProxy) -> str:
    """Return the SDS name of what is said to the proxy behind `Basic `."""
    return f"{proxy.login}@{proxy.host}:{proxy.port}"


def tunnels(endpoint: ir.Endpoint, *, upgrades: bool = False) -> bool:
    """Tell whether the endpoint is reached through a tunnel.

    The other way through a proxy is the absolute form of RFC 9112, 3.2.2, which is what proxies
    expect of plain HTTP/1.1: many allow CONNECT to port 443 only. WebSocket without TLS takes the
    tunnel (RFC 6455, 4.1).
    """
    plain = endpoint.tls is None and endpoint.protocol is not ir.Protocol.HTTP2
    return endpoint.proxy is not None and (upgrades or not plain)


def proxy_cluster_name(proxy: ir.ForwardProxy, connect_timeout: int) -> str:
    """Return the name of the cluster of a proxy that tunnels go through."""
    digest = hashlib.blake2b(repr((proxy, connect_timeout)).encode(), digest_size=6).hexdigest()
    return f"proxy/{authority(proxy.host, proxy.port)}/{digest}"


@lru_cache(maxsize=8192)
def render_cluster(endpoint: ir.Endpoint, *, upgrades: bool = False) -> bytes:
    """Return the serialised cluster of an endpoint."""
    protocol = ir.Protocol.HTTP1 if upgrades else endpoint.protocol
    name = cluster_name(endpoint, upgrades=upgrades)
    message = _cluster(
        name, endpoint.connect_timeout, _http_options(endpoint, protocol, upgrades=upgrades)
    )
    socket = _tls_socket(endpoint.tls) if endpoint.tls else None
    proxy = endpoint.proxy
    if proxy is None:
        _locate(message, endpoint.host, endpoint.port)
    elif tunnels(endpoint, upgrades=upgrades):
        through = proxy_cluster_name(proxy, endpoint.connect_timeout)
        message.type = cluster.ClusterDiscoveryType.STATIC
        message.load_assignment = _assignment(name, tunnel_endpoint(endpoint, through))
        socket = through_tunnel(socket)
    else:
        _locate(message, proxy.host, proxy.port)
        socket = _proxy_socket(proxy)
    message.transport_socket = socket
    return bytes(message)


@lru_cache(maxsize=1024)
def render_proxy_cluster(proxy: ir.ForwardProxy, connect_timeout: int) -> bytes:
    """Return the serialised cluster of a proxy, which gets nothing but CONNECT."""
    options = http.HttpProtocolOptions(
        explicit_http_config=http.HttpProtocolOptionsExplicitHttpConfig(
            http_protocol_options=core.Http1ProtocolOptions()
        ),
        http_filters=_injecting([_login(proxy)] if proxy.login else []),
    )
    message = _cluster(proxy_cluster_name(proxy, connect_timeout), connect_timeout, options)
    _locate(message, proxy.host, proxy.port)
    message.transport_socket = _proxy_socket(proxy)
    return bytes(message)


def _cluster(name: str, connect_timeout: int, options: http.HttpProtocolOptions) -> cluster.Cluster:
    return cluster.Cluster(
        name=name,
        connect_timeout=duration(connect_timeout),
        per_connection_buffer_limit_bytes=_BUFFER,
        circuit_breakers=_breakers(),
        # A connection through a NAT that forgot it is noticed within two minutes.
        upstream_connection_options=cluster.UpstreamConnectionOptions(
            tcp_keepalive=core.TcpKeepalive(
                keepalive_time=60, keepalive_interval=15, keepalive_probes=3
            )
        ),
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(options)
        },
    )


def _locate(message: cluster.Cluster, host: str, port: int) -> None:
    address = core.Address(socket_address=core.SocketAddress(address=host, port_value=port))
    message.load_assignment = _assignment(
        message.name, endpoint_pb.LbEndpoint(endpoint=endpoint_pb.Endpoint(address=address))
    )
    if _is_ip(host):
        message.type = cluster.ClusterDiscoveryType.STATIC
    else:
        message.cluster_type = _dns()


def _assignment(name: str, endpoint: endpoint_pb.LbEndpoint) -> endpoint_pb.ClusterLoadAssignment:
    return endpoint_pb.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoint_pb.LocalityLbEndpoints(lb_endpoints=[endpoint])]
    )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _dns() -> cluster.ClusterCustomClusterType:
    return cluster.ClusterCustomClusterType(
        name="envoy.cluster.dns",
        typed_config=packed(
            dns.DnsCluster(
                dns_lookup_family=dns_common.DnsLookupFamily.ALL,
                respect_dns_ttl=True,
                all_addresses_in_single_endpoint=True,
                typed_dns_resolver_config=core.TypedExtensionConfig(
                    name="envoy.network.dns_resolver.cares", typed_config=packed(_RESOLVER)
                ),
            )
        ),
    )


def _breakers() -> cluster.CircuitBreakers:
    return cluster.CircuitBreakers(
        thresholds=[
            cluster.CircuitBreakersThresholds(
                max_connections=NO_LIMIT,
                max_pending_requests=NO_LIMIT,
                max_requests=NO_LIMIT,
                retry_budget=cluster.CircuitBreakersThresholdsRetryBudget(
                    budget_percent=type_pb.Percent(value=20.0), min_retry_concurrency=10
                ),
            )
        ]
    )


def _http_options(
    endpoint: ir.Endpoint, protocol: ir.Protocol, *, upgrades: bool
) -> http.HttpProtocolOptions:
    absolute = endpoint.proxy is not None and not tunnels(endpoint, upgrades=upgrades)
    options = http.HttpProtocolOptions(
        # A peer that closes idle connections at 60 s would race the next request at our default.
        common_http_protocol_options=core.HttpProtocolOptions(
            idle_timeout=duration(30_000), max_headers_count=1000, max_response_headers_kb=256
        ),
        http_filters=_injecting(_injected(endpoint, absolute=absolute)),
    )
    # enable_trailers: HTTP/1 trailers are dropped otherwise.
    http1 = core.Http1ProtocolOptions(
        enable_trailers=True,
        header_key_format=as_sent(),
        send_fully_qualified_url=absolute,
    )
    http2 = core.Http2ProtocolOptions(
        initial_stream_window_size=1 << 20,
        initial_connection_window_size=8 << 20,
        connection_keepalive=core.KeepaliveSettings(
            interval=duration(30_000), timeout=duration(10_000)
        ),
    )
    if protocol is ir.Protocol.AUTO and endpoint.tls:
        options.auto_config = http.HttpProtocolOptionsAutoHttpConfig(
            http_protocol_options=http1, http2_protocol_options=http2
        )
    elif protocol is ir.Protocol.HTTP2:
        options.explicit_http_config = http.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=http2
        )
    else:
        options.explicit_http_config = http.HttpProtocolOptionsExplicitHttpConfig(
            http_protocol_options=http1
        )
    return options


def _injected(endpoint: ir.Endpoint, *, absolute: bool) -> list[generic.Generic]:
    found = []
    if credential := endpoint.credential:
        secret = credential_secret(endpoint, credential)
        found.append(_from_secret(secret, credential.header, credential.prefix))
    if absolute and endpoint.proxy and endpoint.proxy.login:
        found.append(_login(endpoint.proxy))
    return found


def _login(proxy: ir.ForwardProxy) -> generic.Generic:
    return _from_secret(login_secret(proxy), "proxy-authorization", "Basic ")


def _from_secret(name: str, header: str, prefix: str) -> generic.Generic:
    return generic.Generic(
        credential=tls_pb.SdsSecretConfig(name=name, sds_config=ads()),
        header=header,
        header_value_prefix=prefix,
    )


def _injecting(sources: list[generic.Generic]) -> list[hcm.HttpFilter]:
    # The injector has no per-route form, so it stands in the cluster. Without its secret it answers
    # 401 itself, which the listener maps; the request never goes out bare.
    if not sources:
        return []
    last = hcm.HttpFilter(
        name="envoy.filters.http.upstream_codec", typed_config=packed(codec.UpstreamCodec())
    )
    return [*map(_injector, sources), last]


def _injector(source: generic.Generic) -> hcm.HttpFilter:
    config = injector.CredentialInjector(
        overwrite=True,
        allow_request_without_credential=False,
        credential=core.TypedExtensionConfig(
            name="envoy.http.injected_credentials.generic", typed_config=packed(source)
        ),
    )
    return hcm.HttpFilter(
        name="envoy.filters.http.credential_injector", typed_config=packed(config)
    )


def _proxy_socket(proxy: ir.ForwardProxy) -> core.TransportSocket | None:
    return _tls_socket(ir.Tls(proxy.host.removesuffix("."), "TLSv1.2")) if proxy.secure else None


def _tls_socket(tls: ir.Tls) -> core.TransportSocket:
    is_ip = _is_ip(tls.server_name)
    name = tls_pb.SubjectAltNameMatcher(
        san_type=(
            tls_pb.SubjectAltNameMatcherSanType.IP_ADDRESS
            if is_ip
            else tls_pb.SubjectAltNameMatcherSanType.DNS
        ),
        matcher=matcher.StringMatcher(exact=tls.server_name),
    )
    context = tls_pb.UpstreamTlsContext(
        sni="" if is_ip else tls.server_name,
        common_tls_context=tls_pb.CommonTlsContext(
            tls_params=tls_pb.TlsParameters(
                tls_minimum_protocol_version=_TLS_VERSIONS[tls.minimum],
                tls_maximum_protocol_version=tls_pb.TlsParametersTlsProtocol.TLSv1_3,
            ),
            combined_validation_context=tls_pb.CommonTlsContextCombinedCertificateValidationContext(
                default_validation_context=tls_pb.CertificateValidationContext(
                    match_typed_subject_alt_names=[name]
                ),
                validation_context_sds_secret_config=tls_pb.SdsSecretConfig(
                    name=authority_secret(tls.ca), sds_config=ads()
                ),
            ),
        ),
    )
    return core.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))
