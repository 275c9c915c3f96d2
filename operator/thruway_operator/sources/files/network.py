"""Adapts routes to the laptop's network: who can reach them, and which addresses are its own."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from thruway_operator.resources.model import ForwardProxies, Resources
from thruway_operator.sources.files.clients import with_client_keys
from thruway_operator.sources.files.origins import with_allowed_origins

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thruway_operator.resources.keys import HostPort
    from thruway_operator.resources.secret import SecretValue

__all__ = ["Setting"]


@dataclass(frozen=True)
class Setting:
    """The address it listens on, who may call, and the environment's proxies."""

    addresses: tuple[HostPort, ...]
    keys: tuple[SecretValue, ...] = ()
    """The keys of `--api-key`."""
    proxies: ForwardProxies = field(default_factory=ForwardProxies)
    origins: tuple[str, ...] = ()
    """The web pages of `--allow-origin`."""

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return all(ipaddress.ip_address(host).is_loopback for host, _ in self.addresses)

    def apply(self, resources: Resources) -> Resources:
        """Return the resources adapted to this network."""
        return replace(
            with_allowed_origins(with_client_keys(resources, self.keys), self.origins),
            local_pages=self.loopback,
            open_to_all=self.loopback,
            own_addresses=self._own(resources),
            proxies=self.proxies,
        )

    def _own(self, resources: Resources) -> frozenset[HostPort]:
        """Return our addresses, and the host names in routes that resolve to them."""
        own: set[HostPort] = set()
        for host, port in self.addresses:
            own.add((host, port))
            if ipaddress.ip_address(host).is_unspecified:
                own |= {(other, port) for other in _addresses(socket.gethostname())}
                own |= {("127.0.0.1", port), ("::1", port)}
            if host in ("127.0.0.1", "::1"):
                own |= {("0.0.0.0", port), ("::", port)}  # noqa: S104 - these reach loopback
        ports = {port for _, port in own}
        defaults = [
            (proxy.host.removesuffix("."), proxy.port)
            for proxy in (self.proxies.https, self.proxies.http)
            if proxy is not None
        ]
        for host, port in (*defaults, *_upstreams(resources)):
            if port in ports and any((address, port) in own for address in _addresses(host)):
                own.add((host, port))
        return frozenset(own)


def _upstreams(resources: Resources) -> Iterable[HostPort]:
    for route in resources.routes:
        destinations = route.spec.destinations()
        urls = [item.upstream.url for item in destinations]
        urls += [item.upstream.proxy.url for item in destinations if item.upstream.proxy]
        for url in urls:
            with contextlib.suppress(ValueError):  # translation reports an invalid URL
                parts = urlsplit(url or "")
                if parts.hostname and parts.port:
                    yield parts.hostname.removesuffix("."), parts.port


def _addresses(name: str) -> set[str]:
    with contextlib.suppress(OSError, UnicodeError):
        return {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    return set()
