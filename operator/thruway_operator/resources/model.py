"""The input of translation: routes and what they may refer to, whatever source they came from."""

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
    """A forward proxy for upstreams that name none. `login` is `user:password`."""

    host: str
    port: int
    secure: bool = False
    login: SecretValue | None = None


@dataclass(frozen=True, slots=True)
class ForwardProxies:
    """The default for https:// upstreams, that for http:// upstreams, and who is reached directly.

    `direct` holds NO_PROXY's entries in lower case: see `translate.proxies.is_direct`.
    """

    https: DefaultProxy | None = None
    http: DefaultProxy | None = None
    direct: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that one group of proxies is made from."""

    routes: tuple[PassthroughRoute, ...]
    secrets: Mapping[ObjectKey, Mapping[str, SecretValue]] = field(default_factory=dict)
    config_maps: Mapping[ObjectKey, Mapping[str, str]] = field(default_factory=dict)
    environment: Mapping[str, SecretValue] | None = None
    """On a laptop: where a key is looked up that no Secret holds, by its name. None elsewhere."""
    local_pages: bool = False
    """Whether every web page of this machine may call: on a laptop, if nobody else can."""
    open_to_all: bool = True
    """Whether a route may do without `clientAuth`; not where strangers can reach the proxy."""
    own_addresses: frozenset[HostPort] = frozenset()
    """Where the proxy itself listens (host in lower case, port): no route may lead there."""
    proxies: ForwardProxies = ForwardProxies()
    """Through which upstreams are reached that do not say."""
