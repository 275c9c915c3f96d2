"""Access to the Kubernetes API server: credentials, requests, errors as sentences, list and watch.

It knows none of our kinds and makes no decisions. aiohttp does the work; kopf has its own
connections.
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
