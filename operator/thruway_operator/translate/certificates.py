"""Client certificates: a Secret's `tls.crt` and `tls.key`, read as strictly as Envoy does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from thruway_operator.ir import ClientCertificate
from thruway_operator.resources.secret import SecretValue
from thruway_operator.translate.credentials import LookupFailed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificatePublicKeyTypes,
        PrivateKeyTypes,
    )

    from thruway_operator.resources.model import Resources

__all__ = ["find_certificate"]

_CERTIFICATE: Final = "tls.crt"
_KEY: Final = "tls.key"
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----")
_SMALLEST_RSA: Final = 2048  # bits; Envoy rejects less
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")


def find_certificate(resources: Resources, namespace: str, name: str) -> ClientCertificate:
    """Return the certificate and the key of a Secret of type kubernetes.io/tls.

    Raises:
        LookupFailed: no such Secret or entry, or a pair that Envoy would reject.
    """
    data = resources.secrets.get((namespace, name))
    if data is None:
        where = "the files" if resources.environment is not None else f"namespace {namespace}"
        raise LookupFailed(
            "ClientCertificateNotFound",
            f"there is no Secret {name} in {where}: create it with {_CERTIFICATE} and {_KEY} "
            "(kubectl create secret tls)",
            code="client_certificate_missing",
        )
    missing = [entry for entry in (_CERTIFICATE, _KEY) if entry not in data]
    if missing:
        raise LookupFailed(
            "ClientCertificateNotFound",
            f"Secret {name} has no {' and no '.join(missing)}: add what is missing (kubectl create "
            "secret tls)",
            code="client_certificate_missing",
        )
    found = _pair(data[_CERTIFICATE], data[_KEY])
    if isinstance(found, str):
        raise LookupFailed(
            "ClientCertificateInvalid", found.format(name=name), code="client_certificate_missing"
        )
    return found


def _pair(certificate: SecretValue, key: SecretValue) -> ClientCertificate | str:
    """Return what is sent to Envoy, or a sentence with `{name}` that says why it cannot be."""
    chain = _blocks(certificate.reveal(), "CERTIFICATE")
    try:
        first, *_ = x509.load_pem_x509_certificates("".join(chain).encode())
        public = first.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return (
            f"{_CERTIFICATE} of Secret {{name}} contains no valid PEM certificate: store the "
            "certificate, followed by the intermediate certificates"
        )
    keys = [block for block in _blocks(key.reveal(), "") if "PRIVATE KEY-----" in block]
    if len(keys) == 1 and "ENCRYPTED" in keys[0]:
        return (
            f"{_KEY} of Secret {{name}} is encrypted: store the key without a passphrase, because "
            "nobody can enter it"
        )
    try:
        (block,) = keys
        private = load_pem_private_key(block.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return (
            f"{_KEY} of Secret {{name}} does not contain exactly one valid private key in PEM: "
            "store the certificate's key"
        )
    if not _belongs(private, public):
        return (
            f"{_KEY} of Secret {{name}} is not the key of the first certificate in "
            f"{_CERTIFICATE}: store the pair, the client's own certificate first"
        )
    if not _is_usable(private):
        return (
            "Envoy does not support the kind of key in Secret {name}: use RSA with at least "
            f"{_SMALLEST_RSA} bits, ECDSA with P-256, P-384 or P-521, or Ed25519"
        )
    return ClientCertificate("".join(chain), SecretValue(block))


def _blocks(text: str, label: str) -> list[str]:
    found = _BLOCK.finditer(text)
    return [f"{match[0]}\n" for match in found if not label or match[1] == label]


def _belongs(private: PrivateKeyTypes, public: CertificatePublicKeyTypes) -> bool:
    own = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return own == public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_usable(private: PrivateKeyTypes) -> bool:
    if isinstance(private, rsa.RSAPrivateKey):
        return private.key_size >= _SMALLEST_RSA
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return True
    return isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES
