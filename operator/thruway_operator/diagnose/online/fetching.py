"""Sends GET requests; each returns a value, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from thruway_operator.diagnose.findings.facts import ABSENT, Answer
from thruway_operator.kube import ApiError, KubeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from thruway_operator.kube import KubeClient

__all__ = ["Fetcher"]

_WITHIN: Final = 5.0
"""Seconds for a pod's response; the network may drop packets to the pod."""
_GROUPS: Final = {
    "daemonsets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "replicasets": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
}


class Fetcher:
    """Sends requests, and names the permission that each one needs."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def get(self, right: str, path: str, **params: str) -> Answer:
        """Return the object at a path; `right` names the permission: "get pods in …"."""
        try:
            return Answer(await self._client.get(path, params=params))
        except KubeError as error:
            return _lack(error, right)

    async def everywhere(self, plural: str, path: str, **params: str) -> Answer:
        """Return the objects of the whole cluster."""
        return await self.get(f"list {plural} in the whole cluster", path, **params)

    async def here(self, verb: str, plural: str, name: str = "", **params: str) -> Answer:
        """Return an object of the namespace, or a list."""
        right = f"{verb} {plural} in namespace {self._namespace}"
        return await self.get(right, self._path(self._namespace, plural, name), **params)

    async def one(self, plural: str, namespace: str, name: str) -> Answer:
        """Return an object of another namespace."""
        right = f"get {plural} in namespace {namespace}"
        return await self.get(right, self._path(namespace, plural, name))

    async def slices(self, namespace: str, service: str) -> Answer:
        """Return the EndpointSlices of a Service."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        selector = f"kubernetes.io/service-name={service}"
        right = f"list endpointslices in namespace {namespace}"
        return await self.get(right, path, labelSelector=selector)

    async def pod(
        self, at: str, where: str, what: str, read: Callable[[int, str], Answer]
    ) -> Answer:
        """Return a pod's response, through the API server; `at`: namespace, `where`: POD:PORT."""
        path = f"/api/v1/namespaces/{at}/pods/{where}/proxy/{what}"
        right = f"get pods/proxy in namespace {at}"
        try:
            return read(*await self._client.text(path, within=_WITHIN))
        except KubeError as error:
            found = _lack(error, right)
            if found.lack == "forbidden":
                return found
            why = f"the API server cannot reach its health port ({error})"
            return Answer(lack="failed", why=why)

    async def log(
        self, at: str, pod: str, container: str, read: Callable[[str], Any], **params: str
    ) -> Answer:
        """Return what `read` makes of a container's log; `at` is the pod's namespace."""
        path = f"/api/v1/namespaces/{at}/pods/{pod}/log"
        query = urlencode({"container": container, **params})
        try:
            _, text = await self._client.text(f"{path}?{query}", within=_WITHIN)
            return Answer(read(text))
        except KubeError as error:
            found = _lack(error, f"get pods/log in namespace {at}")
            if found.lack == "forbidden":
                return found
            return Answer(lack="failed", why=f"the log of container {container} is unavailable")

    def _path(self, namespace: str, plural: str, name: str) -> str:
        root = _GROUPS.get(plural, "/api/v1")
        return f"{root}/namespaces/{namespace}/{plural}/{name}".removesuffix("/")


def _lack(error: KubeError, right: str) -> Answer:
    if isinstance(error, ApiError):
        if error.status == 404:
            return ABSENT
        if error.status == 403:
            return Answer(lack="forbidden", why=right)
        if error.status == 401:
            return Answer(lack="failed", why="the API server does not accept the login (401)")
    return Answer(lack="failed", why=str(error))
