"""SDS secrets: credentials and CA bundles."""

from __future__ import annotations

from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls_pb

from thruway_operator.envoy.wire import plain_text

__all__ = ["render_authority", "render_credential"]


def render_credential(name: str, value: str) -> bytes:
    """Return a serialised generic secret."""
    return bytes(
        tls_pb.Secret(name=name, generic_secret=tls_pb.GenericSecret(secret=plain_text(value)))
    )


def render_authority(name: str, pem: str) -> bytes:
    """Return a serialised CA bundle."""
    context = tls_pb.CertificateValidationContext(trusted_ca=plain_text(pem))
    return bytes(tls_pb.Secret(name=name, validation_context=context))
