"""Makes known to `envoy_data_plane` all that may be packed in a route or a cluster.

What is served is rendered by protobuf's own classes; to show it, `envoy_data_plane` unpacks each
`Any`, which it can for the modules that were imported.
"""

from envoy_data_plane.envoy.extensions.clusters.dns import v3 as dns
from envoy_data_plane.envoy.extensions.filters.http.api_key_auth import v3 as api_key_auth
from envoy_data_plane.envoy.extensions.filters.http.credential_injector import v3 as injector
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec import v3 as upstream_codec
from envoy_data_plane.envoy.extensions.http.header_formatters.preserve_case import (
    v3 as preserve_case,
)
from envoy_data_plane.envoy.extensions.http.injected_credentials.generic import v3 as generic
from envoy_data_plane.envoy.extensions.network.dns_resolver.cares import v3 as cares
from envoy_data_plane.envoy.extensions.transport_sockets.internal_upstream import (
    v3 as internal_upstream,
)
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer import v3 as raw_buffer
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as http

__all__ = ["KNOWN"]

KNOWN = (
    api_key_auth,
    cares,
    dns,
    ext_proc,
    generic,
    header_mutation,
    http,
    injector,
    internal_upstream,
    preserve_case,
    raw_buffer,
    tls,
    upstream_codec,
)
"""The modules."""
