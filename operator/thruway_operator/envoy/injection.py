"""Credentials put into requests by Envoy's `credential_injector`, in a cluster's filter chain.

The injector has no per-route settings, so it belongs to the cluster. Without its secret it replies
with 401, which the listener maps; the request is never sent without its credential.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.extensions.filters.http.credential_injector.v3 import (
    credential_injector_pb2 as injector,
)
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2 as codec
from envoy.extensions.http.injected_credentials.generic.v3 import generic_pb2 as generic

from thruway_operator.envoy.handshakes import undisguise
from thruway_operator.envoy.wire import extension, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

__all__ = ["injected_credential", "upstream_filters"]

_PREFIX = 3  # Generic.header_value_prefix, which xds-protos 1.85 does not know


def injected_credential(
    secret: Message | dict[str, object], header: str, prefix: str
) -> generic.Generic:
    """Return a credential: an SdsSecretConfig, the header, and what precedes the secret in it."""
    found = generic.Generic(credential=secret, header=header)
    found.MergeFromString(joined([(_PREFIX, prefix.encode())]))
    return found


def upstream_filters(
    credentials: Sequence[generic.Generic], *, upgrades: bool = False
) -> list[dict[str, object]]:
    """Return the upstream HTTP filters that inject these credentials; empty if none is needed.

    `upgrades`: handshakes arrive as `handshakes.DISGUISE` leaves them.
    """
    filters = [*map(_injector, credentials), *([undisguise()] if upgrades else [])]
    return [*filters, _CODEC] if filters else []


_CODEC = extension("envoy.filters.http.upstream_codec", codec.UpstreamCodec())


def _injector(credential: generic.Generic) -> dict[str, object]:
    config = injector.CredentialInjector(
        overwrite=True,
        allow_request_without_credential=False,
        credential=extension("envoy.http.injected_credentials.generic", credential),
    )
    return extension("envoy.filters.http.credential_injector", config)
