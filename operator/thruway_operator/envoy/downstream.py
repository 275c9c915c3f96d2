"""How the shared gateway accepts connections: with its own TLS, and a maximum age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envoy.config.core.v3 import base_pb2 as core
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_pb

from thruway_operator.envoy.secretfiles import from_file, secret_file, watch
from thruway_operator.envoy.wire import extension

__all__ = ["PLAIN", "Certificate", "Downstream", "certificate_files", "downstream_tls"]

_SDS: Final = "listener-tls"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The listener's certificate. Paths are absolute, in Envoy's own file system."""

    chain_file: str
    key_file: str
    folder: str
    """The folder of the `certificate_files`."""


@dataclass(frozen=True, slots=True)
class Downstream:
    """How the listener treats connections; the defaults are those of a sidecar."""

    certificate: Certificate | None = None
    """None: plain text."""
    connection_age_ms: int = 0
    """Milliseconds after which a connection ends with its next response; 0: never. It never cuts a
    request, however long: HTTP/1.1 gets `connection: close`, HTTP/2 GOAWAY."""


PLAIN: Final = Downstream()
"""The settings of a sidecar."""


def certificate_files(certificate: Certificate) -> dict[str, str]:
    """Return the text of the files in `certificate.folder`, by name. They contain only paths."""
    pair = {
        "certificate_chain": {"filename": certificate.chain_file},
        "private_key": {"filename": certificate.key_file},
        **watch(certificate.chain_file),
    }
    return secret_file(_SDS, {"tls_certificate": pair})


def downstream_tls(certificate: Certificate) -> core.TransportSocket:
    """Return the transport socket of the listener."""
    context = tls_pb.DownstreamTlsContext(
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": [from_file(certificate.folder, _SDS)],
            "alpn_protocols": ["h2", "http/1.1"],
        }
    )
    return core.TransportSocket(**extension("envoy.transport_sockets.tls", context))
