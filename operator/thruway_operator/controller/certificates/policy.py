"""Decides which certificates must exist; pure except for the creation of keys.

A CA that is about to expire gets a successor, which is published before it signs anything. So a
certificate is only served when all proxies trust it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from thruway_operator.controller.certificates.issuing import (
    Pair,
    issue,
    make_ca,
    read_certificates,
    read_pair,
    write_certificates,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Held", "Terms", "renew"]


@dataclass(frozen=True, slots=True)
class Terms:
    """The names in the certificate, and the lifetimes."""

    names: tuple[str, ...]
    """At least one DNS name."""
    lifetime: dt.timedelta = dt.timedelta(days=90)
    ca_lifetime: dt.timedelta = dt.timedelta(days=5 * 365)
    overlap: dt.timedelta = dt.timedelta(hours=1)
    """How long a new CA is published before it signs anything: kubelet updates ConfigMaps in pods
    within a minute or two."""


_RENEW_AFTER: Final = 2 / 3
"""The share of its lifetime after which a CA or certificate gets a successor."""

_FIELDS: Final = (
    ("authority", "authority.crt", "authority.key"),
    ("successor", "successor.crt", "successor.key"),
    ("serving", "tls.crt", "tls.key"),
)


@dataclass(frozen=True, slots=True)
class Held:
    """The content of the Secret."""

    authority: Pair | None = None
    """The CA that signs."""
    successor: Pair | None = None
    """The CA that will sign once all proxies trust it."""
    serving: Pair | None = None
    trusted: tuple[x509.Certificate, ...] = ()
    """All CAs that proxies must trust."""

    @classmethod
    def read(cls, data: Mapping[str, str]) -> Held:
        """Return the content of these texts; unusable parts count as absent."""
        pairs = {
            name: read_pair(data.get(crt, ""), data.get(key, "")) for name, crt, key in _FIELDS
        }
        return cls(**pairs, trusted=tuple(read_certificates(data.get("ca.crt", ""))))

    def write(self) -> dict[str, str]:
        """Return the texts for the Secret."""
        texts = {"ca.crt": write_certificates(self.trusted)}
        for name, crt, key in _FIELDS:
            pair: Pair | None = getattr(self, name)
            if pair is not None:
                texts |= {crt: pair.certificate_pem(), key: pair.key_pem()}
        return texts


def renew(held: Held, terms: Terms, now: dt.datetime) -> Held:
    """Return what must exist at `now`; `held` itself if there is nothing to do."""
    held = _with_ca(held, terms, now)
    held = _with_trust(held, now)
    return _with_serving(held, terms, now)


def _with_ca(held: Held, terms: Terms, now: dt.datetime) -> Held:
    authority, successor = held.authority, held.successor
    if successor is not None and now >= min(
        successor.made + terms.overlap, authority.ends if authority else successor.ends
    ):
        return replace(held, authority=successor, successor=None)
    if successor is not None:
        return held
    if authority is not None and not _due(authority, now):
        return held
    fresh = make_ca(now, terms.ca_lifetime)
    if _serves(held, terms, now):  # there is time to publish the new CA first
        return replace(held, successor=fresh)
    return replace(held, authority=fresh)


def _with_trust(held: Held, now: dt.datetime) -> Held:
    known = [item for item in held.trusted if item.not_valid_after_utc > now]
    for pair in (held.authority, held.successor):
        if pair is not None and pair.certificate not in known:
            known.append(pair.certificate)
    trusted = tuple(known)
    return held if trusted == held.trusted else replace(held, trusted=trusted)


def _with_serving(held: Held, terms: Terms, now: dt.datetime) -> Held:
    if held.authority is None:
        return held  # the serving certificate is valid until there is a new CA
    if _serves(held, terms, now) and held.serving is not None and not _due(held.serving, now):
        return held
    return replace(held, serving=issue(held.authority, terms.names, now, terms.lifetime))


def _serves(held: Held, terms: Terms, now: dt.datetime) -> bool:
    """Whether the serving certificate is for the right names, trusted, and not expired."""
    serving = held.serving
    if serving is None or serving.ends <= now or not held.trusted:
        return False
    # Accept more names: otherwise two replicas with different names would never agree.
    return _names(serving.certificate) >= set(terms.names) and any(
        _signed(serving.certificate, authority) for authority in held.trusted
    )


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return set()
    return set(found.value.get_values_for_type(x509.DNSName))


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _due(pair: Pair, now: dt.datetime) -> bool:
    return now >= pair.made + (pair.ends - pair.made) * _RENEW_AFTER
