"""Which groups of proxies serve a route: its namespace's sidecars, and perhaps the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from thruway_operator.api.route import PassthroughRoute

__all__ = ["GATEWAY", "LAPTOP", "groups_of", "laptop_group", "namespace_group"]

GATEWAY: Final = "gateway"
"""The group of the shared gateway's proxies."""

LAPTOP: Final = "laptop"
"""The one group of `thruway up`."""


def namespace_group(namespace: str) -> str:
    """Return the group of a namespace's sidecars."""
    return f"namespace/{namespace}"


def groups_of(route: PassthroughRoute) -> tuple[str, ...]:
    """Return the groups whose proxies serve a route in a cluster, if it is accepted."""
    own = namespace_group(route.namespace)
    return (own, GATEWAY) if route.spec.exposure == "Cluster" else (own,)


def laptop_group(_: PassthroughRoute) -> tuple[str, ...]:
    """Return the group that serves every route on a laptop."""
    return (LAPTOP,)
