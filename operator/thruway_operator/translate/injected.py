"""Headers whose values come from Secrets: the credential, and `request.headers.setFromSecret`.

Rules must name neither these headers nor the header of a client's key: one would undo the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_extproc.rule import CREDENTIAL_HEADERS
from thruway_operator import ir
from thruway_operator.translate.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thruway_operator.api.presets import Preset
    from thruway_operator.api.route import (
        Credential,
        KeyRef,
        PassthroughRouteSpec,
        RequestHeaderRules,
        SecretHeader,
    )

__all__ = ["check_headers", "credential_of", "header_of", "removed_by_proxy"]


def credential_of(namespace: str, credential: Credential, preset: Preset) -> ir.Credential:
    """Return how a credential is injected; the provider's values are the defaults."""
    header = (credential.header or preset.header).lower()
    prefix = credential.prefix
    if prefix is None and header == preset.header:
        prefix = preset.prefix
    return _injected(namespace, credential.secret_key_ref, header, prefix)


def header_of(namespace: str, item: SecretHeader) -> ir.Credential:
    """Return how an entry of `setFromSecret` is injected."""
    return _injected(namespace, item.secret_key_ref, item.name.lower(), item.prefix)


def _injected(namespace: str, ref: KeyRef, header: str, prefix: str | None) -> ir.Credential:
    if prefix is None:
        prefix = "Bearer " if header == "authorization" else ""
    return ir.Credential(f"{namespace}/{ref.name}/{ref.key}", header, prefix)


def check_headers(
    spec: PassthroughRouteSpec,
    credential: ir.Credential | None,
    more: Sequence[ir.Credential] = (),
) -> None:
    """Reject rules for a header that carries a secret; `more` are those of `setFromSecret`.

    Raises:
        Refused: names the rule.
    """
    own = credential.header if credential else ""
    key = (spec.client_auth.header or "").lower()
    injected = {item.header for item in more}
    if own in injected:
        raise _refused("setFromSecret", own, "carries the credential: remove it from the rules")
    for verb, name in _named(spec.request.headers):
        lower = name.lower()
        if lower == own and verb != "forwardOnly":
            raise _refused(verb, name, "carries the credential: remove it from the rules")
        if lower == key:
            raise _refused(verb, name, "carries Thruway's key: remove it from the rules")
        if lower in injected and verb != "forwardOnly":
            raise _refused(verb, name, "is also in setFromSecret: keep one of the two")


def _named(rules: RequestHeaderRules) -> Iterator[tuple[str, str]]:
    yield from (("set", item.name) for item in rules.set)
    yield from (("add", item.name) for item in rules.add)
    yield from (("remove", name) for name in rules.remove)
    yield from (("forwardOnly", name) for name in rules.forward_only)


def _refused(verb: str, name: str, why: str) -> Refused:
    return Refused("Invalid", f"spec.request.headers.{verb} names {name}, which {why}")


def removed_by_proxy(
    rules: RequestHeaderRules, injected: tuple[ir.Credential, ...], *, drop_credentials: bool
) -> tuple[str, ...]:
    """Return the client headers that the proxy itself removes, because extproc never sees them."""
    replaced = tuple(item.header for item in injected)
    if drop_credentials:
        return tuple(dict.fromkeys((*CREDENTIAL_HEADERS, *replaced)))
    listed = {name.lower() for name in rules.forward_only}
    removed = {name.lower() for name in rules.remove}
    unwanted = (
        name for name in CREDENTIAL_HEADERS if name in removed or (listed and name not in listed)
    )
    return tuple(dict.fromkeys((*unwanted, *replaced)))
