"""How a proxy in a cluster reaches the operator: TLS there, a ServiceAccount token here.

Token and CA come from files that kubelet replaces under way: see `secretfiles`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.clusters.common.dns import v3 as dns_common
from envoy_data_plane.envoy.extensions.clusters.dns import v3 as dns
from envoy_data_plane.envoy.extensions.filters.http.credential_injector import v3 as injector
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec import v3 as codec
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.injected_credentials.generic import v3 as generic
from envoy_data_plane.envoy.extensions.network.dns_resolver.cares import v3 as cares
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls_pb
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as http
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from thruway_operator.envoy.secretfiles import from_file, secret_file, watch
from thruway_operator.envoy.wire import duration, packed

__all__ = ["XdsService", "render_service_cluster", "secret_files"]

_TOKEN_SDS: Final = "xds-token"  # noqa: S105 - a name
_AUTHORITY_SDS: Final = "xds-ca"


@dataclass(frozen=True, slots=True)
class XdsService:
    """The operator's xDS port. All paths are absolute, and those of Envoy's own file system."""

    addresses: tuple[tuple[str, int], ...]
    """(DNS name or IP address, port): one, or one for each replica."""
    server_name: str
    """What the certificate has to be for: a DNS name or an IP address."""
    token_file: str
    """A projected ServiceAccount token, which kubelet replaces before it expires."""
    ca_file: str
    """PEM: who may have signed the certificate. It may be missing at first."""
    folder: str
    """Where `secret_files` lie."""


def secret_files(service: XdsService) -> dict[str, str]:
    """Return the text of the files in `service.folder`, by name. They hold paths, no secrets."""
    token = {"filename": service.token_file, **watch(service.token_file)}
    authority = {"trusted_ca": {"filename": service.ca_file}, **watch(service.ca_file)}
    return {
        **secret_file(_TOKEN_SDS, {"generic_secret": {"secret": token}}),
        **secret_file(_AUTHORITY_SDS, {"validation_context": authority}),
    }


def render_service_cluster(name: str, service: XdsService) -> cluster.Cluster:
    """Return the cluster: a stream that breaks goes to the next replica."""
    message = cluster.Cluster(
        name=name,
        connect_timeout=duration(2_000),
        load_assignment=endpoint.ClusterLoadAssignment(
            cluster_name=name,
            endpoints=[
                endpoint.LocalityLbEndpoints(
                    lb_endpoints=[_endpoint(host, port) for host, port in service.addresses]
                )
            ],
        ),
        # A replica that is not there, or does not answer, is left alone for a while.
        outlier_detection=cluster.OutlierDetection(
            split_external_local_origin_errors=True,
            consecutive_local_origin_failure=1,
            base_ejection_time=duration(5_000),
            max_ejection_time=duration(15_000),
        ),
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(_options(service))
        },
        transport_socket=core.TransportSocket(
            name="envoy.transport_sockets.tls", typed_config=packed(_tls(service))
        ),
    )
    if all(_is_ip(host) for host, _ in service.addresses):
        message.type = cluster.ClusterDiscoveryType.STATIC
    else:
        message.cluster_type = _dns()
    return message


def _endpoint(host: str, port: int) -> endpoint.LbEndpoint:
    address = core.Address(socket_address=core.SocketAddress(address=host, port_value=port))
    return endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=address))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _dns() -> cluster.ClusterCustomClusterType:
    resolver = cares.CaresDnsResolverConfig(query_timeout_seconds=1, query_tries=3)
    return cluster.ClusterCustomClusterType(
        name="envoy.cluster.dns",
        typed_config=packed(
            dns.DnsCluster(
                dns_lookup_family=dns_common.DnsLookupFamily.ALL,
                dns_refresh_rate=duration(10_000),
                dns_jitter=duration(2_000),
                dns_failure_refresh_rate=dns.DnsClusterRefreshRate(
                    base_interval=duration(1_000), max_interval=duration(5_000)
                ),
                typed_dns_resolver_config=core.TypedExtensionConfig(
                    name="envoy.network.dns_resolver.cares", typed_config=packed(resolver)
                ),
            )
        ),
    )


def _options(service: XdsService) -> http.HttpProtocolOptions:
    token = generic.Generic(
        credential=from_file(service.folder, _TOKEN_SDS),
        header="authorization",
        header_value_prefix="Bearer ",
    )
    inject = injector.CredentialInjector(
        overwrite=True,
        allow_request_without_credential=False,
        credential=core.TypedExtensionConfig(
            name="envoy.http.injected_credentials.generic", typed_config=packed(token)
        ),
    )
    return http.HttpProtocolOptions(
        explicit_http_config=http.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=core.Http2ProtocolOptions(
                # A replica whose node is gone says nothing: without pings that lasts for minutes.
                connection_keepalive=core.KeepaliveSettings(
                    interval=duration(5_000), timeout=duration(3_000)
                )
            )
        ),
        http_filters=[
            hcm.HttpFilter(
                name="envoy.filters.http.credential_injector", typed_config=packed(inject)
            ),
            hcm.HttpFilter(
                name="envoy.filters.http.upstream_codec", typed_config=packed(codec.UpstreamCodec())
            ),
        ],
    )


def _tls(service: XdsService) -> tls_pb.UpstreamTlsContext:
    is_ip = _is_ip(service.server_name)
    kinds = tls_pb.SubjectAltNameMatcherSanType
    name = tls_pb.SubjectAltNameMatcher(
        san_type=kinds.IP_ADDRESS if is_ip else kinds.DNS,
        matcher=matcher.StringMatcher(exact=service.server_name),
    )
    return tls_pb.UpstreamTlsContext(
        sni="" if is_ip else service.server_name,
        common_tls_context=tls_pb.CommonTlsContext(
            tls_params=tls_pb.TlsParameters(
                tls_minimum_protocol_version=tls_pb.TlsParametersTlsProtocol.TLSv1_3,
                tls_maximum_protocol_version=tls_pb.TlsParametersTlsProtocol.TLSv1_3,
            ),
            combined_validation_context=tls_pb.CommonTlsContextCombinedCertificateValidationContext(
                default_validation_context=tls_pb.CertificateValidationContext(
                    match_typed_subject_alt_names=[name]
                ),
                validation_context_sds_secret_config=from_file(
                    service.folder, _AUTHORITY_SDS, awaited=service.ca_file
                ),
            ),
        ),
    )
