"""Looks up what a route refers to, in its own namespace only."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from thruway_operator.ir import Client
from thruway_operator.resources.secret import SecretValue

if TYPE_CHECKING:
    from thruway_operator.api.destinations import Reference
    from thruway_operator.api.route import CaCertificateRef, KeyRef
    from thruway_operator.resources.model import Resources

__all__ = [
    "LookupFailed",
    "find_authority",
    "find_clients",
    "find_key",
    "find_secret",
    "is_credential",
]


_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")


@dataclass  # not frozen: a raised exception gets a traceback
class LookupFailed(Exception):  # noqa: N818 - becomes a condition
    """Something that a route refers to does not exist, or cannot be used."""

    reason: str
    message: str
    code: str = "credential_missing"
    """The `code` of requests that need it."""


def find_secret(resources: Resources, namespace: str, ref: KeyRef | Reference) -> SecretValue:
    """Return a credential, without leading and trailing white space.

    Raises:
        LookupFailed: no such Secret or key, or a value that is not allowed in a header.
    """
    value = find_key(resources, namespace, ref)
    if not is_credential(value):
        raise LookupFailed(
            "SecretInvalid",
            f"key {ref.key} of Secret {ref.name} contains a placeholder instead of a credential, "
            "because it is not ASCII: store the real credential",
        )
    return value


def is_credential(value: SecretValue) -> bool:
    """Tell whether it can be a key of an API: keys are ASCII, and `sk-…` is a placeholder."""
    return value.reveal().isascii()


def find_key(resources: Resources, namespace: str, ref: KeyRef | Reference) -> SecretValue:
    """Return a key of a Secret, without leading and trailing white space.

    Raises:
        LookupFailed: no such Secret or key, or a value that is not allowed in a header.
    """
    data = resources.secrets.get((namespace, ref.name))
    found = (data or {}).get(ref.key)
    if found is None and resources.environment is not None:
        found = resources.environment.get(ref.key)
    if found is None:
        raise _not_found(resources, namespace, ref.name, ref.key, known=data is not None)
    value = found.reveal().strip()
    if not value:
        raise LookupFailed(
            "SecretEmpty", f"key {ref.key} of Secret {ref.name} is empty: put the credential in it"
        )
    if not value.isprintable():
        raise LookupFailed(
            "SecretInvalid",
            f"key {ref.key} of Secret {ref.name} contains characters that are not allowed in a "
            "header, such as a line break: store the bare credential",
        )
    return SecretValue(value)


def find_clients(resources: Resources, namespace: str, name: str) -> tuple[Client, ...]:
    """Return the clients of a Secret whose entries are client-id: key, sorted by id.

    Raises:
        LookupFailed: no such Secret, no entry, a key that no client can send, or a duplicate key.
    """
    data = resources.secrets.get((namespace, name))
    if data is None:
        raise LookupFailed(
            "SecretNotFound",
            f"there is no Secret {name} in namespace {namespace}: create it with an entry "
            "client-id: key for each client",
            code="client_keys_missing",
        )
    clients: dict[str, Client] = {}
    for entry in sorted(data):
        key = data[entry].reveal().strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise LookupFailed(
                "SecretInvalid",
                f"entry {entry} of Secret {name} contains no key that a client can send: use "
                "printable ASCII characters without spaces",
                code="client_keys_missing",
            )
        if key in clients:
            raise LookupFailed(
                "SecretInvalid",
                f"entries {clients[key].id} and {entry} of Secret {name} contain the same key: "
                "give each client its own",
                code="client_keys_missing",
            )
        clients[key] = Client(entry, SecretValue(key))
    if not clients:
        raise LookupFailed(
            "SecretEmpty",
            f"Secret {name} is empty: add an entry client-id: key for each client",
            code="client_keys_missing",
        )
    return tuple(clients.values())


def find_authority(resources: Resources, namespace: str, ref: CaCertificateRef | Reference) -> str:
    """Return the certificates that a route refers to, as PEM, without other content.

    Raises:
        LookupFailed: no such object or key, or a value without a valid certificate.
    """
    text: str | None
    if ref.kind == "Secret":
        secret = resources.secrets.get((namespace, ref.name), {}).get(ref.key)
        text = secret.reveal() if secret else None
    else:
        text = resources.config_maps.get((namespace, ref.name), {}).get(ref.key)
    if text is None:
        raise LookupFailed(
            "CaCertificateNotFound",
            f"{ref.kind} {ref.name} with key {ref.key} does not exist: create it in namespace "
            f"{namespace}",
            code="ca_missing",
        )
    certificates = _certificates(text)
    if certificates is None:
        raise LookupFailed(
            "CaCertificateInvalid",
            f"key {ref.key} of {ref.kind} {ref.name} contains no valid PEM certificate: store "
            "the CA's certificates",
            code="ca_missing",
        )
    return certificates


@lru_cache(maxsize=64)
def _certificates(text: str) -> str | None:
    # Only the certificates are passed on, not a private key next to them. They are checked as
    # strictly as by Envoy, which would reject the whole secret.
    blocks = _CERTIFICATE.findall(text)
    pem = "".join(f"{block}\n" for block in blocks)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):  # ValueError: empty, or not ASCII
        return None
    return pem


def _not_found(
    resources: Resources, namespace: str, name: str, key: str, *, known: bool
) -> LookupFailed:
    if known:
        return LookupFailed("SecretKeyNotFound", f"Secret {name} has no key {key}: add it")
    if resources.environment is not None:
        return LookupFailed(
            "SecretNotFound",
            f"there is no Secret {name} in the files, and no environment variable {key}: "
            f"add the Secret or set the variable",
        )
    return LookupFailed(
        "SecretNotFound", f"there is no Secret {name} in namespace {namespace}: create it"
    )
