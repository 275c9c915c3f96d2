"""Who a proxy is: what its token proves, and what may be said of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Identity", "Unavailable", "check_node"]


class Unavailable(Exception):  # noqa: N818 - what is the case, in one word
    """Who a peer is cannot be told at the moment; the message is a sentence without a secret."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A pod, as its ServiceAccount token names it."""

    namespace: str
    service_account: str
    pod: str
    pod_uid: str
    expires: float | None = None
    """When the token does, in seconds of Unix time."""

    @property
    def node_id(self) -> str:
        """What an Envoy in this pod has to call itself. A namespace's name holds no dot."""
        return f"{self.pod}.{self.namespace}"


def check_node(identity: Identity, node_id: str) -> None:
    """Raise PermissionError unless a node id is the identity's own."""
    if node_id != identity.node_id:
        raise PermissionError(
            f"the token is that of pod {identity.pod!r} in namespace {identity.namespace!r}: node "
            f"id {identity.node_id!r} is expected, not {node_id[:128]!r}"
        )
