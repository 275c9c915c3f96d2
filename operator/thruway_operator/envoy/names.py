"""Names that the static listener and the dynamic routes have to agree on."""

__all__ = [
    "EXT_PROC_CLUSTER",
    "EXT_PROC_FILTER",
    "GUARD_FILTER",
    "METADATA",
    "ROUTE_CONFIG",
    "SYSTEM_CA",
    "XDS_CLUSTER",
]

EXT_PROC_CLUSTER = "thruway-extproc"
XDS_CLUSTER = "thruway-xds"
EXT_PROC_FILTER = "thruway.ext_proc"
GUARD_FILTER = "thruway.guard"
ROUTE_CONFIG = "thruway"
METADATA = "thruway"
"""Namespace of our metadata: the guard's, the access log's, and a refusing route's `code`."""
SYSTEM_CA = "ca/system"
"""The SDS name of the CA bundle for upstreams that name none."""
