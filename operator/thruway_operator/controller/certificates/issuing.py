"""Creates CAs and certificates, and reads them from PEM. Keys are P-256."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Pair", "issue", "make_ca", "read_certificates", "read_pair", "write_certificates"]

_SKEW: Final = dt.timedelta(hours=1)
"""The clocks of other nodes may be behind ours by this much."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    """The private key of this certificate; see `read_pair`."""

    @property
    def made(self) -> dt.datetime:
        """When it was issued."""
        return self.certificate.not_valid_before_utc + _SKEW

    @property
    def ends(self) -> dt.datetime:
        """When it expires."""
        return self.certificate.not_valid_after_utc

    def certificate_pem(self) -> str:
        """Return the certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def key_pem(self) -> str:
        """Return the key as unencrypted PEM (PKCS #8)."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()


def make_ca(now: dt.datetime, lifetime: dt.timedelta) -> Pair:
    """Return a new CA with a unique name, by which Envoy distinguishes CAs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"thruway-{secrets.token_hex(4)}")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key, now, now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def issue(authority: Pair, names: Sequence[str], now: dt.datetime, lifetime: dt.timedelta) -> Pair:
    """Return a new server certificate for these DNS names."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(_name(names[0]), issuer.subject, key, now, min(now + lifetime, authority.ends))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def read_pair(certificate: str, key: str) -> Pair | None:
    """Return the pair in these PEM texts, or None if they are not a certificate and its key."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        return None
    return Pair(found, private) if found.public_key() == private.public_key() else None


def read_certificates(text: str) -> list[x509.Certificate]:
    """Return the certificates in a PEM bundle; an unreadable bundle counts as empty."""
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return []


def write_certificates(certificates: Sequence[x509.Certificate]) -> str:
    """Return a PEM bundle."""
    return "".join(item.public_bytes(serialization.Encoding.PEM).decode() for item in certificates)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    ends: dt.datetime,
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
