"""SDS secrets: credentials and CA bundles."""

from __future__ import annotations

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from thruway_operator.envoy.wire import serialised

__all__ = ["render_authority", "render_credential"]


def render_credential(name: str, value: str) -> bytes:
    """Return a serialised generic secret."""
    secret = {"secret": {"inline_string": value}}
    return serialised(secret_pb2.Secret(name=name, generic_secret=secret))


def render_authority(name: str, pem: str) -> bytes:
    """Return a serialised CA bundle."""
    context = {"trusted_ca": {"inline_string": pem}}
    return serialised(secret_pb2.Secret(name=name, validation_context=context))
