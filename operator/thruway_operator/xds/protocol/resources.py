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


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Resource:
    """One resource, serialized once; every stream sends the same `wire` bytes.

    `body` is the serialized message itself, without its `Any`. repr and str never show the bytes
    fields, because a secret must not reach a log, a traceback or an error message.
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
        """Return the resource; its version is a hash of its content.

        Equal content has an equal version on every replica and after every restart, so a proxy that
        reconnects is not sent anything that it already has.
        """
        return cls(type_url, name, hashlib.blake2b(body, digest_size=12).hexdigest(), body)


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one PassthroughRoute contributes to a snapshot; the unit of quarantine.

    Several fragments may contain the same cluster: cluster names are content hashes, so equal names
    mean equal content. `routes` is opaque here; `Assemble` turns the `routes` of all fragments into
    RDS. Fragments with equal ids and digests are equal; the digest is the same on every replica.
    """

    id: str
    digest: str
    clusters: tuple[Resource, ...] = field(default=(), compare=False)
    secrets: tuple[Resource, ...] = field(default=(), compare=False)
    routes: object = field(default=None, repr=False, compare=False)


Snapshot = Mapping[str, Mapping[str, Resource]]
"""What a proxy should hold: resources by name by type URL."""

Assemble = Callable[[Sequence[Fragment]], Snapshot]
"""Makes a snapshot of fragments, given in the order in which they were published.

It must accept *any* subset, including the empty one, and raise nothing. The snapshot must always
contain the RouteConfiguration that the listener names, even if it is empty: Envoy ignores the
removal of a RouteConfiguration (observed with 1.40), so routes only vanish by an update.
"""


def snapshot_of(resources: Iterable[Resource]) -> dict[str, dict[str, Resource]]:
    """Return the snapshot of these resources; of several with one name, the last one counts."""
    snapshot: dict[str, dict[str, Resource]] = {CLUSTER: {}, SECRET: {}, ROUTE: {}}
    for resource in resources:
        snapshot[resource.type_url][resource.name] = resource
    return snapshot


@lru_cache(maxsize=1024)
def revoked(name: str) -> Resource:
    """Return the empty resource that replaces a secret that no longer exists.

    Envoy 1.40 ignores `removed_resources` for a generic secret that it holds, and keeps injecting
    the old key; with an empty secret it returns 401. A proxy that uses the name for a CA bundle
    ignores this resource and keeps the bundle.
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
    """Return a serialized DeltaDiscoveryResponse.

    Fields of a protobuf message may come in any order, and concatenated messages merge (protobuf's
    encoding guide), so the resources' bytes are appended unchanged.
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
