"""Checks that the operator runs, watches the namespace, and holds its Lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.conventions import (
    AUTHORITY,
    ended,
    name_of,
    namespace_of,
)
from thruway_operator.diagnose.findings.leases import LEASE, holder, is_held
from thruway_operator.diagnose.findings.states import first_trouble, is_ready
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["authority_name", "check_operator", "serving_operators"]

_FORBIDDEN: Final = ("forbidden", "permission")
"""Words in problems that the ClusterRole and its binding prevent."""


def check_operator(facts: Facts) -> Iterator[Step]:
    """Yield whether an operator serves the namespace."""
    name = "operator"
    if not facts.operators.there:
        yield unchecked(name, facts.operators.reason)
        return
    pods = [pod for pod in facts.operators.items if not ended(pod)]
    if not pods:
        yield _none(facts)
        return
    serving = serving_operators(facts)
    if not serving:
        where = ", ".join(sorted({namespace_of(pod) for pod in pods}))
        watched = ", ".join(sorted({item for pod in pods for item in _watched(pod)}))
        yield failed(
            name,
            f"the operator in namespace {where} watches only {watched}, not {facts.namespace}",
            f"add {facts.namespace} to the chart's value watchNamespaces",
        )
        return
    fault = _ready(serving) or _problem(facts, serving) or _lease(facts, serving)
    if fault:
        yield fault
        return
    yield good(name, _well(serving))
    hidden = [found for found in facts.operator_problems.values() if not found.there]
    if hidden:
        yield unchecked(name, f"what its pods report about themselves: {hidden[0].reason}")


def serving_operators(facts: Facts) -> list[Object]:
    """Return the operator's pods that watch the namespace."""
    return [
        pod
        for pod in facts.operators.items
        if not ended(pod) and (not _watched(pod) or facts.namespace in _watched(pod))
    ]


def authority_name(pod: Object) -> str:
    """Return the name of the ConfigMap in which an operator keeps its CA."""
    return next(iter(_options(pod, "--tls-config-map")), AUTHORITY)


def _watched(pod: Object) -> list[str]:
    return _options(pod, "--watch-namespace")


def _options(pod: Object, option: str) -> list[str]:
    arguments = [arg for item in pod["spec"]["containers"] for arg in item.get("args") or ()]
    return [arg.partition("=")[2] for arg in arguments if arg.startswith(f"{option}=")]


def _none(facts: Facts) -> Step:
    for item in facts.deployments.items:
        where = f"Deployment {name_of(item)} in namespace {namespace_of(item)}"
        if (item.get("spec") or {}).get("replicas") == 0:
            remedy = (
                f"kubectl -n {namespace_of(item)} scale deployment/{name_of(item)} --replicas=2"
            )
            return failed("operator", f"{where}, the operator's, has 0 replicas", remedy)
        remedy = f"kubectl -n {namespace_of(item)} describe replicasets"
        return failed("operator", f"{where}, the operator's, has no pods", remedy)
    return failed(
        "operator",
        "no operator runs in this cluster: no pod has its labels",
        "install the chart (see charts/thruway)",
    )


def _ready(pods: Sequence[Object]) -> Step | None:
    if any(is_ready(pod) for pod in pods):
        return None
    pod = pods[0]
    where = f"no pod of the operator in namespace {namespace_of(pod)} is ready"
    trouble = first_trouble(pod)
    if trouble:
        return failed("operator", f"{where}; {name_of(pod)}: {trouble[0]}", trouble[1])
    remedy = f"kubectl -n {namespace_of(pod)} logs {name_of(pod)} shows what it waits for"
    return failed("operator", where, remedy)


def _problem(facts: Facts, pods: Sequence[Object]) -> Step | None:
    """Return what a pod reports about itself on its health port."""
    for pod in pods:
        namespace, name = namespace_of(pod), name_of(pod)
        answer = facts.operator_problems.get((namespace, name))
        if answer is None or not answer.there or not answer.value:
            continue
        problem = str(answer.value[0])
        message = f"pod {name} of the operator in namespace {namespace} reports: {problem}"
        if any(word in problem for word in _FORBIDDEN):
            remedy = "upgrade the chart, which grants the operator its permissions"
            return failed("operator", message, remedy)
        return failed("operator", message, f"see its log: kubectl -n {namespace} logs {name}")
    return None


def _lease(facts: Facts, pods: Sequence[Object]) -> Step | None:
    namespace = namespace_of(pods[0])
    answer = facts.leases.get(namespace)
    if answer is None or not (answer.there or answer.absent):
        return None
    remedy = f"see the operator's log: kubectl -n {namespace} logs {name_of(pods[0])}"
    if answer.absent or not holder(answer.value):
        message = (
            f"no operator holds Lease {LEASE} in namespace {namespace}, so no status is written"
        )
        return failed("operator", message, remedy)
    later = facts.leases_later.get(namespace, answer).value or {}
    if is_held(answer.value, later, facts.now):
        return None
    message = (
        f"Lease {LEASE} in namespace {namespace} is not renewed, so no status is written: "
        f"{holder(answer.value)} held it last"
    )
    return failed("operator", message, remedy)


def _well(pods: Sequence[Object]) -> str:
    ready = sum(is_ready(pod) for pod in pods)
    where = ", ".join(sorted({namespace_of(pod) for pod in pods}))
    ill = [(name_of(pod), trouble) for pod in pods if (trouble := first_trouble(pod))]
    more = f"; {ill[0][0]}: {ill[0][1][0]}" if ill else ""  # for example, a failed upgrade
    return f"{ready} of {len(pods)} pods are ready in namespace {where}{more}"
