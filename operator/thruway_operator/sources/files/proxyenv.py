"""Reads `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, in either case, like other programs do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from thruway_operator.resources.model import DefaultProxy, ForwardProxies
from thruway_operator.resources.secret import SecretValue
from thruway_operator.sources.files.watch import SourceError
from thruway_operator.translate.forwardproxy import is_direct_entry, read_proxy_url
from thruway_operator.translate.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["bypass_hint", "environment_proxies", "proxy_warnings"]

_LONGEST = 1024  # characters


def environment_proxies(environment: Mapping[str, str]) -> ForwardProxies:
    """Return the proxies that the environment names; variables in lower case take precedence.

    Raises:
        SourceError: a variable does not contain a proxy's URL.
    """
    return ForwardProxies(
        https=_proxy(environment, "HTTPS_PROXY"),
        http=_proxy(environment, "HTTP_PROXY"),
        direct=tuple(entry for entry in _entries(environment) if is_direct_entry(entry)),
    )


def proxy_warnings(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each entry of NO_PROXY that is not understood."""
    return [
        f"NO_PROXY contains {entry[:100]}, which is not a host name, address or network: "
        "it is ignored."
        for entry in _entries(environment)
        if not is_direct_entry(entry)
    ]


def bypass_hint(environment: Mapping[str, str], hosts: Sequence[str]) -> str:
    """Return shell lines with which programs call these hosts directly; "" if they do so already.

    A program reads NO_PROXY in one case or the other, so each that is set has to hold them.
    """
    names = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
    proxies = [name for name in environment if name.upper() in names and environment[name].strip()]
    if not proxies:
        return ""
    values = [environment[name] for name in ("NO_PROXY", "no_proxy") if name in environment]
    if values and all(_holds(value, hosts) for value in values):
        return ""
    value = f'"{",".join(hosts)},${{no_proxy:-$NO_PROXY}}"'
    return (
        f"# {min(proxies)} is set, and NO_PROXY does not except {' and '.join(hosts)}. "
        f"Run this first:\nexport NO_PROXY={value} no_proxy={value}"
    )


def _holds(value: str, hosts: Sequence[str]) -> bool:
    entries = re.split(r"[\s,]+", value.strip().lower())
    return entries == ["*"] or all(host in entries for host in hosts)


def _value(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the variable's name in the case that takes precedence, and its value."""
    lower = name.lower()
    used = lower if lower in environment else name
    return used, environment.get(used, "").strip()


def _entries(environment: Mapping[str, str]) -> list[str]:
    _, value = _value(environment, "NO_PROXY")
    return [entry.lower() for entry in re.split(r"[\s,]+", value) if entry]


def _proxy(environment: Mapping[str, str], variable: str) -> DefaultProxy | None:
    name, value = _value(environment, variable)
    if not value:
        return None
    field = f"The environment variable {name}"
    if len(value) > _LONGEST:
        raise SourceError(f"{field} may be at most {_LONGEST} characters long.")
    scheme, mark, rest = value.rpartition("://")
    login, at, rest = rest.rpartition("@")
    user = _login(login, field) if at else None
    try:
        address = read_proxy_url(f"{scheme.lower()}{mark or 'http://'}{rest}", field, "")
    except Refused as refused:
        raise SourceError(f"{refused.message}.") from None
    return DefaultProxy(address.host, address.port, address.secure, user)


def _login(encoded: str, field: str) -> SecretValue:
    try:
        login = unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        login = "\n"
    if not login.isprintable():
        raise SourceError(f"{field} contains a login with characters not allowed in a header.")
    return SecretValue(login if ":" in login else f"{login}:")
