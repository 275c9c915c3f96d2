"""Reads the facts from the API server. Decides nothing, writes nothing, keeps no secret value."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from thruway_operator.api.crd import GROUP, PLURAL, VERSION
from thruway_operator.diagnose.findings.application import crashing, says_port_in_use
from thruway_operator.diagnose.findings.conventions import (
    AUTHORITY,
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
from thruway_operator.diagnose.findings.forwarding import sources_of
from thruway_operator.diagnose.findings.gateways import GATEWAY, calls_gateway, serving_gateways
from thruway_operator.diagnose.findings.leases import AGAIN, LEASE, is_fresh
from thruway_operator.diagnose.findings.operator import authority_name, serving_operators
from thruway_operator.diagnose.findings.proxies import gateway_of, sidecar_of
from thruway_operator.diagnose.findings.pulling import pull_secrets
from thruway_operator.diagnose.findings.recentcalls import SECONDS, read_calls
from thruway_operator.diagnose.findings.routes import key_refs
from thruway_operator.diagnose.findings.services import operator_service
from thruway_operator.diagnose.findings.shapes import shapes
from thruway_operator.diagnose.findings.states import container_status, is_ready
from thruway_operator.diagnose.findings.webhook import hooks_of, service_of
from thruway_operator.diagnose.online.fetching import Fetcher
from thruway_operator.kube import KubeClient
from thruway_operator.sources.kubernetes.objects import secret_values

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from thruway_operator.diagnose.findings.proxies import Proxy
    from thruway_operator.kube import Access

__all__ = ["UnknownError", "gather"]

_AT_ONCE: Final = 8
_LINES: Final = 500
"""The newest lines of a log that are read."""
_BETWEEN: Final = 3.0
"""Seconds between two readings of a proxy's metrics."""
_OPERATOR_PORT: Final = 8080
"""The operator's health port if its pod names none, as in the chart."""

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
        return await _third(ask, facts)


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
        "gateways": ask.everywhere("pods", "/api/v1/pods", labelSelector=GATEWAY),
        "gateway_services": ask.everywhere("services", "/api/v1/services", labelSelector=GATEWAY),
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
    services |= {(namespace_of(it), name_of(it)) for it in facts.gateway_services.items}
    proxies = [*examined(facts), *serving_gateways(facts)]
    services |= {key for pod in proxies if (key := operator_service(pod))}
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
        config_maps=await _each(
            {name: ask.here("get", "configmaps", name) for name in _named(facts, "ConfigMap")}
        ),
        env_secrets=await _each({name: _keys(ask, name) for name in _named(facts, "Secret")}),
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


def _named(facts: Facts, kind: str) -> set[str]:
    """Return the names of the objects from which the pods take their environment."""
    pods = [pod for pod in examined(facts) if has_sidecar(pod) or calls_gateway(facts, pod)]
    return {name for pod in pods for of, name in sources_of(pod) if of == kind}


async def _keys(ask: Fetcher, name: str) -> Answer:
    """Return the keys of a Secret, without their values."""
    found = await ask.here("get", "secrets", name)
    return replace(found, value=sorted(found.value.get("data") or ())) if found.there else found


async def _bare(ask: Fetcher, name: str) -> Answer:
    """Ask for a Secret without keeping anything of it."""
    found = await ask.here("get", "secrets", name)
    return replace(found, value={}) if found.there else found


async def _third(ask: Fetcher, facts: Facts) -> Facts:
    """Ask the pods themselves."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(proxy: Proxy) -> Inside:
        async with slots:
            return await _inside(ask, proxy)

    cars = [sidecar_of(facts, pod) for pod in examined(facts) if has_sidecar(pod)]
    gateways = [gateway_of(facts, pod) for pod in serving_gateways(facts)]
    asked = [proxy for proxy in (*cars, *gateways) if proxy.runs]
    inside = await asyncio.gather(*map(one, asked))
    found = list(zip(asked, inside, strict=True))
    return replace(
        facts,
        inside={name_of(it.pod): inside for it, inside in found if not it.is_gateway},
        inside_gateways={
            (namespace_of(it.pod), name_of(it.pod)): inside for it, inside in found if it.is_gateway
        },
        operator_problems=await _each(
            {
                (namespace_of(pod), name_of(pod)): _readyz(ask, pod, _OPERATOR_PORT)
                for pod in serving_operators(facts)
                if is_ready(pod)
            }
        ),
        crashes=await _each(
            {
                (name_of(pod), container): _port_in_use(ask, pod, container)
                for pod in examined(facts)
                for container in crashing(pod)
            }
        ),
    )


async def _inside(ask: Fetcher, proxy: Proxy) -> Inside:
    at, name = namespace_of(proxy.pod), name_of(proxy.pod)
    where = f"{name}:{_health_port(proxy.pod)}"
    problems = await _readyz(ask, proxy.pod, HEALTH_PORT)
    metrics = await ask.pod(at, where, "metrics", _metrics) if problems.there else problems
    limits = {"sinceSeconds": str(SECONDS), "tailLines": str(_LINES)}
    calls = await ask.log(at, name, proxy.envoy, read_calls, **limits)
    later = NOT_ASKED
    if metrics.there and not calls.there:
        await asyncio.sleep(_BETWEEN)
        later = await ask.pod(at, where, "metrics", _metrics)
    return Inside(problems, metrics, later, calls)


async def _readyz(ask: Fetcher, pod: Object, usual: int) -> Answer:
    where = f"{name_of(pod)}:{_health_port(pod, usual)}"
    return await ask.pod(namespace_of(pod), where, "readyz", _problems)


async def _port_in_use(ask: Fetcher, pod: Object, container: str) -> Answer:
    """Return whether the log of a container that has ended says so; nothing else is kept of it."""
    running = "running" in (container_status(pod, container).get("state") or {})
    before = container_status(pod, container).get("restartCount", 0)
    previous = {"previous": "true"} if running and before else {}
    at = namespace_of(pod)
    return await ask.log(
        at, name_of(pod), container, says_port_in_use, tailLines=str(_LINES), **previous
    )


def _health_port(pod: Object, usual: int = HEALTH_PORT) -> int:
    ports = [port for item in containers(pod) for port in item.get("ports") or ()]
    named = {item.get("name"): item["containerPort"] for item in ports}
    return int(named.get(HEALTH_PORT_NAME) or named.get("health") or usual)


def _problems(status: int, body: str) -> Answer:
    try:
        said: Any = json.loads(body)
        return Answer([str(item) for item in said["problems"]])
    except (ValueError, KeyError, TypeError):
        return Answer(lack="failed", why=f"its health port sent an unexpected response ({status})")


def _metrics(status: int, body: str) -> Answer:
    if status == 403:
        why = "the chart's value injector.metrics lets only the pod itself read its metrics"
        return Answer(lack="failed", why=why)
    if status != 200:
        return Answer(lack="failed", why=f"its metrics cannot be read ({status})")
    return Answer(body)
