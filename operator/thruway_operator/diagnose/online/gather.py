"""Reads the facts from the API server. Decides nothing, writes nothing, keeps no secret value."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from thruway_operator.api.crd import GROUP, PLURAL, VERSION
from thruway_operator.diagnose.findings.containers import runs
from thruway_operator.diagnose.findings.conventions import (
    AUTHORITY,
    EXTPROC,
    HEALTH_PORT,
    HEALTH_PORT_NAME,
    OPERATOR,
    containers,
    examined,
    has_sidecar,
    name_of,
    namespace_of,
)
from thruway_operator.diagnose.findings.creation import (
    OWNERS,
    Owner,
    refused_owners,
    why_never_made,
)
from thruway_operator.diagnose.findings.facts import NOT_ASKED, Answer, Facts, Inside, Object
from thruway_operator.diagnose.findings.leases import AGAIN, LEASE, is_fresh
from thruway_operator.diagnose.findings.operator import authority_name, serving_operators
from thruway_operator.diagnose.findings.pulling import pull_secrets
from thruway_operator.diagnose.findings.routes import key_refs
from thruway_operator.diagnose.findings.shapes import shapes
from thruway_operator.diagnose.findings.webhook import hooks_of, service_of
from thruway_operator.diagnose.online.fetching import Fetcher
from thruway_operator.kube import KubeClient
from thruway_operator.sources.kubernetes.objects import secret_values

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from thruway_operator.kube import Access

__all__ = ["UnknownError", "gather"]

_AT_ONCE: Final = 8


K = TypeVar("K")


class UnknownError(Exception):
    """The namespace or pod does not exist; the message is a sentence."""


def gather(access: Access, namespace: str | None, pod: str | None) -> Facts:
    """Return the facts about a namespace (None: the kubeconfig's), and one or all of its pods.

    Raises:
        UnknownError: the namespace or pod does not exist.
    """
    return asyncio.run(_gather(access, namespace or access.namespace, pod or ""))


async def _gather(access: Access, namespace: str, pod: str) -> Facts:
    async with KubeClient(access) as client:
        ask = Fetcher(client, namespace)
        facts = Facts(access.server, namespace, pod, dt.datetime.now(dt.UTC))
        facts = replace(facts, version=await ask.get("read the version", "/version"))
        if not facts.version.there:
            return facts
        facts = await _first(ask, facts)
        facts = replace(facts, owners=await _owners(ask, facts))
        _known(facts)
        facts = await _second(ask, facts)
        return replace(facts, inside=await _inside(ask, facts))


def _known(facts: Facts) -> None:
    if facts.namespace_object.absent:
        raise UnknownError(f"there is no namespace {facts.namespace}: name one with -n")
    if facts.pods.absent:
        see = f"see kubectl -n {facts.namespace} get pods"
        raise UnknownError(
            f"there is no pod {facts.pod} in namespace {facts.namespace}: "
            f"{why_never_made(facts) or see}"
        )


async def _first(ask: Fetcher, facts: Facts) -> Facts:
    """Request everything whose name is known beforehand."""
    here, routes = facts.namespace, f"/apis/{GROUP}/{VERSION}/namespaces/{facts.namespace}/{PLURAL}"
    questions = {
        "namespace_object": ask.get(f"get namespace {here}", f"/api/v1/namespaces/{here}"),
        "pods": _pods(ask, facts.pod),
        "routes": ask.get(f"list {PLURAL} in namespace {here}", routes),
        "group": ask.get("read the API's discovery", f"/apis/{GROUP}"),
        "schema": ask.get("read the API's schema", f"/openapi/v3/apis/{GROUP}/{VERSION}"),
        "operators": ask.everywhere("pods", "/api/v1/pods", labelSelector=OPERATOR),
        "webhooks": ask.everywhere(
            "mutatingwebhookconfigurations",
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        ),
        "authority": ask.here("get", "configmaps", AUTHORITY),
        "mounts": ask.here("list", "events", fieldSelector="reason=FailedMount"),
        "refusals": ask.here("list", "events", fieldSelector="reason=FailedCreate"),
    }
    answers = await asyncio.gather(*questions.values())
    found: dict[str, Any] = dict(zip(questions, answers, strict=True))
    return replace(facts, **found)


async def _owners(ask: Fetcher, facts: Facts) -> dict[Owner, Answer]:
    """Request the objects whose pods were refused."""
    owners = refused_owners(facts)
    return await _each({it: ask.here("get", OWNERS[it[0]], it[1]) for it in owners})


async def _pods(ask: Fetcher, name: str) -> Answer:
    if not name:
        return await ask.here("list", "pods")
    found = await ask.here("get", "pods", name)
    return replace(found, value={"items": [found.value]}) if found.there else found


async def _second(ask: Fetcher, facts: Facts) -> Facts:
    """Request the objects that the first results name."""
    homes = {namespace_of(pod): authority_name(pod) for pod in serving_operators(facts)}
    hooks = [hook for item in facts.webhooks.items for hook in hooks_of(item)]
    services = {key for hook in hooks if (key := service_of(hook))}
    secrets = {name for route in facts.routes.items for name, _ in key_refs(route)}
    pods = [pod for pod in examined(facts) if has_sidecar(pod)]
    pulled = {name for pod in pods for name in pull_secrets(facts, pod)}
    leases = await _each({where: ask.one("leases", where, LEASE) for where in homes})
    return replace(
        facts,
        deployments=await _deployments(ask, facts),
        leases=leases,
        leases_later=await _later(ask, facts, leases),
        published=await _each({at: ask.one("configmaps", at, name) for at, name in homes.items()}),
        services=await _each({key: ask.one("services", *key) for key in services}),
        slices=await _each({key: ask.slices(*key) for key in services}),
        secrets=await _each({name: _secret(ask, name) for name in secrets}),
        pull_secrets=await _each({name: _bare(ask, name) for name in pulled}),
    )


async def _each(questions: Mapping[K, Coroutine[Any, Any, Answer]]) -> dict[K, Answer]:
    """Run all queries concurrently."""
    return dict(zip(questions, await asyncio.gather(*questions.values()), strict=True))


async def _deployments(ask: Fetcher, facts: Facts) -> Answer:
    """Request the operator's Deployment if it has no pods."""
    if facts.operators.items or not facts.operators.there:
        return NOT_ASKED
    path = "/apis/apps/v1/deployments"
    return await ask.everywhere("deployments", path, labelSelector=OPERATOR)


async def _later(ask: Fetcher, facts: Facts, leases: dict[str, Answer]) -> dict[str, Answer]:
    """Read Leases again that look old by our clock, which may be wrong."""
    old = [
        at for at, found in leases.items() if found.there and not is_fresh(found.value, facts.now)
    ]
    if old:
        await asyncio.sleep(AGAIN)
    return await _each({where: ask.one("leases", where, LEASE) for where in old})


async def _secret(ask: Fetcher, name: str) -> Answer:
    found = await ask.here("get", "secrets", name)
    return replace(found, value=shapes(secret_values(found.value))) if found.there else found


async def _bare(ask: Fetcher, name: str) -> Answer:
    """Ask for a Secret without keeping anything of it."""
    found = await ask.here("get", "secrets", name)
    return replace(found, value={}) if found.there else found


async def _inside(ask: Fetcher, facts: Facts) -> dict[str, Inside]:
    pods = [pod for pod in examined(facts) if has_sidecar(pod) and runs(pod)]
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(pod: Object) -> Inside:
        async with slots:
            where = f"{name_of(pod)}:{_health_port(pod)}"
            problems = await ask.pod(where, "readyz", _problems)
            metrics = await ask.pod(where, "metrics", _metrics) if problems.there else problems
            return Inside(problems, metrics)

    found = await asyncio.gather(*map(one, pods))
    return {name_of(pod): inside for pod, inside in zip(pods, found, strict=True)}


def _health_port(pod: Object) -> int:
    extproc = next((item for item in containers(pod) if item["name"] == EXTPROC), {})
    ports = extproc.get("ports") or ()
    found = [item["containerPort"] for item in ports if item.get("name") == HEALTH_PORT_NAME]
    return int(found[0]) if found else HEALTH_PORT


def _problems(status: int, body: str) -> Answer:
    try:
        said: Any = json.loads(body)
        return Answer([str(item) for item in said["problems"]])
    except (ValueError, KeyError, TypeError):
        return Answer(lack="failed", why=f"its health port sent an unexpected response ({status})")


def _metrics(status: int, body: str) -> Answer:
    if status != 200:
        return Answer(lack="failed", why=f"its metrics cannot be read ({status})")
    return Answer(body)
