"""The input of translation: routes and the objects that they refer to, from any source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.api.route import PassthroughRoute
    from thruway_operator.resources.keys import HostPort, ObjectKey
    from thruway_operator.resources.secret import SecretValue

__all__ = ["DefaultProxy", "ForwardProxies", "Resources"]


@dataclass(frozen=True, slots=True)
class DefaultProxy:
    """A forward proxy for upstreams that do not name one. `login` is `user:password`."""

    host: str
    port: int
    secure: bool = False
    login: SecretValue | None = None


@dataclass(frozen=True, slots=True)
class ForwardProxies:
    """The default proxies for https:// and http:// upstreams, and the hosts reached directly.

    `direct` holds NO_PROXY's entries in lower case; see `translate.forwardproxy.is_direct`.
    """

    https: DefaultProxy | None = None
    http: DefaultProxy | None = None
    direct: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything from which the configuration of one group of proxies is translated."""

    routes: tuple[PassthroughRoute, ...]
    secrets: Mapping[ObjectKey, Mapping[str, SecretValue]] = field(default_factory=dict)
    config_maps: Mapping[ObjectKey, Mapping[str, str]] = field(default_factory=dict)
    environment: Mapping[str, SecretValue] | None = None
    """On a laptop, the keys to use if no Secret holds one, by name. None elsewhere."""
    local_pages: bool = False
    """Whether every web page on this machine may call: on a laptop, if no one else can."""
    open_to_all: bool = True
    """Whether a route may omit `clientAuth`; false if others can reach the proxy."""
    own_addresses: frozenset[HostPort] = frozenset()
    """Where the proxy itself listens (host in lower case, port): not allowed as an upstream."""
    proxies: ForwardProxies = ForwardProxies()
    """The forward proxies for upstreams that do not name one."""
