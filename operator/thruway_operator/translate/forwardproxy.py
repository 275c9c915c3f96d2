"""Decides through which forward proxy an upstream is reached, if any."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thruway_operator import ir
from thruway_operator.resources.secret import SecretValue
from thruway_operator.translate.credentials import LookupFailed, find_key
from thruway_operator.translate.upstream import Address, read_url
from thruway_operator.translate.verdict import Refused

if TYPE_CHECKING:
    from thruway_operator.api.destinations import Reference
    from thruway_operator.api.route import KeyRef, Upstream
    from thruway_operator.resources.keys import HostPort
    from thruway_operator.resources.model import DefaultProxy, Resources

__all__ = ["Chosen", "choose_proxy", "find_login", "is_direct", "is_direct_entry", "read_proxy_url"]

_NAME = re.compile(r"(\*?\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_SOCKS = re.compile(r"socks[a-z0-9]*://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A proxy, and its login: `user:password`, or a reference to it."""

    proxy: ir.ForwardProxy
    login: SecretValue | KeyRef | None = None


def choose_proxy(
    resources: Resources, namespace: str, upstream: Upstream, address: Address, where: str
) -> Chosen | None:
    """Return the proxy that `upstream.proxy` names, or the default proxy; None: no proxy.

    Raises:
        Refused: `upstream.proxy` is invalid, or the proxy is Thruway itself.
    """
    asked = upstream.proxy
    if asked is None:
        default = _default(resources, address)
        if default is None:
            return None
        if _leads_back(default.host, default.port, resources.own_addresses):
            raise Refused(
                "Loop",
                f"{where}.url would be reached through Thruway itself as a proxy: unset "
                "HTTPS_PROXY and HTTP_PROXY, or name the proxy of your network in them",
            )
        name = f"proxy:default/{'https' if address.secure else 'http'}" if default.login else ""
        proxy = ir.ForwardProxy(default.host, default.port, default.secure, name)
        return Chosen(proxy, default.login)
    ref = asked.secret_key_ref
    if not asked.url:
        if ref is not None:
            raise Refused(
                "Invalid",
                f'{where}.proxy.secretKeyRef has no effect with url "": '
                "remove it, or give the URL of the proxy",
            )
        return None
    found = read_proxy_url(asked.url, f"{where}.proxy.url", "use `secretKeyRef`")
    if _leads_back(found.host, found.port, resources.own_addresses):
        raise Refused(
            "Loop",
            f"{where}.proxy.url leads back to Thruway itself, so requests would loop forever: "
            "name the proxy of your network",
        )
    name = f"proxy:{namespace}/{ref.name}/{ref.key}" if ref else ""
    return Chosen(ir.ForwardProxy(found.host, found.port, found.secure, name), ref)


def _leads_back(host: str, port: int, own: frozenset[HostPort]) -> bool:
    return (host.removesuffix("."), port) in own


def find_login(
    resources: Resources, namespace: str, login: SecretValue | KeyRef | Reference
) -> SecretValue:
    """Return what follows `Basic ` (RFC 7617) for a proxy that requires a login.

    Raises:
        LookupFailed: no such Secret or key, or no `user:password` in it.
    """
    if not isinstance(login, SecretValue):
        ref = login
        login = find_key(resources, namespace, ref)
        if ":" not in login.reveal():
            raise LookupFailed(
                "SecretInvalid",
                f"key {ref.key} of Secret {ref.name} contains no login for a proxy: store "
                "user:password",
            )
    return SecretValue(base64.b64encode(login.reveal().encode()).decode())


def _default(resources: Resources, address: Address) -> DefaultProxy | None:
    proxies = resources.proxies
    if is_direct(address, proxies.direct):
        return None
    return proxies.https if address.secure else proxies.http


def read_proxy_url(url: str, field: str, login: str) -> Address:
    """Return a proxy's address. Errors name `field`, and `login`: how to give a login.

    Raises:
        Refused: not a URL of a proxy. The message never repeats it: it may contain a password.
    """
    if _SOCKS.match(url):
        raise Refused(
            "Invalid",
            f"{field} names a SOCKS proxy, which Envoy does not support: use an http:// or "
            "https:// proxy",
        )
    if "@" in url:
        raise Refused("Invalid", f"{field} must not contain a user and password: {login}")
    address = read_url(url, field)
    if address.base:
        raise Refused("Invalid", f"{field} must not have a path: end it after the port")
    return address


def is_direct(address: Address, entries: tuple[str, ...]) -> bool:
    """Tell whether it is reached without a proxy: by NO_PROXY, or because it is this machine.

    `example.com`, `.example.com` and `*.example.com` match the domain and its subdomains, as in
    curl. Addresses and networks match upstreams that are given by address. `:port` restricts any
    entry to that port. `*` matches everything.
    """
    host = address.host.removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if address.is_ip and ipaddress.ip_address(host).is_loopback:
        return True
    return any(_covers(entry, host, address.port) for entry in entries)


def is_direct_entry(entry: str) -> bool:
    """Tell whether an entry of NO_PROXY, in lower case, is valid."""
    name, _ = _split(entry)
    return name == "*" or _network(name) is not None or bool(_NAME.fullmatch(name))


def _covers(entry: str, host: str, port: int) -> bool:
    name, only = _split(entry)
    if only not in (None, port):
        return False
    if name == "*":
        return True
    network = _network(name)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        domain = name.removeprefix("*").strip(".")
        return network is None and (host == domain or host.endswith(f".{domain}"))
    return network is not None and ip in network


def _split(entry: str) -> tuple[str, int | None]:
    bracketed = re.fullmatch(r"\[([^]]*)\](?::([0-9]{1,5}))?", entry)
    named = re.fullmatch(r"([^:]*):([0-9]{1,5})", entry)
    found = bracketed or named
    if not found:
        return entry, None
    return found[1], int(found[2]) if found[2] else None


def _network(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        return None
