"""Serves Envoy's configuration: delta ADS for clusters, secrets and routes, quarantine for NACKs.

It knows resources as names, versions and bytes: not the IR, not Kubernetes, not what a route means.
`resources`, `subscription`, `stream`, `bisection` and `publisher` are pure (no I/O, no clock);
`server` is the thin grpc shell around them; `admission` says who may have a stream of it.
"""

from thruway_operator.xds.admission import Authenticate
from thruway_operator.xds.identity import Identity, Unavailable
from thruway_operator.xds.publisher import FragmentStatus, GroupStatus
from thruway_operator.xds.resources import (
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
