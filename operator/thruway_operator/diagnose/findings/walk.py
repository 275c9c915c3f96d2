"""Walks the chain step by step, up to the first fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.access import check_api, check_crd
from thruway_operator.diagnose.findings.application import check_application
from thruway_operator.diagnose.findings.certificates import check_certificate
from thruway_operator.diagnose.findings.containers import check_containers
from thruway_operator.diagnose.findings.conventions import examined, has_sidecar
from thruway_operator.diagnose.findings.creation import check_creation
from thruway_operator.diagnose.findings.environment import check_environment
from thruway_operator.diagnose.findings.gateways import (
    calls_gateway,
    check_gateway,
    serving_gateways,
    uses_gateway,
    uses_sidecars,
)
from thruway_operator.diagnose.findings.labels import check_absence, check_injection, check_sidecars
from thruway_operator.diagnose.findings.operator import check_operator
from thruway_operator.diagnose.findings.podhealth import check_xds
from thruway_operator.diagnose.findings.proxies import gateway_of, sidecar_of
from thruway_operator.diagnose.findings.pulling import check_pull_secrets
from thruway_operator.diagnose.findings.rejections import check_requests
from thruway_operator.diagnose.findings.routes import check_routes, check_secrets
from thruway_operator.diagnose.findings.steps import Diagnosis
from thruway_operator.diagnose.findings.upstreams import check_upstreams
from thruway_operator.diagnose.findings.webhook import check_webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["diagnose"]

_FIRST: Final = (check_api, check_crd, check_operator)
# The webhook and rejected pods come before pods without a sidecar, because until these are fixed a
# restart does not help. Routes also come before: an old pod would otherwise hide their faults.
_OF_SIDECARS: Final = (check_injection, check_webhook, check_creation, check_certificate)
_OF_CLIENTS: Final = (check_absence, check_creation)
_OF_ROUTES: Final = (check_routes, check_secrets)


def diagnose(facts: Facts) -> Diagnosis:
    """Return the steps up to the first failed one, or all of them."""
    steps: list[Step] = []
    for step in _steps(facts):
        steps.append(step)
        if step.state == "failed":
            break
    return Diagnosis(facts.namespace, facts.pod, steps)


def _steps(facts: Facts) -> Iterator[Step]:
    sidecars = uses_sidecars(facts)
    for check in (*_FIRST, *(_OF_SIDECARS if sidecars else _OF_CLIENTS), *_OF_ROUTES):
        yield from check(facts)
    if sidecars:
        yield from check_sidecars(facts)
    if uses_gateway(facts):
        yield from _gateway(facts)
    for pod in examined(facts):
        if has_sidecar(pod):
            yield from _sidecar(facts, pod)
        elif calls_gateway(facts, pod):
            yield from check_environment(facts, pod)
            yield from check_application(facts, pod)


def _gateway(facts: Facts) -> Iterator[Step]:
    yield from check_gateway(facts)
    for pod in serving_gateways(facts):
        proxy = gateway_of(facts, pod)
        yield from check_xds(facts, proxy)
        yield from check_upstreams(facts, proxy)
        yield from check_requests(facts, proxy)


def _sidecar(facts: Facts, pod: Object) -> Iterator[Step]:
    proxy = sidecar_of(facts, pod)
    yield from check_pull_secrets(facts, pod)
    yield from check_containers(facts, pod)
    yield from check_xds(facts, proxy)
    yield from check_upstreams(facts, proxy)
    yield from check_environment(facts, pod)
    yield from check_application(facts, pod)
    yield from check_requests(facts, proxy)
