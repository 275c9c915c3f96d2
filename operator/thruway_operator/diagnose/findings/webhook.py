"""Checks that the injector's webhook exists, is trusted, and has endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thruway_operator.diagnose.findings.certificates import (
    bundle_fault,
    decoded,
    fingerprints,
    published,
)
from thruway_operator.diagnose.findings.conventions import WEBHOOKS, name_of, namespace_of
from thruway_operator.diagnose.findings.operator import serving_operators
from thruway_operator.diagnose.findings.services import UPGRADE, has_endpoint, see_operators
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_webhook", "hooks_of", "injectors", "service_of"]


def injectors(facts: Facts) -> list[Object]:
    """Return the configurations of the operators that serve the namespace, or all if unknown."""
    found = [item for item in facts.webhooks.items if hooks_of(item)]
    homes = {namespace_of(pod) for pod in serving_operators(facts)}
    return [item for item in found if not homes or _homes(item) & homes]


def hooks_of(configuration: Object) -> list[dict[str, Any]]:
    """Return the injector's webhooks in a configuration."""
    hooks = configuration.get("webhooks") or ()
    return [hook for hook in hooks if str(hook.get("name", "")).endswith(WEBHOOKS)]


def _homes(configuration: Object) -> set[str]:
    return {namespace for namespace, _ in _services(configuration)}


def _services(configuration: Object) -> list[tuple[str, str]]:
    return [found for hook in hooks_of(configuration) if (found := service_of(hook))]


def service_of(hook: dict[str, Any]) -> tuple[str, str] | None:
    """Return namespace and name of the Service that a webhook calls; None if it calls a URL."""
    found = (hook.get("clientConfig") or {}).get("service")
    return (str(found["namespace"]), str(found["name"])) if found else None


def check_webhook(facts: Facts) -> Iterator[Step]:
    """Yield whether the API server can call the injector for new pods."""
    name = "webhook"
    if not facts.webhooks.there:
        yield unchecked(name, facts.webhooks.reason)
        return
    found = injectors(facts)
    if not found:
        yield failed(
            name,
            "there is no MutatingWebhookConfiguration of the injector, so no pod gets a sidecar",
            "install or upgrade the chart with injector.enabled=true",
        )
        return
    for configuration in found:
        for hook in hooks_of(configuration):
            fault = _trust(facts, configuration, hook) or _behind(facts, configuration, hook)
            if fault:
                yield fault
                return
    yield good(name, _well(facts, found))


def _well(facts: Facts, found: list[Object]) -> str:
    """Return a sentence with what was checked and what could not be."""
    behind = [facts.slices.get(key) for item in found for key in _services(item)]
    reached = all(answer is not None and answer.there for answer in behind)
    names = ", ".join(name_of(item) for item in found)
    trust = "trusts the operator's CA" if published(facts) else "trusts a CA"
    reach = "its Service has ready endpoints" if reached else "its Service could not be checked"
    return f"{names} {trust}, and {reach}"


def _trust(facts: Facts, configuration: Object, hook: dict[str, Any]) -> Step | None:
    bundle = str((hook.get("clientConfig") or {}).get("caBundle") or "")
    where = f"MutatingWebhookConfiguration {name_of(configuration)}"
    remedy = "the operator should fill it in: see its log for the reason why it does not"
    if not bundle:
        message = f"caBundle of {where} is empty, so the API server does not trust the injector"
        return failed("webhook", message, remedy)
    text = decoded(bundle)
    fault = bundle_fault(text, facts.now)
    if fault:
        return failed("webhook", f"caBundle of {where} {fault}", remedy)
    signing = published(facts)
    if signing and not signing & fingerprints(text):
        message = f"caBundle of {where} is not the operator's current CA"
        return failed("webhook", message, remedy)
    return None


def _behind(facts: Facts, configuration: Object, hook: dict[str, Any]) -> Step | None:
    key = service_of(hook)
    if key is None:
        return None
    namespace, name = key
    service, slices = facts.services.get(key), facts.slices.get(key)
    if service is not None and service.absent:
        return failed(
            "webhook",
            f"Service {name} in namespace {namespace} does not exist, which "
            f"MutatingWebhookConfiguration {name_of(configuration)} calls",
            UPGRADE,
        )
    if slices is None or not slices.there:
        return None
    if not has_endpoint(slices):
        return failed(
            "webhook",
            f"Service {name} in namespace {namespace} has no ready endpoint, so the injector "
            "cannot be reached",
            see_operators(namespace),
        )
    return None
