"""`thruway status`: every route of a cluster and its state, as the API server reports it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thruway_operator.diagnose.findings.finding import conceal
from thruway_operator.diagnose.online.running import Running, read_running
from thruway_operator.kube import ApiError, KubeClient, KubeError
from thruway_operator.sources.kubernetes.hints import GROUP, PLURAL, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thruway_operator.kube import Access

__all__ = ["RouteState", "States", "StatesError", "read_states", "table"]

_TITLES = ("NAMESPACE", "NAME", "PATH", "UPSTREAM", "READY", "REASON", "PROXIES")


class StatesError(Exception):
    """The cluster cannot be queried; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class RouteState:
    """One route."""

    namespace: str
    name: str
    path: str
    upstream: str
    url: str
    generation: int
    observed: int
    conditions: Mapping[str, Mapping[str, Any]]
    connected: int
    programmed: int

    @property
    def good(self) -> bool:
        """Whether the latest version is ready."""
        return self._ready["status"] == "True"

    @property
    def remark(self) -> str:
        """Why it is not ready, or that no proxy serves it yet; otherwise ""."""
        ready = self._ready
        return "" if ready["reason"] == "Ready" else f"{ready['reason']}: {ready['message']}"

    @property
    def _ready(self) -> Mapping[str, str]:
        message = ""
        if not self.conditions:
            message = "no operator has processed it yet: check that one is running"
        elif self.observed != self.generation:
            message = "the operator has not processed its latest generation yet"
        waiting = {"status": "Unknown", "reason": "Waiting", "message": message}
        return waiting if message else {**waiting, **self.conditions.get("Ready", {})}

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        return (
            self.namespace,
            self.name,
            self.path,
            self.upstream or "-",
            self._ready["status"],
            self._ready["reason"],
            f"{self.programmed}/{self.connected}",
        )

    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "path": self.path,
            "upstream": self.upstream or None,
            "url": self.url or None,
            "good": self.good,
            "problem": None if self.good else conceal(self.remark),
            "conditions": {
                kind: {"status": found.get("status"), "reason": found.get("reason")}
                for kind, found in self.conditions.items()
            },
            "proxies": {"connected": self.connected, "programmed": self.programmed},
        }


@dataclass(frozen=True, slots=True)
class States:
    """All requested routes, by namespace and name, and whether an operator runs."""

    routes: Sequence[RouteState]
    operator: Running

    @property
    def good(self) -> bool:
        """Whether every route is good, and the statuses are current."""
        return self.operator.value is not False and all(route.good for route in self.routes)

    @property
    def warning(self) -> str:
        """A sentence if no operator runs, so that statuses are outdated; otherwise ""."""
        if self.operator.value is not False:
            return ""
        last = ": this is its last report" if self.routes else ""
        return f"No operator is running ({self.operator.why}){last}."

    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        routes = [route.data() for route in self.routes]
        return {"version": 1, "operator": self.operator.data(), "routes": routes}


def read_states(access: Access, namespace: str | None) -> States:
    """Return the routes of a namespace, or of all.

    Raises:
        StatesError: the API server cannot be reached, lacks the CRD, or rejects the request.
    """
    return asyncio.run(_read(access, namespace))


async def _read(access: Access, namespace: str | None) -> States:
    scope = f"/namespaces/{namespace}" if namespace else ""
    path = f"/apis/{GROUP}/{VERSION}{scope}/{PLURAL}"
    async with KubeClient(access) as client:
        try:
            listed = await client.get(path)
            if namespace and not listed.get("items"):
                await _check_namespace(client, namespace)
            operator = await read_running(client)
        except ApiError as error:
            if error.status == 404:
                raise StatesError(
                    f"the cluster does not know {PLURAL}.{GROUP}: install Thruway there first"
                ) from error
            where = f"namespace {namespace}" if namespace else "all namespaces: name one with -n"
            if error.status == 403:
                raise StatesError(f"you may not list PassthroughRoutes in {where}") from error
            raise StatesError(str(error)) from error
        except KubeError as error:
            raise StatesError(f"{error}: check the kubeconfig and the network") from error
    found = [_state(item) for item in listed.get("items") or ()]
    return States(sorted(found, key=lambda state: (state.namespace, state.name)), operator)


async def _check_namespace(client: KubeClient, name: str) -> None:
    """Raise StatesError if the namespace does not exist; ignore a lack of permission."""
    try:
        await client.get(f"/api/v1/namespaces/{name}")
    except ApiError as error:
        if error.status == 404:
            raise StatesError(f"there is no namespace {name}: name one with -n") from error


def _state(item: Mapping[str, Any]) -> RouteState:
    metadata, status = item["metadata"], item.get("status") or {}
    proxies = status.get("proxies") or {}
    return RouteState(
        namespace=metadata["namespace"],
        name=metadata["name"],
        path=str((item.get("spec") or {}).get("path", "")),
        upstream=str(status.get("upstream", "")),
        url=str(status.get("url", "")),
        generation=int(metadata.get("generation", 0)),
        observed=int(status.get("observedGeneration", 0)),
        conditions={found["type"]: found for found in status.get("conditions") or ()},
        connected=int(proxies.get("connected", 0)),
        programmed=int(proxies.get("programmed", 0)),
    )


def table(states: Sequence[RouteState]) -> Iterable[str]:
    """Yield the lines of the table, then a sentence for each route that has a remark."""
    # None of this is free text: the API server has validated names, paths and URLs.
    rows = [_TITLES, *(state.row() for state in states)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
    remarks = [state for state in states if state.remark]
    if remarks:
        yield ""
    for state in remarks:
        yield conceal(f"{state.namespace}/{state.name}: {state.remark}")
