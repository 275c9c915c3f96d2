"""Serves Envoy's configuration by delta ADS: clusters, secrets and routes; quarantines NACKs.

It knows resources as names, versions and bytes, not what a route means. `protocol` decides what to
send; `server` is the thin grpc shell around it; `admission` decides which peers may have a stream.
Contracts: "layers of the operator", "xds knows names, versions and bytes".
"""

from thruway_operator.resources.identity import Identity, Unavailable
from thruway_operator.xds.admission import Authenticate
from thruway_operator.xds.protocol.publisher import FragmentStatus, GroupStatus
from thruway_operator.xds.protocol.resources import (
    CLUSTER,
    ROUTE,
    SECRET,
    Assemble,
    Fragment,
    Resource,
    Snapshot,
    snapshot_of,
)
from thruway_operator.xds.server import Node, XdsError, XdsServer

__all__ = [
    "CLUSTER",
    "ROUTE",
    "SECRET",
    "Assemble",
    "Authenticate",
    "Fragment",
    "FragmentStatus",
    "GroupStatus",
    "Identity",
    "Node",
    "Resource",
    "Snapshot",
    "Unavailable",
    "XdsError",
    "XdsServer",
    "snapshot_of",
]
