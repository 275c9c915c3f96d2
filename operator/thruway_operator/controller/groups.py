"""Decides which proxies get which routes, based only on their proven identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_operator.translate.groups import GATEWAY, namespace_group

if TYPE_CHECKING:
    from thruway_operator.xds import Identity

__all__ = ["group_of"]


def group_of(identity: Identity | None, gateway: tuple[str, str] | None) -> str:
    """Return the group of a proxy: the gateway's, or its namespace's.

    `gateway` is the (namespace, name) of the ServiceAccount of the shared gateway's pods.

    Raises:
        PermissionError: it has no identity.
    """
    if identity is None:
        raise PermissionError("a proxy needs a ServiceAccount token to get configuration")
    if (identity.namespace, identity.service_account) == gateway:
        return GATEWAY
    return namespace_group(identity.namespace)
