"""SDS secrets: credentials, CA bundles and client certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from thruway_operator.envoy.wire import serialized

if TYPE_CHECKING:
    from thruway_operator import ir

__all__ = ["render_authority", "render_certificate", "render_credential"]


def render_credential(name: str, value: str) -> bytes:
    """Return a serialized generic secret."""
    secret = {"secret": {"inline_string": value}}
    return serialized(secret_pb2.Secret(name=name, generic_secret=secret))


def render_authority(name: str, pem: str) -> bytes:
    """Return a serialized CA bundle."""
    context = {"trusted_ca": {"inline_string": pem}}
    return serialized(secret_pb2.Secret(name=name, validation_context=context))


def render_certificate(name: str, pair: ir.ClientCertificate) -> bytes:
    """Return a serialized client certificate with its key."""
    certificate = {
        "certificate_chain": {"inline_string": pair.chain},
        "private_key": {"inline_string": pair.key.reveal()},
    }
    return serialized(secret_pb2.Secret(name=name, tls_certificate=certificate))
