"""Finds values of Secrets that are more than a key: `Bearer sk-…`, `"sk-…"`, `OPENAI_API_KEY=sk-…`.

They are legal, so they are sent unchanged, but no API accepts them. No message repeats a value.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from thruway_operator.api.presets import NO_PRESET, PRESETS
from thruway_operator.translate.injected import credential_of, header_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator import ir
    from thruway_operator.api.destinations import Reference
    from thruway_operator.api.route import KeyRef, PassthroughRoute
    from thruway_operator.resources.model import Resources
    from thruway_operator.resources.secret import SecretValue

__all__ = ["slips_of"]

_BEARER: Final = re.compile(r"bearer\s", re.IGNORECASE)
_HEADER: Final = re.compile(r"(authorization|(x-)?api-key|x-[a-z-]+-key)\s*:", re.IGNORECASE)
_ASSIGNMENT: Final = re.compile(
    r"(export\s+)?[A-Z0-9_]*(KEY|TOKEN|SECRET|PASSWORD)[A-Z0-9_]*\s*=\s*[^=\s]"
)
_QUOTES: Final = "\"'`"


def slips_of(route: PassthroughRoute, resources: Resources) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for each value of a Secret that is more than the key."""
    for field, ref, header in _injected(route):
        value, where = _found(route, resources, ref)
        slip = _slip(value, header) if value else ""
        if slip:
            yield f"{field}.secretKeyRef", f"{where} {slip}"
    for login in route.spec.references():
        if login.use != "login":
            continue
        value, where = _found(route, resources, login)
        slip = _slip(value, None) if value else ""
        if slip:
            yield login.field, f"{where} {slip}"
    secret = route.spec.client_auth.secret_ref
    if secret is not None:
        data = resources.secrets.get((route.namespace, secret.name)) or {}
        for entry in sorted(data):
            slip = _slip(data[entry], None)
            if slip:
                where = f"entry {entry} of Secret {secret.name}"
                yield "spec.clientAuth.secretRef", f"{where} {slip}"


def _injected(route: PassthroughRoute) -> Iterator[tuple[str, KeyRef, ir.Credential]]:
    spec, namespace = route.spec, route.namespace
    preset = PRESETS[spec.provider] if spec.provider else NO_PRESET
    for destination in spec.destinations():
        if credential := destination.credential:
            field = f"{destination.field}.credential"
            yield field, credential.secret_key_ref, credential_of(namespace, credential, preset)
    for index, item in enumerate(spec.request.headers.set_from_secret):
        field = f"spec.request.headers.setFromSecret[{index}]"
        yield field, item.secret_key_ref, header_of(namespace, item)


def _found(
    route: PassthroughRoute, resources: Resources, ref: KeyRef | Reference
) -> tuple[SecretValue | None, str]:
    value = resources.secrets.get((route.namespace, ref.name), {}).get(ref.key)
    if value is not None:
        return value, f"key {ref.key} of Secret {ref.name}"
    value = (resources.environment or {}).get(ref.key)
    return value, f"the environment variable {ref.key}"


def _slip(value: SecretValue, header: ir.Credential | None) -> str:
    """Return what surrounds the key, and what to do; `header` is where it is sent."""
    text = value.reveal().strip()
    if len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0]:
        return "is wrapped in quotes, which are sent with it; store the bare key"
    if _ASSIGNMENT.match(text):
        return "begins with the name of a variable and =; store what follows"
    if _HEADER.match(text):
        return "begins with the name of a header; store the bare key"
    bare_header = header is not None and header.header == "authorization" and not header.prefix
    if header is not None and not bare_header and _BEARER.match(text):
        sent = "is sent twice" if _BEARER.match(header.prefix) else "is not part of the key"
        return f"begins with `Bearer `, which {sent}; store what follows"
    return ""
