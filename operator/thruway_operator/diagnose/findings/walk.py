"""Walks the chain step by step, up to the first fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.access import check_api, check_crd
from thruway_operator.diagnose.findings.certificates import check_certificate
from thruway_operator.diagnose.findings.containers import check_containers
from thruway_operator.diagnose.findings.conventions import examined, has_sidecar
from thruway_operator.diagnose.findings.creation import check_creation
from thruway_operator.diagnose.findings.environment import check_environment
from thruway_operator.diagnose.findings.labels import check_injection, check_sidecars
from thruway_operator.diagnose.findings.operator import check_operator
from thruway_operator.diagnose.findings.podhealth import check_xds
from thruway_operator.diagnose.findings.pulling import check_pull_secrets
from thruway_operator.diagnose.findings.routes import check_routes, check_secrets
from thruway_operator.diagnose.findings.steps import Diagnosis
from thruway_operator.diagnose.findings.upstreams import check_upstreams
from thruway_operator.diagnose.findings.webhook import check_webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["diagnose"]

# The webhook and refused pods come before pods without a sidecar, because until these are fixed a
# restart does not help. Routes also come before: an old pod would otherwise hide their faults.
_OF_ALL: Final = (
    check_api,
    check_crd,
    check_operator,
    check_injection,
    check_webhook,
    check_creation,
    check_certificate,
    check_routes,
    check_secrets,
    check_sidecars,
)
_OF_EACH_POD: Final = (
    check_pull_secrets,
    check_containers,
    check_xds,
    check_upstreams,
    check_environment,
)


def diagnose(facts: Facts) -> Diagnosis:
    """Return the steps up to the first failed one, or all of them."""
    steps: list[Step] = []
    for step in _steps(facts):
        steps.append(step)
        if step.state == "failed":
            break
    return Diagnosis(facts.namespace, facts.pod, steps)


def _steps(facts: Facts) -> Iterator[Step]:
    for check in _OF_ALL:
        yield from check(facts)
    for pod in examined(facts):
        if has_sidecar(pod):
            for look in _OF_EACH_POD:
                yield from look(facts, pod)
