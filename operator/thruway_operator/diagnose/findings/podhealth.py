"""Checks xDS by the responses of a proxy's own health port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.baseurls import routes_concerned
from thruway_operator.diagnose.findings.conventions import name_of
from thruway_operator.diagnose.findings.metrics import mangled, read_metrics
from thruway_operator.diagnose.findings.routes import condition
from thruway_operator.diagnose.findings.services import (
    UPGRADE,
    has_endpoint,
    operator_service,
    see_operators,
)
from thruway_operator.diagnose.findings.steps import failed, good, unchecked
from thruway_operator.envoy.names import XDS_CLUSTER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thruway_operator.diagnose.findings.facts import Facts
    from thruway_operator.diagnose.findings.metrics import Metrics
    from thruway_operator.diagnose.findings.proxies import Proxy
    from thruway_operator.diagnose.findings.states import Trouble
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_xds"]

_STARTING: Final = "Envoy returned 503"
"""The start of the health port's message while Envoy has no configuration."""


def check_xds(facts: Facts, proxy: Proxy) -> Iterator[Step]:
    """Yield whether a proxy's Envoy has the configuration that the operator serves."""
    if not proxy.runs:
        yield unchecked("xds", f"the containers of {proxy.subject} are not running")
        return
    yield (
        _no_service(facts, proxy)
        or _stream(proxy)
        or _health(proxy)
        or _status(facts, proxy)
        or _silent(facts, proxy)
        or good("xds", f"{proxy.subject}: Envoy is connected to the operator and has its routes")
    )


def _health(proxy: Proxy) -> Step | None:
    problems = proxy.inside.problems
    if not problems.there or not problems.value:
        return None
    problem = str(problems.value[0])
    log = proxy.log(proxy.envoy if problem.startswith("Envoy") else proxy.extproc)
    if problem.startswith(_STARTING):
        message = f"Envoy of {proxy.subject} has no configuration yet ({problem})"
        return failed("xds", message, f"see its log for the operator's responses: {log}")
    return failed("xds", f"{proxy.subject} is not ready: {problem}", f"see its log: {log}")


def _stream(proxy: Proxy) -> Step | None:
    if not proxy.inside.metrics.there:
        return None
    metrics = read_metrics(str(proxy.inside.metrics.value))
    if metrics.values.get("control_plane_connected_state") == 0:
        why, remedy = _why_apart(metrics, proxy)
        message = f"Envoy of {proxy.subject} is not connected to the operator: {why}"
        return failed("xds", message, remedy)
    refused = sum(
        metrics.values.get(key, 0)
        for key in ("cluster_manager_cds_update_rejected", "http_rds_update_rejected")
    )
    taken = metrics.values.get("http_rds_update_success", 0)
    if refused and not taken:
        message = f"Envoy of {proxy.subject} rejects the operator's configuration"
        return failed("xds", message, f"see its log: {proxy.log()}")
    return None


def _no_service(facts: Facts, proxy: Proxy) -> Step | None:
    """Check the Service through which proxies reach the operator; connections outlive it."""
    key = operator_service(proxy.pod)
    if key is None:
        return None
    namespace, name = key
    service, slices = facts.services.get(key), facts.slices.get(key)
    what = f"Service {name} in namespace {namespace}, by which Envoy reaches the operator,"
    if service is not None and service.absent:
        return failed("xds", f"{what} does not exist", UPGRADE)
    if slices is not None and slices.there and not has_endpoint(slices):
        return failed(
            "xds",
            f"{what} has no ready endpoint",
            see_operators(namespace),
        )
    return None


def _why_apart(metrics: Metrics, proxy: Proxy) -> Trouble:
    xds: Mapping[str, float] = metrics.clusters.get(mangled(XDS_CLUSTER), {})
    if xds.get("update_failure") and not xds.get("update_success"):
        return "the operator's name does not resolve", "check DNS in the pod's namespace (port 53)"
    if xds.get("ssl_fail_verify_error") or xds.get("ssl_fail_verify_san"):
        return (
            "it does not trust the operator's certificate",
            "compare ConfigMap thruway-ca with the operator's, and restart the pod",
        )
    if xds.get("upstream_cx_connect_fail"):
        return (
            "no connection to the operator's port 18000",
            "see that its pods run, and that no NetworkPolicy forbids it",
        )
    log = f"see the log for the operator's responses: {proxy.log()}"
    return "the stream keeps ending", log


def _status(facts: Facts, proxy: Proxy) -> Step | None:
    """Check what the operator reports about its proxies in the routes' statuses."""
    for route in routes_concerned(facts):
        found = condition(route, "Programmed")
        if found.get("status") == "True" and found.get("reason") != "NoProxies":
            continue
        proxies = (route.get("status") or {}).get("proxies") or {}
        connected, holding = proxies.get("connected", 0), proxies.get("programmed", 0)
        name = name_of(route)
        if not connected:
            message = f"{proxy.subject} runs, but no proxy of route {name} is connected"
            remedy = f"see Envoy's log for the operator's responses: {proxy.log()}"
            return failed("xds", message, remedy)
        message = f"{holding} of {connected} proxies hold the current version of route {name}"
        return failed(
            "xds", message, "wait a few seconds; if this persists, see the operator's log"
        )
    return None


def _silent(facts: Facts, proxy: Proxy) -> Step | None:
    """Without metrics, which alone show the connection, use the routes' statuses for all pods."""
    inside = proxy.inside
    if inside.metrics.there:
        return None
    why = (inside.metrics if inside.problems.there else inside.problems).reason
    counts = [((route.get("status") or {}).get("proxies") or {}) for route in facts.routes.items]
    connected = max((item.get("connected", 0) for item in counts), default=0)
    return unchecked(
        "xds",
        f"{proxy.subject} itself: {why}; the operator counts {connected} "
        "connected proxies, and all hold the routes",
    )
