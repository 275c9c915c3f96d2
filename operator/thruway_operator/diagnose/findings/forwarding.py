"""Checks that an application's forward proxy does not take its calls to Thruway."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.diagnose.findings.baseurls import host_of
from thruway_operator.diagnose.findings.conventions import SIDECAR, name_of, restart
from thruway_operator.diagnose.findings.steps import failed, good, unchecked
from thruway_operator.sidecar.decide.providers import BASE_URLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_forward_proxies", "sources_of"]

_NAME: Final = "environment"
_PROXIES: Final = frozenset({"http_proxy", "all_proxy"})
"""The variables that affect http:// URLs, in lower case; programs also read the upper case."""


def sources_of(pod: Object) -> list[tuple[str, str]]:
    """Return kind and name of the objects from which its containers take whole environments."""
    found = [
        (kind, str(item[field]["name"]))
        for container in _own(pod)
        for item in container.get("envFrom") or ()
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret"))
        if item.get(field)
    ]
    return list(dict.fromkeys(found))


def check_forward_proxies(facts: Facts, pod: Object) -> Iterator[Step]:
    """Yield a step for each container that uses a forward proxy, or may do so."""
    for container in _own(pod):
        values, hidden = _environment(facts, container)
        urls = [url for name in BASE_URLS if (url := values.get(name))]
        hosts = {host for url in urls if (host := host_of(url))}
        yield from _check(pod, container["name"], values, hidden, hosts)


def _own(pod: Object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pod["spec"].get("containers") or []
    return [item for item in found if item["name"] not in SIDECAR]


def _check(
    pod: Object,
    container: str,
    values: Mapping[str, str | None],
    hidden: list[str],
    hosts: set[str],
) -> Iterator[Step]:
    where = f"container {container} of pod {name_of(pod)}"
    proxy = next((name for name in values if name.lower() in _PROXIES and values[name] != ""), "")
    if not proxy:
        for name in hidden:
            yield unchecked(_NAME, f"whether {where} uses a forward proxy: {name}")
        return
    exceptions = [values[name] for name in ("NO_PROXY", "no_proxy") if name in values]
    if None in exceptions:
        yield unchecked(_NAME, f"NO_PROXY of {where} comes from another source")
        return
    lacking = [host for host in sorted(hosts) if not exceptions or not all(
        _covers(str(value), host) for value in exceptions
    )]  # fmt: skip
    if not lacking:
        yield good(_NAME, f"{where} uses {proxy}, but not for Thruway")
        return
    yield failed(
        _NAME,
        f"{where} has {proxy}, and NO_PROXY lacks {lacking[0]}, so its calls go to that proxy",
        f"add {lacking[0]} to NO_PROXY and no_proxy where {proxy} is set; then {restart(pod)}",
    )


def _covers(exceptions: str, host: str) -> bool:
    """Return whether NO_PROXY contains a host, a domain above it, its network, or `*`."""
    entries = [entry.lstrip("*.") for entry in re.split(r"[\s,]+", exceptions) if entry != "*"]
    if "*" in re.split(r"[\s,]+", exceptions):
        return True
    if any(entry and (host == entry or host.endswith(f".{entry}")) for entry in entries):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for entry in entries if (network := _network(entry)))


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(entry, strict=False)
    except ValueError:
        return None


def _environment(
    facts: Facts, container: Mapping[str, Any]
) -> tuple[dict[str, str | None], list[str]]:
    """Return the variables, None for a value from elsewhere, and what could not be read."""
    values: dict[str, str | None] = {}
    hidden: list[str] = []
    for item in container.get("envFrom") or ():
        prefix = str(item.get("prefix") or "")
        if found := item.get("configMapRef"):
            answer = facts.config_maps.get(found["name"])
            data = (answer.value or {}).get("data") if answer and answer.there else None
            if answer is not None and not (answer.there or answer.absent):
                hidden.append(f"ConfigMap {found['name']}: {answer.reason}")
            values |= {f"{prefix}{name}": str(value) for name, value in (data or {}).items()}
        if found := item.get("secretRef"):
            answer = facts.env_secrets.get(found["name"])
            if answer is not None and not (answer.there or answer.absent):
                hidden.append(f"Secret {found['name']}: {answer.reason}")
            names = answer.value if answer and answer.there else ()
            values |= {f"{prefix}{name}": None for name in names}
    for entry in container.get("env") or ():
        values[entry["name"]] = None if entry.get("valueFrom") else str(entry.get("value") or "")
    return values, hidden
