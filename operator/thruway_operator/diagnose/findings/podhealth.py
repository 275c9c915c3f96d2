"""Checks xDS by the responses of a pod's own health port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.baseurls import routes_concerned
from thruway_operator.diagnose.findings.containers import runs
from thruway_operator.diagnose.findings.conventions import ENVOY, EXTPROC, name_of, namespace_of
from thruway_operator.diagnose.findings.facts import Inside
from thruway_operator.diagnose.findings.metrics import mangled, read_metrics
from thruway_operator.diagnose.findings.routes import condition
from thruway_operator.diagnose.findings.steps import failed, good, unchecked
from thruway_operator.envoy.names import XDS_CLUSTER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.metrics import Metrics
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_xds"]

_STARTING: Final = "Envoy returned 503"
"""The start of the health port's message while Envoy has no configuration."""


def check_xds(facts: Facts, pod: Object) -> Iterator[Step]:
    """Yield whether the pod's Envoy has the configuration that the operator serves."""
    name, inside = name_of(pod), facts.inside.get(name_of(pod), Inside())
    if not runs(pod):
        yield unchecked("xds", f"the sidecar of pod {name} is not running")
        return
    yield (
        _stream(pod, inside)
        or _health(pod, inside)
        or _status(facts, pod)
        or _silent(facts, name, inside)
        or good("xds", f"pod {name}: Envoy is connected to the operator and has its routes")
    )


def _health(pod: Object, inside: Inside) -> Step | None:
    if not inside.problems.there or not inside.problems.value:
        return None
    name, problem = name_of(pod), str(inside.problems.value[0])
    container = ENVOY if problem.startswith("Envoy") else EXTPROC
    log = f"kubectl -n {namespace_of(pod)} logs {name} -c {container}"
    if problem.startswith(_STARTING):
        message = f"Envoy of pod {name} has no configuration yet ({problem})"
        return failed("xds", message, f"see its log for the operator's responses: {log}")
    return failed("xds", f"pod {name} is not ready: {problem}", f"see its log: {log}")


def _stream(pod: Object, inside: Inside) -> Step | None:
    if not inside.metrics.there:
        return None
    metrics = read_metrics(str(inside.metrics.value))
    name = name_of(pod)
    log = f"kubectl -n {namespace_of(pod)} logs {name} -c {ENVOY}"
    if metrics.values.get("control_plane_connected_state") == 0:
        why, remedy = _why_apart(metrics, log)
        return failed("xds", f"Envoy of pod {name} is not connected to the operator: {why}", remedy)
    refused = sum(
        metrics.values.get(key, 0)
        for key in ("cluster_manager_cds_update_rejected", "http_rds_update_rejected")
    )
    taken = metrics.values.get("http_rds_update_success", 0)
    if refused and not taken:
        message = f"Envoy of pod {name} rejects the operator's configuration"
        return failed("xds", message, f"see its log: {log}")
    return None


def _why_apart(metrics: Metrics, log: str) -> tuple[str, str]:
    xds: Mapping[str, float] = metrics.clusters.get(mangled(XDS_CLUSTER), {})
    if xds.get("update_failure") and not xds.get("update_success"):
        return "the operator's name does not resolve", "check DNS in the pod's namespace (port 53)"
    if xds.get("ssl_fail_verify_error") or xds.get("ssl_fail_verify_san"):
        return (
            "it does not trust the operator's certificate",
            "compare ConfigMap thruway-ca with the operator's, and restart the pod",
        )
    if xds.get("upstream_cx_connect_fail") and not xds.get("upstream_rq_total"):
        return (
            "no connection to the operator's port 18000",
            "see that its pods run, and that no NetworkPolicy forbids it",
        )
    return "the stream keeps ending", f"see the log for the operator's responses: {log}"


def _status(facts: Facts, pod: Object) -> Step | None:
    """Check what the operator reports about its proxies in the routes' statuses."""
    for route in routes_concerned(facts):
        found = condition(route, "Programmed")
        if found.get("status") == "True":
            continue
        proxies = (route.get("status") or {}).get("proxies") or {}
        connected, holding = proxies.get("connected", 0), proxies.get("programmed", 0)
        name = name_of(route)
        if not connected:
            log = f"kubectl -n {namespace_of(pod)} logs {name_of(pod)} -c {ENVOY}"
            message = f"pod {name_of(pod)} runs, but no proxy of route {name} is connected"
            return failed("xds", message, f"see Envoy's log for the operator's responses: {log}")
        message = f"{holding} of {connected} proxies hold the current version of route {name}"
        return failed(
            "xds", message, "wait a few seconds; if this persists, see the operator's log"
        )
    return None


def _silent(facts: Facts, name: str, inside: Inside) -> Step | None:
    """Without a response from the pod, use the routes' statuses, which cover all pods."""
    if inside.problems.there or inside.metrics.there:
        return None
    counts = [((route.get("status") or {}).get("proxies") or {}) for route in facts.routes.items]
    connected = max((item.get("connected", 0) for item in counts), default=0)
    why = inside.problems.reason
    return unchecked(
        "xds",
        f"pod {name} itself: {why}; the operator counts {connected} connected proxies, and all "
        "hold the routes",
    )
