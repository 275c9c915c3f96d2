"""The Secrets that the injector adds to pods, so that the sidecar's images can be pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.conventions import containers, name_of
from thruway_operator.diagnose.findings.steps import failed, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_pull_secrets", "pull_secrets"]

_NAME: Final = "containers"
_OPTION: Final = "--inject-pull-secret="


def pull_secrets(facts: Facts, pod: Object) -> list[str]:
    """Return the Secrets of `imagePullSecrets` that the installation added to a pod.

    Only those: Kubernetes allows others to be missing. All of them if the operator's pods cannot be
    read.
    """
    named = [str(item["name"]) for item in pod["spec"].get("imagePullSecrets") or ()]
    if not facts.operators.items:
        return named
    arguments = {
        argument
        for operator in facts.operators.items
        for container in containers(operator)
        for argument in container.get("args") or ()
    }
    return [name for name in named if f"{_OPTION}{name}" in arguments]


def check_pull_secrets(facts: Facts, pod: Object) -> Iterator[Step]:
    """Yield a step for each such Secret that is missing or cannot be read."""
    here = facts.namespace
    for name in pull_secrets(facts, pod):
        answer = facts.pull_secrets.get(name)
        what = f"Secret {name}, which imagePullSecrets of pod {name_of(pod)} names"
        if answer is not None and answer.absent:
            remedy = f"kubectl -n {here} create secret docker-registry {name} --docker-server=…"
            yield failed(_NAME, f"{what}, is not in namespace {here}", remedy)
        elif answer is None or not answer.there:
            yield unchecked(_NAME, f"{what}: {answer.reason if answer else 'it was not asked for'}")
