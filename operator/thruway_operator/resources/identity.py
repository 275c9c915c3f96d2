"""The identity of a proxy, as its token proves it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Identity", "Unavailable", "check_node"]


class Unavailable(Exception):  # noqa: N818 - named after the gRPC status
    """A peer's identity cannot be checked now; the message is a sentence without a secret."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A pod, as named by its ServiceAccount token."""

    namespace: str
    service_account: str
    pod: str
    pod_uid: str
    expires: float | None = None
    """When the token expires, in seconds of Unix time."""

    @property
    def node_id(self) -> str:
        """The node id of the Envoy in this pod. A namespace's name contains no dot."""
        return f"{self.pod}.{self.namespace}"


def check_node(identity: Identity, node_id: str) -> None:
    """Raise PermissionError unless a node id belongs to the identity."""
    if node_id != identity.node_id:
        raise PermissionError(
            f"the token belongs to pod {identity.pod!r} in namespace {identity.namespace!r}: its "
            f"node id must be {identity.node_id!r}, not {node_id[:128]!r}"
        )
