"""Which certificates there have to be, over years, with the clock passed in."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import cache

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from thruway_operator.controller.certificates.issuing import Pair, issue, make_ca, read_pair
from thruway_operator.controller.certificates.policy import Held, Terms, renew

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
TERMS = Terms(names=("thruway-operator",))


def _trusted(held: Held, now: dt.datetime) -> bool:
    """Whether a proxy that knows `held.trusted` takes what is served."""
    assert held.serving is not None
    certificate = held.serving.certificate
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        return False
    for authority in held.trusted:
        if certificate.issuer == authority.subject and authority.not_valid_after_utc > now:
            certificate.verify_directly_issued_by(authority)
            return True
    return False


@cache
def _first() -> Held:
    return renew(Held(), TERMS, NOW)


def test_the_first() -> None:
    held = _first()
    assert held.authority
    assert held.serving
    assert held.successor is None
    assert held.trusted == (held.authority.certificate,)
    names = held.serving.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["thruway-operator"]


def test_nothing_is_done_without_need() -> None:
    assert renew(_first(), TERMS, NOW + 30 * DAY) is _first()


def test_a_certificate_is_renewed_when_two_thirds_of_its_time_are_over() -> None:
    assert renew(_first(), TERMS, NOW + 59 * DAY) is _first()
    held = renew(_first(), TERMS, NOW + 61 * DAY)
    assert held.serving != _first().serving
    assert (held.authority, held.trusted) == (_first().authority, _first().trusted)


def test_an_authority_is_known_before_it_signs() -> None:
    held = _first()
    for day in range(0, 1220, 20):  # two thirds of five years are 1,217 days
        held = renew(held, TERMS, NOW + day * DAY)
    assert held.successor is None
    held = renew(held, TERMS, NOW + 1220 * DAY)
    assert held.successor is not None
    assert held.successor.certificate in held.trusted
    before = held.authority
    soon = renew(held, TERMS, held.successor.made + TERMS.overlap / 2)
    assert soon.authority == before
    later = renew(held, TERMS, held.successor.made + TERMS.overlap)
    assert later.authority == held.successor
    assert before
    assert before.certificate in later.trusted
    assert renew(later, TERMS, before.ends + DAY).trusted == (later.authority.certificate,)


def test_texts_hold_all_of_it() -> None:
    assert Held.read(_first().write()) == _first()
    assert renew(Held.read(_first().write()), TERMS, NOW).write() == _first().write()


@pytest.mark.parametrize("lost", ["tls.crt", "tls.key", "ca.crt", "authority.crt", "authority.key"])
@pytest.mark.parametrize("value", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_lost_or_damaged_is_made_again(lost: str, value: str) -> None:
    held = Held.read({**_first().write(), lost: value})
    for now in (NOW, NOW + TERMS.overlap * 2, NOW + DAY):
        held = renew(held, TERMS, now)
        assert _trusted(held, now)
    assert held.authority


def test_a_certificate_for_another_name_is_replaced() -> None:
    authority = _first().authority
    assert authority
    other = issue(authority, ["elsewhere"], NOW, TERMS.lifetime)
    held = renew(replace(_first(), serving=other), TERMS, NOW)
    assert _trusted(held, NOW)
    assert held.serving != other


def test_a_key_that_belongs_to_another_certificate_is_none() -> None:
    one, other = make_ca(NOW, DAY), make_ca(NOW, DAY)
    assert read_pair(one.certificate_pem(), other.key_pem()) is None
    assert read_pair(one.certificate_pem(), one.key_pem()) == Pair(one.certificate, one.key)


def test_no_key_is_shown() -> None:
    assert "key" not in repr(_first()).lower().replace("public_key", "")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=5, max_size=60))
def test_what_is_served_was_always_made_known_before(steps: list[int]) -> None:
    """However long nobody looks, what is served is trusted by who knows today's bundle; and a new
    authority signs nothing for as long as the overlap unless what was there could not serve."""
    held, now = _first(), NOW
    known: dict[bytes, dt.datetime] = {}
    for days in steps:
        now += days * DAY
        could_serve = _trusted(held, now)
        before, held = held, renew(held, TERMS, now)
        assert _trusted(held, now)
        for authority in held.trusted:
            known.setdefault(authority.fingerprint(authority.signature_hash_algorithm), now)  # type: ignore[arg-type]
        if held.authority != before.authority and could_serve:
            assert held.authority
            certificate = held.authority.certificate
            assert certificate in before.trusted
