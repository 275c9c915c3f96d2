"""The way to the Kubernetes API server: access, requests, errors as sentences, list and watch.

Knows no kind of ours and decides nothing. aiohttp does the work; kopf has its own connections.
Contract: "layers of the operator".
"""

from thruway_operator.kube.access import Access, AccessError, cluster_access, load_access
from thruway_operator.kube.client import ApiError, KubeClient, KubeError, Unreachable

__all__ = [
    "Access",
    "AccessError",
    "ApiError",
    "KubeClient",
    "KubeError",
    "Unreachable",
    "cluster_access",
    "load_access",
]
