"""Names that the static listener and the dynamic routes share."""

__all__ = [
    "CLIENT_AUTH_FILTER",
    "EXT_PROC_CLUSTER",
    "EXT_PROC_FILTER",
    "GUARD_FILTER",
    "HANDSHAKE_FILTER",
    "KEY_FILTER",
    "METADATA",
    "ORIGIN_FILTER",
    "ROUTE_CONFIG",
    "SYSTEM_CA",
    "TUNNEL_GATE",
    "TUNNEL_LISTENER",
    "TUNNEL_METADATA",
    "XDS_CLUSTER",
]

EXT_PROC_CLUSTER = "thruway-extproc"
XDS_CLUSTER = "thruway-xds"
EXT_PROC_FILTER = "thruway.ext_proc"
GUARD_FILTER = "thruway.guard"
ORIGIN_FILTER = "thruway.origin"
KEY_FILTER = "thruway.key"
HANDSHAKE_FILTER = "thruway.handshake"
CLIENT_AUTH_FILTER = "thruway.client_auth"
ROUTE_CONFIG = "thruway"
METADATA = "thruway"
"""Namespace of our metadata: the guard's, the access log's, a refusing route's `code`, and the
`format` of a route's errors."""
SYSTEM_CA = "ca/system"
"""The SDS name of the CA bundle for upstreams that name none."""
TUNNEL_LISTENER = "thruway-tunnel"
TUNNEL_GATE = "thruway-tunnel-gate"
TUNNEL_METADATA = "thruway.tunnel"
"""Namespace of the metadata with a tunnel's destination."""
