"""Checks the shared gateway, for pods whose base URL leads to it, and namespaces that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from thruway_operator.diagnose.findings.baseurls import base_urls, host_of, is_below
from thruway_operator.diagnose.findings.conventions import (
    INJECT,
    asks,
    ended,
    examined,
    has_sidecar,
    labels_of,
    name_of,
    namespace_of,
)
from thruway_operator.diagnose.findings.services import UPGRADE, has_endpoint
from thruway_operator.diagnose.findings.states import first_trouble, is_ready
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step
    from thruway_operator.sidecar.decide.providers import Provider

__all__ = [
    "GATEWAY",
    "calls_gateway",
    "check_gateway",
    "gateway_hosts",
    "is_shared",
    "leads_to_gateway",
    "remedy_at_gateway",
    "serving_gateways",
    "uses_gateway",
    "uses_sidecars",
    "wrong_at_gateway",
]

_NAME: Final = "gateway"
GATEWAY: Final = "app.kubernetes.io/name=thruway,app.kubernetes.io/component=gateway"
_INSTALL: Final = "upgrade the chart with gateway.enabled=true"


def is_shared(route: Object) -> bool:
    """Return whether the gateway serves the route."""
    return bool(route["spec"].get("exposure") == "Cluster")


def gateway_hosts(facts: Facts) -> frozenset[str]:
    """Return the names and addresses of the gateway, also those in the statuses of its routes."""
    found: set[str] = set()
    for item in facts.gateway_services.items:
        name, namespace = name_of(item), namespace_of(item)
        short = f"{name}.{namespace}"
        found |= {short, f"{short}.svc", f"{short}.svc.cluster.local"}
        found |= {name} if namespace == facts.namespace else set()
        found |= {str(ip) for ip in (item.get("spec") or {}).get("clusterIPs") or ()}
    shared = [route for route in facts.routes.items if is_shared(route)]
    urls = [str((route.get("status") or {}).get("url") or "") for route in shared]
    return frozenset(found | {host for url in urls if (host := _host(url))})


def calls_gateway(facts: Facts, pod: Object) -> bool:
    """Return whether a pod without a sidecar has a base URL that leads to the gateway."""
    if has_sidecar(pod):
        return False
    return any(leads_to_gateway(facts, url) for url in base_urls(pod) or ())


def leads_to_gateway(facts: Facts, url: str) -> bool:
    """Return whether a base URL leads to the gateway."""
    return _host(url) in gateway_hosts(facts)


def wrong_at_gateway(facts: Facts, _: Object, value: str) -> str:
    """Return the fault of a base URL that leads to the gateway, or ""."""
    url = urlsplit(value)
    found = next((route for route in facts.routes.items if is_below(url, _path(route))), None)
    if found is None:
        return f"points to the path {url.path or '/'}, which no route of this namespace has"
    if not is_shared(found):
        return f"points to route {name_of(found)}, which the gateway does not serve"
    right = _served(found)
    if right is None or right.hostname != url.hostname:
        return ""
    if right.scheme != url.scheme:
        return f"begins with {url.scheme}://, but the gateway uses {right.scheme}://"
    if _port(right) != _port(url):
        return f"points to port {_port(url)}, but the gateway listens on {_port(right)}"
    return ""


def _port(url: SplitResult) -> int | None:
    try:
        return url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        return None


def _served(route: Object) -> SplitResult | None:
    """Return the URL at which the operator says that the route is reached."""
    url = str((route.get("status") or {}).get("url") or "")
    return urlsplit(url) if url and _host(url) else None


def remedy_at_gateway(facts: Facts, _: Object, value: str, provider: Provider) -> str:
    """Return what to write instead of a base URL that leads to the gateway."""
    shared = [route for route in facts.routes.items if is_shared(route)]
    urls = [url.geturl() for route in shared if (url := _served(route))]
    name = provider.base_urls[0]
    if not urls:
        return f"give a route exposure: Cluster, and set {name} to the URL in its status"
    version = "/v1" if provider.versioned else ""
    return f"set {name} in the pod's template to {urls[0]}{version}"


def _path(route: Object) -> str:
    return str(route["spec"]["path"])


def _host(url: str) -> str:
    return host_of(url).rstrip(".")


def uses_gateway(facts: Facts) -> bool:
    """Return whether the pod to check, or the namespace, uses the gateway."""
    if facts.pod:
        return any(calls_gateway(facts, pod) for pod in facts.pods.items)
    return any(map(is_shared, facts.routes.items)) or any(
        calls_gateway(facts, pod) for pod in examined(facts)
    )


def uses_sidecars(facts: Facts) -> bool:
    """Return whether the pod to check, or the namespace, has or should have a sidecar."""
    if facts.pod:
        return not uses_gateway(facts)
    labelled = INJECT in labels_of(facts.namespace_object.value or {"metadata": {}})
    asking = any(has_sidecar(pod) or asks(pod) for pod in examined(facts))
    return labelled or asking or not uses_gateway(facts)


def serving_gateways(facts: Facts) -> list[Object]:
    """Return the gateway's pods that have not ended."""
    return [pod for pod in facts.gateways.items if not ended(pod)]


def check_gateway(facts: Facts) -> Iterator[Step]:
    """Yield whether the gateway runs, and its Service leads to it."""
    if not facts.gateways.there:
        yield unchecked(_NAME, facts.gateways.reason)
        return
    yield _service(facts) or _pods(facts)


def _service(facts: Facts) -> Step | None:
    if not facts.gateway_services.there:
        return None
    if not facts.gateway_services.items:
        if serving_gateways(facts):
            return failed(_NAME, "the Service of the gateway does not exist", UPGRADE)
        return failed(_NAME, "there is no gateway in this cluster", _INSTALL)
    return None


def _pods(facts: Facts) -> Step:
    pods = serving_gateways(facts)
    if not pods:
        where = [namespace_of(item) for item in facts.gateway_services.items]
        if not where:
            return failed(_NAME, "no pod of a gateway exists in this cluster", _INSTALL)
        remedy = (
            f"see why its Deployment has none: kubectl -n {where[0]} describe deployments,"
            "replicasets -l app.kubernetes.io/component=gateway"
        )
        return failed(_NAME, f"the gateway in namespace {where[0]} has no pod", remedy)
    ready = sum(map(is_ready, pods))
    pod = next((pod for pod in pods if not is_ready(pod)), pods[0])
    if not ready:
        where_ = f"no pod of the gateway in namespace {namespace_of(pod)} is ready"
        trouble = first_trouble(pod)
        if trouble:
            return failed(_NAME, f"{where_}; {name_of(pod)}: {trouble[0]}", trouble[1])
        remedy = f"kubectl -n {namespace_of(pod)} describe pod {name_of(pod)}"
        return failed(_NAME, where_, remedy)
    return _behind(facts) or good(
        _NAME, f"{ready} of {len(pods)} pods are ready in namespace {namespace_of(pod)}"
    )


def _behind(facts: Facts) -> Step | None:
    for item in facts.gateway_services.items:
        slices = facts.slices.get((namespace_of(item), name_of(item)))
        if slices is not None and slices.there and not has_endpoint(slices):
            message = (
                f"Service {name_of(item)} in namespace {namespace_of(item)} has no ready endpoint"
            )
            return failed(_NAME, message, f"compare its selector with the pods' labels; {UPGRADE}")
    return None
