"""Resources as the xDS protocol sees them: a type, a name, a version and bytes.

Source of the protocol: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Self

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2

__all__ = [
    "CLUSTER",
    "ROUTE",
    "SECRET",
    "Assemble",
    "Fragment",
    "Resource",
    "Snapshot",
    "encode_response",
    "revoked",
    "snapshot_of",
]

_PREFIX: Final = "type.googleapis.com/"
CLUSTER: Final = _PREFIX + "envoy.config.cluster.v3.Cluster"
SECRET: Final = _PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
ROUTE: Final = _PREFIX + "envoy.config.route.v3.RouteConfiguration"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource, serialised once; every stream sends the same `wire` bytes.

    `body` is the serialised message itself, without its `Any`. Neither bytes field is ever shown by
    repr or str: a secret must not reach a log, a traceback or an error message.
    """

    type_url: str
    name: str
    version: str
    body: bytes = field(repr=False)
    wire: bytes = field(init=False, repr=False, compare=False)
    """One framed `resources` element of a DeltaDiscoveryResponse."""

    def __post_init__(self) -> None:
        message = discovery_pb2.Resource(name=self.name, version=self.version)
        message.resource.type_url = self.type_url
        message.resource.value = self.body
        framed = discovery_pb2.DeltaDiscoveryResponse(resources=[message])
        object.__setattr__(self, "wire", framed.SerializeToString())

    @classmethod
    def of(cls, type_url: str, name: str, body: bytes) -> Self:
        """Return the resource, its version a hash of its content.

        Equal content has an equal version on every replica and after every restart, which is why a
        proxy that reconnects is sent nothing it already has.
        """
        return cls(type_url, name, hashlib.blake2b(body, digest_size=12).hexdigest(), body)


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one PassthroughRoute contributes to a snapshot; the unit that is quarantined.

    A cluster may come from several fragments: names of clusters are content hashes, so equal names
    mean equal content. `routes` is opaque here; `Assemble` turns all of them into RDS. Fragments
    are compared by equality, `routes` included.
    """

    id: str
    clusters: tuple[Resource, ...] = ()
    secrets: tuple[Resource, ...] = ()
    routes: object = field(default=None, repr=False)


Snapshot = Mapping[str, Mapping[str, Resource]]
"""What a proxy shall hold: type URL to name to resource."""

Assemble = Callable[[Sequence[Fragment]], Snapshot]
"""Makes a snapshot of fragments, given in the order in which they were published.

It must answer for *any* subset, the empty one included, raise nothing, and always hold the
RouteConfiguration that the listener names, empty if need be: Envoy ignores RDS's removal of one
(seen with 1.40), so that routes only vanish by an update.
"""


def snapshot_of(resources: Iterable[Resource]) -> dict[str, dict[str, Resource]]:
    """Return the snapshot that holds these resources; the last of several equal names counts."""
    snapshot: dict[str, dict[str, Resource]] = {CLUSTER: {}, SECRET: {}, ROUTE: {}}
    for resource in resources:
        snapshot[resource.type_url][resource.name] = resource
    return snapshot


@lru_cache(maxsize=1024)
def revoked(name: str) -> Resource:
    """Return what replaces a secret that no longer exists: an empty one.

    Envoy 1.40 ignores `removed_resources` for a generic secret that it holds and goes on injecting
    the old key; given an empty one it answers 401. A proxy that uses the name for a CA bundle
    ignores this resource, and keeps the bundle.
    """
    secret = secret_pb2.Secret(name=name)
    secret.generic_secret.secret.inline_string = ""
    return Resource.of(SECRET, name, secret.SerializeToString())


def encode_response(
    type_url: str,
    nonce: str,
    system_version: str,
    resources: Iterable[Resource],
    removed: Iterable[str],
) -> bytes:
    """Return a serialised DeltaDiscoveryResponse.

    Fields of a protobuf message may come in any order and messages concatenate (protobuf's
    encoding guide), so the resources' bytes are appended as they are.
    """
    head = discovery_pb2.DeltaDiscoveryResponse(
        type_url=type_url,
        nonce=nonce,
        system_version_info=system_version,
        removed_resources=list(removed),
    )
    parts = [head.SerializeToString()]
    parts += (resource.wire for resource in resources)
    return b"".join(parts)
