"""How a proxy in a cluster reaches the operator: by TLS, with a ServiceAccount token.

Token and CA come from files that kubelet replaces at run time: see `secretfiles`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envoy.config.cluster.v3 import cluster_pb2 as cluster
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http

from thruway_operator.envoy.injection import injected_credential, upstream_filters
from thruway_operator.envoy.peers import by_dns, is_ip, upstream_tls
from thruway_operator.envoy.secretfiles import from_file, secret_file, watch
from thruway_operator.envoy.wire import any_of, duration

__all__ = ["XdsService", "render_service_cluster", "secret_files"]

_TOKEN_SDS: Final = "xds-token"  # noqa: S105 - a name
_AUTHORITY_SDS: Final = "xds-ca"


@dataclass(frozen=True, slots=True)
class XdsService:
    """The operator's xDS port. All paths are absolute, and those of Envoy's own file system."""

    addresses: tuple[tuple[str, int], ...]
    """(DNS name or IP address, port): one, or one for each replica."""
    server_name: str
    """The DNS name or IP address that the certificate must be for."""
    token_file: str
    """A projected ServiceAccount token, which kubelet replaces before it expires."""
    ca_file: str
    """The CAs that may have signed the certificate (PEM). The file may be missing at first."""
    folder: str
    """The folder of the `secret_files`."""


def secret_files(service: XdsService) -> dict[str, str]:
    """Return the text of the files in `service.folder`, by name. They contain paths, no secrets."""
    token = {"filename": service.token_file, **watch(service.token_file)}
    authority = {"trusted_ca": {"filename": service.ca_file}, **watch(service.ca_file)}
    return {
        **secret_file(_TOKEN_SDS, {"generic_secret": {"secret": token}}),
        **secret_file(_AUTHORITY_SDS, {"validation_context": authority}),
    }


def render_service_cluster(name: str, service: XdsService) -> cluster.Cluster:
    """Return the cluster; a stream that breaks is opened again on the next replica."""
    message = cluster.Cluster(
        name=name,
        connect_timeout=duration(2_000),
        load_assignment={
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [_endpoint(host, port) for host, port in service.addresses]}
            ],
        },
        # A replica that is missing or does not respond is not used for a while.
        outlier_detection={
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": {"value": 1},
            "base_ejection_time": duration(5_000),
            "max_ejection_time": duration(15_000),
        },
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any_of(_options(service))
        },
        transport_socket=_tls(service),
    )
    if all(is_ip(host) for host, _ in service.addresses):
        message.type = cluster.Cluster.STATIC
    else:
        message.cluster_type.CopyFrom(_DNS)
    return message


def _endpoint(host: str, port: int) -> dict[str, object]:
    address = {"socket_address": {"address": host, "port_value": port}}
    return {"endpoint": {"address": address}}


_DNS = by_dns(
    dns_refresh_rate=duration(10_000),
    dns_jitter=duration(2_000),
    dns_failure_refresh_rate={"base_interval": duration(1_000), "max_interval": duration(5_000)},
)


def _options(service: XdsService) -> http.HttpProtocolOptions:
    secret = from_file(service.folder, _TOKEN_SDS)
    return http.HttpProtocolOptions(
        explicit_http_config={
            "http2_protocol_options": {
                # Without PINGs, the end of a replica's node goes unnoticed for minutes.
                "connection_keepalive": {"interval": duration(5_000), "timeout": duration(3_000)}
            }
        },
        http_filters=upstream_filters([injected_credential(secret, "authorization", "Bearer ")]),
    )


def _tls(service: XdsService) -> dict[str, object]:
    authority = from_file(service.folder, _AUTHORITY_SDS, awaited=service.ca_file)
    return upstream_tls(service.server_name, authority, minimum="TLSv1_3")
