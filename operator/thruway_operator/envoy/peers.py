"""How Envoy finds a peer, verifies it, and notices that it is dead."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from envoy.config.cluster.v3 import cluster_pb2 as cluster
from envoy.config.core.v3 import address_pb2 as address
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2 as dns
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2 as cares
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls

from thruway_operator.envoy.wire import extension

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["TCP_KEEPALIVE", "by_dns", "is_ip", "upstream_tls"]

# By default a name server that does not respond delays a new cluster for a minute.
_RESOLVER = cares.CaresDnsResolverConfig(
    query_timeout_seconds={"value": 1}, query_tries={"value": 3}
)

TCP_KEEPALIVE = address.TcpKeepalive(
    keepalive_time={"value": 60}, keepalive_interval={"value": 15}, keepalive_probes={"value": 3}
)
"""Detects a dead peer, or a NAT that forgot the connection, within two minutes.

The kernel of a busy peer acknowledges the probes. HTTP/2 PINGs and
TCP_USER_TIMEOUT must not be used: both cut a living peer that does not read for a while.
"""


def is_ip(host: str) -> bool:
    """Tell whether the host is an IP address (without brackets)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def by_dns(**how: Any) -> cluster.Cluster.CustomClusterType:  # noqa: ANN401 - fields of a message
    """Return the type of a cluster of names; `how` are fields of `DnsCluster`."""
    resolver = extension("envoy.network.dns_resolver.cares", _RESOLVER)
    config = dns.DnsCluster(dns_lookup_family="ALL", typed_dns_resolver_config=resolver, **how)
    return cluster.Cluster.CustomClusterType(**extension("envoy.cluster.dns", config))


def upstream_tls(
    server_name: str,
    authority: Mapping[str, object],
    *,
    minimum: str,
    own: Sequence[Mapping[str, object]] = (),
) -> dict[str, object]:
    """Return the transport socket to a peer whose certificate is for `server_name`.

    `authority` is the SdsSecretConfig of the CAs that may have signed it, `minimum` the oldest
    version of TLS, as Envoy names it, and `own` that of the client certificate, if any.
    """
    numeric = is_ip(server_name)
    name = {"san_type": "IP_ADDRESS" if numeric else "DNS", "matcher": {"exact": server_name}}
    context = tls.UpstreamTlsContext(
        sni="" if numeric else server_name,
        common_tls_context={
            "tls_params": {
                "tls_minimum_protocol_version": minimum,
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "tls_certificate_sds_secret_configs": list(own),
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [name]},
                "validation_context_sds_secret_config": authority,
            },
        },
    )
    return extension("envoy.transport_sockets.tls", context)
