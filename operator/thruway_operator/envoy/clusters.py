"""Upstream clusters: one for each distinct endpoint, named by a hash of its content.

A changed upstream is a new cluster: routes switch to it, then the old one is removed, and requests
in flight continue. Routes with equal endpoints share a cluster, and so its connections.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from envoy.config.cluster.v3 import cluster_pb2 as cluster
from envoy.config.core.v3 import base_pb2 as core
from envoy.config.core.v3 import protocol_pb2 as protocol_pb
from envoy.config.endpoint.v3 import endpoint_components_pb2 as endpoint_pb
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http

from thruway_operator import ir
from thruway_operator.envoy.injection import injected_credential, upstream_filters
from thruway_operator.envoy.names import SYSTEM_CA
from thruway_operator.envoy.peers import TCP_KEEPALIVE, by_dns, is_ip, upstream_tls
from thruway_operator.envoy.tunnel import authority, through_tunnel, tunnel_endpoint
from thruway_operator.envoy.wire import AS_SENT, ads, any_of, duration, serialized

if TYPE_CHECKING:
    from envoy.extensions.http.injected_credentials.generic.v3 import generic_pb2 as generic

__all__ = [
    "NO_LIMIT",
    "authority_secret",
    "certificate_secret",
    "cluster_name",
    "credential_secret",
    "login_secret",
    "needs_twin",
    "proxy_cluster_name",
    "render_cluster",
    "render_proxy_cluster",
    "tunnels",
]

NO_LIMIT = 1_000_000
"""Circuit breakers default to 1,024 requests, which a gateway with many streams reaches."""

_BUFFER = 64 * 1024
_TLS_VERSIONS = {"TLSv1.2": "TLSv1_2", "TLSv1.3": "TLSv1_3"}


def cluster_name(endpoint: ir.Endpoint, *, upgrades: bool = False) -> str:
    """Return the cluster's name; `upgrades` is the HTTP/1.1-only twin for WebSocket."""
    digest = hashlib.blake2b(repr((endpoint, upgrades)).encode(), digest_size=16).hexdigest()
    return f"{endpoint.host}:{endpoint.port}/{digest}"


def authority_secret(name: str) -> str:
    """Return the SDS name of a CA bundle; "" is the system's."""
    return f"ca/{name}" if name else SYSTEM_CA


def credential_secret(endpoint: ir.Endpoint, credential: ir.Credential) -> str:
    """Return the SDS name of an endpoint's credential.

    It contains the address: if key and upstream change at once, the old upstream, which is in use
    until the routes switch, must not get the new key.
    """
    return f"{credential.secret}@{endpoint.host}:{endpoint.port}"


def certificate_secret(endpoint: ir.Endpoint, name: str) -> str:
    """Return the SDS name of a client certificate; like a credential's, it contains the address.

    A namespace's name contains no colon, so it never equals the name of a credential.
    """
    return f"certificate:{name}@{endpoint.host}:{endpoint.port}"


def login_secret(proxy: ir.ForwardProxy) -> str:
    """Return the SDS name of the text after `Basic ` for a forward proxy."""
    return f"{proxy.login}@{proxy.host}:{proxy.port}"


def tunnels(endpoint: ir.Endpoint, *, upgrades: bool = False) -> bool:
    """Tell whether the endpoint is reached through a tunnel.

    The alternative is the absolute form (RFC 9112, 3.2.2), which proxies expect for plain HTTP/1.1:
    many allow CONNECT only to port 443. WebSocket without TLS uses a tunnel (RFC 6455, 4.1).
    """
    plain = endpoint.tls is None and endpoint.protocol is not ir.Protocol.HTTP2
    return endpoint.proxy is not None and (upgrades or not plain)


def needs_twin(endpoint: ir.Endpoint) -> bool:
    """Tell whether WebSocket needs a cluster of its own.

    Over HTTP/2 Envoy sends extended CONNECT, which APIs reject. Requests in absolute form are for
    the forward proxy, which does not support WebSocket.
    """
    auto = endpoint.protocol is ir.Protocol.AUTO and endpoint.tls is not None
    absolute = endpoint.proxy is not None and not tunnels(endpoint)
    return auto or absolute or endpoint.protocol is ir.Protocol.HTTP2


def proxy_cluster_name(proxy: ir.ForwardProxy, connect_timeout: int) -> str:
    """Return the name of the cluster of a proxy that tunnels go through."""
    digest = hashlib.blake2b(repr((proxy, connect_timeout)).encode(), digest_size=16).hexdigest()
    return f"proxy/{authority(proxy.host, proxy.port)}/{digest}"


def render_cluster(endpoint: ir.Endpoint, *, upgrades: bool = False) -> bytes:
    """Return the serialized cluster of an endpoint."""
    protocol = ir.Protocol.HTTP1 if upgrades else endpoint.protocol
    name = cluster_name(endpoint, upgrades=upgrades)
    message = _cluster(
        name, endpoint.connect_timeout, _http_options(endpoint, protocol, upgrades=upgrades)
    )
    socket = _upstream_socket(endpoint, endpoint.tls) if endpoint.tls else None
    proxy = endpoint.proxy
    if proxy is None:
        _locate(message, endpoint.host, endpoint.port)
    elif tunnels(endpoint, upgrades=upgrades):
        through = proxy_cluster_name(proxy, endpoint.connect_timeout)
        message.type = cluster.Cluster.STATIC
        _assign(message, tunnel_endpoint(endpoint, through))
        socket = through_tunnel(socket)
    else:
        _locate(message, proxy.host, proxy.port)
        socket = _proxy_socket(proxy)
    if socket is not None:
        message.transport_socket.CopyFrom(socket)
    return serialized(message)


def render_proxy_cluster(proxy: ir.ForwardProxy, connect_timeout: int) -> bytes:
    """Return the serialized cluster of a proxy that gets only CONNECT requests."""
    options = http.HttpProtocolOptions(
        explicit_http_config={"http_protocol_options": {}},
        http_filters=upstream_filters([_login(proxy)] if proxy.login else []),
    )
    message = _cluster(proxy_cluster_name(proxy, connect_timeout), connect_timeout, options)
    _locate(message, proxy.host, proxy.port)
    socket = _proxy_socket(proxy)
    if socket is not None:
        message.transport_socket.CopyFrom(socket)
    return serialized(message)


def _cluster(name: str, connect_timeout: int, options: http.HttpProtocolOptions) -> cluster.Cluster:
    message = cluster.Cluster(
        name=name,
        # In Prometheus' format, Envoy uses only what precedes the first dot as the cluster's name,
        # and the rest as part of the metric's name.
        alt_stat_name=name.replace(".", "_"),
        connect_timeout=duration(connect_timeout),
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any_of(options)
        },
    )
    message.MergeFrom(_COMMON)
    return message


_COMMON = cluster.Cluster(
    per_connection_buffer_limit_bytes={"value": _BUFFER},
    circuit_breakers={
        "thresholds": [
            {
                "max_connections": {"value": NO_LIMIT},
                "max_pending_requests": {"value": NO_LIMIT},
                "max_requests": {"value": NO_LIMIT},
                "retry_budget": {
                    "budget_percent": {"value": 20.0},
                    "min_retry_concurrency": {"value": 10},
                },
            }
        ]
    },
    upstream_connection_options={"tcp_keepalive": TCP_KEEPALIVE},
)


def _locate(message: cluster.Cluster, host: str, port: int) -> None:
    address = {"socket_address": {"address": host, "port_value": port}}
    _assign(message, endpoint_pb.LbEndpoint(endpoint={"address": address}))
    if is_ip(host):
        message.type = cluster.Cluster.STATIC
    else:
        message.cluster_type.CopyFrom(_DNS)


def _assign(message: cluster.Cluster, endpoint: endpoint_pb.LbEndpoint) -> None:
    message.load_assignment.cluster_name = message.name
    message.load_assignment.endpoints.add(lb_endpoints=[endpoint])


_DNS = by_dns(respect_dns_ttl=True, all_addresses_in_single_endpoint=True)


def _http_options(
    endpoint: ir.Endpoint, protocol: ir.Protocol, *, upgrades: bool
) -> http.HttpProtocolOptions:
    absolute = endpoint.proxy is not None and not tunnels(endpoint, upgrades=upgrades)
    options = http.HttpProtocolOptions(
        # A peer that closes idle connections at 60 s would race the next request at our default.
        common_http_protocol_options={
            "idle_timeout": duration(30_000),
            "max_headers_count": {"value": 1000},
            "max_response_headers_kb": {"value": 256},
        },
        http_filters=upstream_filters(
            _injected(endpoint, absolute=absolute),
            upgrades=upgrades or not needs_twin(endpoint),
        ),
    )
    if protocol is ir.Protocol.AUTO and endpoint.tls:
        choice = options.auto_config
        choice.http_protocol_options.CopyFrom(_HTTP1)
        choice.http2_protocol_options.CopyFrom(_HTTP2)
    elif protocol is ir.Protocol.HTTP2:
        options.explicit_http_config.http2_protocol_options.CopyFrom(_HTTP2)
    else:
        http1 = options.explicit_http_config.http_protocol_options
        http1.CopyFrom(_HTTP1)
        http1.send_fully_qualified_url = absolute
    return options


# enable_trailers: HTTP/1 trailers are dropped otherwise.
_HTTP1 = protocol_pb.Http1ProtocolOptions(enable_trailers=True, header_key_format=AS_SENT)
_HTTP2 = protocol_pb.Http2ProtocolOptions(
    initial_stream_window_size={"value": 1 << 20},
    initial_connection_window_size={"value": 8 << 20},
)


def _injected(endpoint: ir.Endpoint, *, absolute: bool) -> list[generic.Generic]:
    found = []
    for credential in endpoint.injected:
        secret = credential_secret(endpoint, credential)
        found.append(_from_secret(secret, credential.header, credential.prefix))
    if absolute and endpoint.proxy and endpoint.proxy.login:
        found.append(_login(endpoint.proxy))
    return found


def _login(proxy: ir.ForwardProxy) -> generic.Generic:
    return _from_secret(login_secret(proxy), "proxy-authorization", "Basic ")


def _from_secret(name: str, header: str, prefix: str) -> generic.Generic:
    return injected_credential({"name": name, "sds_config": ads()}, header, prefix)


def _proxy_socket(proxy: ir.ForwardProxy) -> core.TransportSocket | None:
    return _tls_socket(ir.Tls(proxy.host.removesuffix("."), "TLSv1.2")) if proxy.secure else None


def _upstream_socket(endpoint: ir.Endpoint, tls: ir.Tls) -> core.TransportSocket:
    return _tls_socket(tls, certificate_secret(endpoint, tls.client) if tls.client else "")


def _tls_socket(tls: ir.Tls, certificate: str = "") -> core.TransportSocket:
    authority = {"name": authority_secret(tls.ca), "sds_config": ads()}
    own = [{"name": certificate, "sds_config": ads()}] if certificate else []
    return core.TransportSocket(
        **upstream_tls(tls.server_name, authority, minimum=_TLS_VERSIONS[tls.minimum], own=own)
    )
