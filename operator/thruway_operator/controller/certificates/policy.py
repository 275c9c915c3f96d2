"""Decides which certificates there have to be: pure but for the making of keys.

An authority that is about to expire gets a successor, which everybody is told to trust before
anything is signed with it. Nothing is ever served that a proxy might not trust yet.
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
    make_authority,
    read_authorities,
    read_pair,
    write_authorities,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Held", "Terms", "renew"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the certificate is for, and how long things last."""

    names: tuple[str, ...]
    """DNS names, at least one."""
    lifetime: dt.timedelta = dt.timedelta(days=90)
    authority_lifetime: dt.timedelta = dt.timedelta(days=5 * 365)
    overlap: dt.timedelta = dt.timedelta(hours=1)
    """How long a new authority is published before anything is signed with it: kubelet brings
    ConfigMaps to pods within a minute or two."""


_RENEW_AFTER: Final = 2 / 3
"""Share of its lifetime after which something gets a successor."""

_FIELDS: Final = (
    ("authority", "authority.crt", "authority.key"),
    ("successor", "successor.crt", "successor.key"),
    ("serving", "tls.crt", "tls.key"),
)


@dataclass(frozen=True, slots=True)
class Held:
    """What the Secret holds."""

    authority: Pair | None = None
    """Signs."""
    successor: Pair | None = None
    """Will sign, once it is known everywhere."""
    serving: Pair | None = None
    trusted: tuple[x509.Certificate, ...] = ()
    """Every authority that proxies have to know."""

    @classmethod
    def read(cls, data: Mapping[str, str]) -> Held:
        """Return what these texts hold; what cannot be used counts as not there."""
        pairs = {
            name: read_pair(data.get(crt, ""), data.get(key, "")) for name, crt, key in _FIELDS
        }
        return cls(**pairs, trusted=tuple(read_authorities(data.get("ca.crt", ""))))

    def write(self) -> dict[str, str]:
        """Return the texts."""
        texts = {"ca.crt": write_authorities(self.trusted)}
        for name, crt, key in _FIELDS:
            pair: Pair | None = getattr(self, name)
            if pair is not None:
                texts |= {crt: pair.certificate_pem(), key: pair.key_pem()}
        return texts


def renew(held: Held, terms: Terms, now: dt.datetime) -> Held:
    """Return what there has to be at `now`: `held` itself if nothing is to be done."""
    held = _with_authority(held, terms, now)
    held = _with_trust(held, now)
    return _with_serving(held, terms, now)


def _with_authority(held: Held, terms: Terms, now: dt.datetime) -> Held:
    authority, successor = held.authority, held.successor
    if successor is not None and now >= min(
        successor.made + terms.overlap, authority.ends if authority else successor.ends
    ):
        return replace(held, authority=successor, successor=None)
    if successor is not None:
        return held
    if authority is not None and not _due(authority, now):
        return held
    fresh = make_authority(now, terms.authority_lifetime)
    if _serves(held, terms, now):  # with it there is time to make the new one known
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
        return held  # the serving one is good until there is a new authority
    if _serves(held, terms, now) and held.serving is not None and not _due(held.serving, now):
        return held
    return replace(held, serving=issue(held.authority, terms.names, now, terms.lifetime))


def _serves(held: Held, terms: Terms, now: dt.datetime) -> bool:
    """Whether the serving certificate is for the right names, trusted, and not expired."""
    serving = held.serving
    if serving is None or serving.ends <= now or not held.trusted:
        return False
    # More names do no harm, and two replicas that want different ones would never agree.
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
