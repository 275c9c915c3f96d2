"""Compares the CA bundles of the operator, the webhook and the namespace."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes

from thruway_operator.controller.certificates.issuing import read_certificates
from thruway_operator.diagnose.findings.conventions import AUTHORITY, namespace_of
from thruway_operator.diagnose.findings.operator import serving_operators
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Answer, Facts
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["bundle_fault", "check_certificate", "decoded", "fingerprints", "published"]


def published(facts: Facts) -> frozenset[bytes]:
    """Return the fingerprints of the operator's published CAs; empty if they are unknown."""
    found: frozenset[bytes] = frozenset()
    for pod in serving_operators(facts):
        answer = facts.published.get(namespace_of(pod))
        if answer is not None:
            found |= fingerprints(_text(answer))
    return found


def fingerprints(text: str) -> frozenset[bytes]:
    """Return the SHA-256 fingerprints of the certificates in a PEM bundle."""
    return frozenset(item.fingerprint(hashes.SHA256()) for item in read_certificates(text))


def decoded(bundle: str) -> str:
    """Return a base64-encoded caBundle as PEM; "" if it is invalid."""
    try:
        return base64.b64decode(bundle, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def bundle_fault(text: str, now: dt.datetime) -> str:
    """Return the fault of a PEM bundle, or ""."""
    found = read_certificates(text)
    if not found:
        return "contains no readable certificate"
    last = max(item.not_valid_after_utc for item in found)
    if last <= now:
        return f"expired on {last.date()}"
    return ""


def check_certificate(facts: Facts) -> Iterator[Step]:
    """Yield whether the namespace's proxies get the CA with which they verify the operator."""
    name, where = "certificate", f"ConfigMap {AUTHORITY} in namespace {facts.namespace}"
    if not (facts.authority.there or facts.authority.absent):
        yield unchecked(name, facts.authority.reason)
        return
    if facts.authority.absent:
        yield failed(
            name,
            f"{where} does not exist, so no sidecar can verify the operator's certificate",
            "the operator creates it in each namespace with a route or the label "
            "thruway.dev/inject=enabled: see its log for the permission that it lacks",
        )
        return
    text = _text(facts.authority)
    fault = bundle_fault(text, facts.now)
    delete = f"kubectl -n {facts.namespace} delete configmap {AUTHORITY}"
    again = f"delete it, and the operator recreates it: {delete}"
    if fault:
        yield failed(name, f"ca.crt of {where} {fault}", again)
        return
    signing = published(facts)
    if signing and signing != fingerprints(text):
        yield failed(name, f"ca.crt of {where} is not the operator's current CA", again)
        return
    more = "" if signing else "; it could not be compared with the operator's own"
    yield good(name, f"{where} contains the operator's CA{more}")


def _text(answer: Answer) -> str:
    return str(((answer.value or {}).get("data") or {}).get("ca.crt", ""))
