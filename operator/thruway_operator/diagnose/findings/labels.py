"""Checks which pods request a sidecar, and why a requested one is missing."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.diagnose.findings.conventions import (
    INJECT,
    annotations_of,
    asks,
    examined,
    has_sidecar,
    labels_of,
    name_of,
    namespace_of,
    restart,
    wants,
)
from thruway_operator.diagnose.findings.operator import serving_operators
from thruway_operator.diagnose.findings.selectors import selects
from thruway_operator.diagnose.findings.steps import failed, good, unchecked
from thruway_operator.diagnose.findings.webhook import hooks_of, injectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_absence", "check_injection", "check_sidecars"]

_SYSTEM: Final = ("kube-system", "kube-public", "kube-node-lease")


def check_injection(facts: Facts) -> Iterator[Step]:
    """Yield whether the labels request a sidecar."""
    pods = examined(facts)
    yield (
        _never(facts)
        or _misspelt(facts, pods)
        or (_of_pod(facts, pods[0]) if facts.pod else _of_namespace(facts, pods))
    )


def check_absence(facts: Facts) -> Iterator[Step]:
    """Yield that no sidecar is expected: the pod, or the namespace, uses the shared gateway."""
    if facts.pod:
        yield good("injection", f"pod {facts.pod} needs no sidecar: it calls the shared gateway")
        return
    message = f"namespace {facts.namespace} requests no sidecars; the shared gateway serves it"
    yield unchecked("injection", message)


def _never(facts: Facts) -> Step | None:
    namespace = facts.namespace
    if namespace in _SYSTEM:
        message = f"pods in the system namespace {namespace} never get a sidecar"
    elif namespace in {namespace_of(pod) for pod in serving_operators(facts)}:
        message = f"pods in the operator's own namespace {namespace} never get a sidecar"
    else:
        return None
    return failed("injection", message, "run the application in its own namespace")


def _misspelt(facts: Facts, pods: list[Object]) -> Step | None:
    value = labels_of(facts.namespace_object.value).get(INJECT)
    if value not in {None, "enabled", "disabled"}:
        remedy = f"kubectl label --overwrite namespace {facts.namespace} {INJECT}=enabled"
        message = f"label {INJECT} of namespace {facts.namespace} has the unknown value {value}"
        return failed("injection", message, remedy)
    if value is None and INJECT in annotations_of(facts.namespace_object.value):
        message = f"{INJECT} is an annotation of namespace {facts.namespace}, but must be a label"
        return failed("injection", message, _label(facts))
    for pod in pods:
        value = labels_of(pod).get(INJECT)
        if value is None and INJECT in annotations_of(pod):
            message = f"{INJECT} is an annotation of pod {name_of(pod)}, but must be a label"
            remedy = f"move it to metadata.labels of its template, and {restart(pod)}"
            return failed("injection", message, remedy)
        if value is not None and asks(pod) is None:
            message = f"label {INJECT} of pod {name_of(pod)} has the unknown value {value}"
            remedy = 'set it to "true" or "false" in the template of the pod'
            return failed("injection", message, remedy)
    return None


def _of_pod(facts: Facts, pod: Object) -> Step:
    name, there = name_of(pod), has_sidecar(pod)
    if asks(pod) is False and not there:
        message = (
            f"pod {name} has the label {INJECT}={labels_of(pod)[INJECT]}, so it gets no sidecar"
        )
        return failed("injection", message, f"remove the label, and {restart(pod)}")
    if not wants(facts, pod) and not there:
        message = f"neither namespace {facts.namespace} nor pod {name} requests a sidecar"
        return failed("injection", message, f"{_label(facts)}, and {restart(pod)}")
    if _on_host(pod) and not there:
        message = f"pod {name} uses hostNetwork, so it gets no sidecar"
        return failed("injection", message, "remove hostNetwork, or call the shared gateway")
    return good("injection", f"{_who(facts, pod)} requests a sidecar")


def _of_namespace(facts: Facts, pods: list[Object]) -> Step:
    if labels_of(facts.namespace_object.value).get(INJECT) == "enabled":
        return good("injection", f"namespace {facts.namespace} requests sidecars")
    asking = [pod for pod in pods if asks(pod) or has_sidecar(pod)]
    if asking:
        return good("injection", f"pods of namespace {facts.namespace} request sidecars themselves")
    message = f"neither namespace {facts.namespace} nor any pod in it requests sidecars"
    return failed("injection", message, _label(facts))


def _label(facts: Facts) -> str:
    return f"kubectl label namespace {facts.namespace} {INJECT}=enabled"


def _who(facts: Facts, pod: Object) -> str:
    own = asks(pod) is not None
    return f"pod {name_of(pod)} itself" if own else f"namespace {facts.namespace}"


def _on_host(pod: Object) -> bool:
    return bool((pod.get("spec") or {}).get("hostNetwork"))


def check_sidecars(facts: Facts) -> Iterator[Step]:
    """Yield whether each pod that requests a sidecar has one."""
    asking = [pod for pod in examined(facts) if wants(facts, pod) and not _on_host(pod)]
    for pod in asking:
        if not has_sidecar(pod):
            yield _why_without(facts, pod)
            return
    found = [pod for pod in examined(facts) if has_sidecar(pod)]
    if not found:
        yield unchecked("sidecar", f"no pod in namespace {facts.namespace} requests one")
        return
    names = ", ".join(name_of(pod) for pod in found[:5]) + (" and more" if len(found) > 5 else "")
    yield good("sidecar", f"{len(found)} pod{'s' * (len(found) > 1)} with a sidecar: {names}")


def _why_without(facts: Facts, pod: Object) -> Step:
    message, remedy = f"pod {name_of(pod)} has no sidecar", f"restart it: {restart(pod)}"
    created = _time(pod["metadata"].get("creationTimestamp"))
    labelled = None if asks(pod) else _labelled(facts.namespace_object.value)
    if created and labelled and created < labelled:
        return failed("sidecar", f"{message}, because it predates its namespace's label", remedy)
    known = injectors(facts) if facts.webhooks.there else []
    hooks = [hook for item in known for hook in hooks_of(item)]
    webhook = min((_created(item) for item in known), default=None)
    if created and webhook and created < webhook:
        return failed("sidecar", f"{message}, because it predates the injector's webhook", remedy)
    namespace = labels_of(facts.namespace_object.value)
    if hooks and not any(selects(hook, namespace, labels_of(pod)) for hook in hooks):
        message = f"{message}, because no webhook of {name_of(known[0])} selects it"
        return failed(
            "sidecar", message, "compare its selectors with the labels; upgrade the chart"
        )
    if any(hook.get("failurePolicy") == "Ignore" for hook in hooks):
        message = (
            f"{message}, although it should: the injector did not respond when it was created, and "
            "failurePolicy is Ignore"
        )
        return failed("sidecar", message, remedy)
    more = "; if it still has none, the operator's log says why"
    return failed("sidecar", f"{message}, although its labels request one", f"{remedy}{more}")


def _labelled(namespace: dict[str, Any]) -> dt.datetime | None:
    """Return when the namespace's label was written, according to its managed fields."""
    for entry in namespace["metadata"].get("managedFields") or ():
        fields = ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:labels") or {}
        if f"f:{INJECT}" in fields:
            return _time(entry.get("time"))
    return None


def _created(item: Object) -> dt.datetime:
    return _time(item["metadata"].get("creationTimestamp")) or dt.datetime.min.replace(
        tzinfo=dt.UTC
    )


def _time(text: str | None) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
