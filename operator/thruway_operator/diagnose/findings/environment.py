"""Checks the base URL that the application's SDK is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from thruway_operator.diagnose.findings.baseurls import is_below, told
from thruway_operator.diagnose.findings.conventions import (
    ROUTE,
    annotations_of,
    has_sidecar,
    name_of,
    restart,
)
from thruway_operator.diagnose.findings.forwarding import check_forward_proxies
from thruway_operator.diagnose.findings.gateways import (
    leads_to_gateway,
    remedy_at_gateway,
    wrong_at_gateway,
)
from thruway_operator.diagnose.findings.steps import failed, good, unchecked
from thruway_operator.sidecar.decide.names import INJECTED
from thruway_operator.sidecar.decide.options import unknown_annotations
from thruway_operator.sidecar.decide.providers import BASE_URLS, OPENAI, Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_environment"]

_NAME: Final = "environment"
_HOSTS: Final = ("127.0.0.1", "localhost")


def check_environment(facts: Facts, pod: Object) -> Iterator[Step]:
    """Yield whether the base URLs of the pod's containers lead to Thruway, past other proxies."""
    for step in _base_urls(facts, pod):
        yield step
        if step.state == "failed":
            return
    yield from check_forward_proxies(facts, pod)


def _base_urls(facts: Facts, pod: Object) -> Iterator[Step]:
    name, target = name_of(pod), "the sidecar" if has_sidecar(pod) else "the gateway"
    unknown = unknown_annotations(annotations_of(pod))
    if unknown:  # for a Deployment's pods, users do not see the injector's warning
        message = f"annotation {unknown[0]} of pod {name} is not known and has no effect"
        yield failed(_NAME, message, "correct it in the pod's template")
        return
    entries = told(pod)
    left_alone = annotations_of(pod).get("thruway.dev/env") == "false"
    if not entries:
        yield _untold(facts, pod, left_alone=left_alone)
        return
    for container, entry in entries:
        value = entry.get("value")
        what = f"{entry['name']} of container {container} of pod {name}"
        if value is None or "$(" in value:
            yield unchecked(_NAME, f"{what} comes from another source")
            continue
        if not has_sidecar(pod) and not leads_to_gateway(facts, value):
            yield unchecked(_NAME, f"{what} does not lead to the gateway")
            continue
        wrong = (_wrong if has_sidecar(pod) else wrong_at_gateway)(facts, pod, value)
        if wrong and _is_unused_default(facts, pod, value):
            yield unchecked(_NAME, f"namespace {facts.namespace} has no route of provider openai")
            continue
        if wrong:
            provider = BASE_URLS[entry["name"]]
            given = _remedy if has_sidecar(pod) else remedy_at_gateway
            remedy = given(facts, pod, value, provider)
            yield failed(_NAME, f"{what} {wrong}", remedy)
            return
        yield good(_NAME, f"{what} points to {target}")


def _untold(facts: Facts, pod: Object, *, left_alone: bool) -> Step:
    message = f"no container of pod {name_of(pod)} has {OPENAI.base_urls[0]}"
    if left_alone:
        return unchecked(_NAME, f'{message}, as thruway.dev/env: "false" says')
    remedy = f"{restart(pod)}, or set it to {_right(facts, pod, OPENAI)}"
    return failed(_NAME, f"{message}, so an SDK calls its API directly", remedy)


def _remedy(facts: Facts, pod: Object, value: str, provider: Provider) -> str:
    """If the value is the injector's, it was right at first, so the route has changed since."""
    injectors = f"http://{_HOSTS[0]}:{_port(pod)}/"
    if INJECTED in annotations_of(pod) and value.startswith(injectors):
        return (
            f"{restart(pod)}, or restore the route's path; if the pod's template itself sets it, "
            "remove it there first"
        )
    return f"remove it from the pod's template, or set it to {_right(facts, pod, provider)}"


def _right(facts: Facts, pod: Object, provider: Provider) -> str:
    named = annotations_of(pod).get(ROUTE)
    routes = [item for item in facts.routes.items if _is_for(item, provider)]
    chosen = next((item for item in routes if named == name_of(item)), None)
    chosen = chosen or next(iter(routes), None)
    path = chosen["spec"]["path"] if chosen else "/…"
    return f"http://127.0.0.1:{_port(pod)}{path}{'/v1' if provider.versioned else ''}"


def _is_unused_default(facts: Facts, pod: Object, value: str) -> bool:
    """Return whether it is the injector's value for OpenAI, but only other providers have routes.

    Whether the application calls OpenAI at all is not visible.
    """
    routes = facts.routes.items
    default = f"http://{_HOSTS[0]}:{_port(pod)}{OPENAI.usual_path}/v1"
    return (
        INJECTED in annotations_of(pod)
        and value == default
        and bool(routes)
        and not any(_is_for(route, OPENAI) for route in routes)
    )


def _is_for(route: Object, provider: Provider) -> bool:
    name: str = route["spec"].get("provider", OPENAI.name)
    return name == provider.name


def _port(pod: Object) -> str:
    return annotations_of(pod).get("thruway.dev/port", "4000")


def _wrong(facts: Facts, pod: Object, value: str) -> str:
    """Return the fault of a base URL, or ""."""
    try:
        url = urlsplit(value)
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    except ValueError:
        return "is not a URL"
    if url.scheme not in {"http", "https"} or not url.hostname:
        return "is not a URL"
    if url.hostname not in _HOSTS:
        return f"points to {url.hostname}, not to the sidecar"
    if url.scheme != "http":
        return "begins with https://, but the sidecar uses plain HTTP within the pod"
    if str(port) != _port(pod):
        return f"points to port {port}, but the sidecar listens on {_port(pod)}"
    if not any(is_below(url, route["spec"]["path"]) for route in facts.routes.items):
        return f"points to the path {url.path or '/'}, which no route has"
    return ""
