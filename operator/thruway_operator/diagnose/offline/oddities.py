"""What is legal but odd in the routes and Secrets: probably not what was meant.

Each check is a generator of (field, message) for one route; none repeats a value that may be a key.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from thruway_operator.api.checks import looks_like_a_key
from thruway_operator.translate.certificates import find_certificate
from thruway_operator.translate.credentials import (
    LookupFailed,
    find_authority,
    find_clients,
    find_secret,
)
from thruway_operator.translate.forwardproxy import find_login
from thruway_operator.translate.presets import PRESETS
from thruway_operator.translate.slips import slips_of
from thruway_operator.translate.upstream import Address, read_url
from thruway_operator.translate.verdict import Refused
from thruway_operator.translate.versions import final_version, has_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thruway_operator.api.route import (
        Credential,
        KeyRef,
        NameValue,
        PassthroughRoute,
        QueryNameValue,
        Upstream,
    )
    from thruway_operator.resources.model import Resources

__all__ = ["fallbacks_of", "missing_of", "oddities_of", "referenced"]

Oddity = tuple[str, str]
Way = tuple[str, "Upstream", "Credential | None", str]
"""Field of the upstream, the upstream, its credential, and the credential's field."""

_VERSION = re.compile(r"/v[0-9]+[a-z0-9]*(/|$)")
_PRIVATE = (
    ".localhost",
    ".local",
    ".internal",
    ".svc",
    ".lan",
    ".home.arpa",
    ".test",
    ".example",
    ".invalid",
)


def missing_of(route: PassthroughRoute, resources: Resources) -> Iterator[Oddity]:
    """Yield what the route refers to and is not there, or is of no use."""
    for field, upstream, _, _ in _ways(route):
        if upstream.tls.ca_certificate_ref is not None:
            try:
                find_authority(resources, route.namespace, upstream.tls.ca_certificate_ref)
            except LookupFailed as failure:
                yield f"{field}.tls.caCertificateRef", _until(failure, "ca_missing")
        if upstream.tls.client_certificate_ref is not None:
            try:
                name = upstream.tls.client_certificate_ref.name
                find_certificate(resources, route.namespace, name)
            except LookupFailed as failure:
                code = "client_certificate_missing"
                yield f"{field}.tls.clientCertificateRef", _until(failure, code)
        if upstream.proxy is not None and upstream.proxy.secret_key_ref is not None:
            try:
                find_login(resources, route.namespace, upstream.proxy.secret_key_ref)
            except LookupFailed as failure:
                yield f"{field}.proxy.secretKeyRef", _until(failure, "credential_missing")
    for field, ref in _injected(route):
        try:
            find_secret(resources, route.namespace, ref)
        except LookupFailed as failure:
            yield field, _until(failure, "credential_missing")
    auth = route.spec.client_auth
    if auth.type == "APIKey" and auth.secret_ref is not None:
        try:
            find_clients(resources, route.namespace, auth.secret_ref.name)
        except LookupFailed as failure:
            yield "spec.clientAuth.secretRef", _until(failure, "client_keys_missing")


def fallbacks_of(route: PassthroughRoute, resources: Resources) -> Iterator[Oddity]:
    """Yield where the environment stands in for a Secret, though the files hold others.

    `resources` as written: what `--api-key` adds is no Secret of the user's.
    """
    held = [name for namespace, name in resources.secrets if namespace == route.namespace]
    for field, ref in _injected(route):
        if not held or ref.key not in (resources.environment or {}):
            continue
        data = resources.secrets.get((route.namespace, ref.name))
        if data is None or ref.key not in data:
            lacks = f"Secret {ref.name} has no key {ref.key}"
            missing = f"there is no Secret {ref.name} in the files"
            yield (
                field,
                f"{missing if data is None else lacks}, so the environment variable {ref.key} is "
                "used; correct the name if a Secret of the files is meant",
            )


def _until(failure: LookupFailed, code: str) -> str:
    return f"{failure.message}; until then its requests get 503 {code}"


def referenced(resources: Resources) -> set[tuple[str, str, str]]:
    """Return (kind, namespace, name) of each Secret and ConfigMap that some route refers to."""
    found: set[tuple[str, str, str]] = set()
    for route in resources.routes:
        found |= {("Secret", route.namespace, ref.name) for _, ref in _injected(route)}
        for _, upstream, _, _ in _ways(route):
            if upstream.proxy is not None and (login := upstream.proxy.secret_key_ref):
                found.add(("Secret", route.namespace, login.name))
            if ref := upstream.tls.ca_certificate_ref:
                found.add((ref.kind, route.namespace, ref.name))
            if certificate := upstream.tls.client_certificate_ref:
                found.add(("Secret", route.namespace, certificate.name))
        if secret := route.spec.client_auth.secret_ref:
            found.add(("Secret", route.namespace, secret.name))
    return found


def oddities_of(route: PassthroughRoute, resources: Resources) -> Iterator[Oddity]:
    """Yield what is odd in a route that is served."""
    yield from _path(route)
    yield from _versions(route)
    yield from _hostnames(route)
    yield from _credentials(route, resources)
    yield from slips_of(route, resources)
    yield from _clear_text(route)
    yield from _overrides(route)
    yield from _retries(route)
    yield from _duplicates(route)
    yield from _keys_in_rules(route)


def _ways(route: PassthroughRoute) -> list[Way]:
    spec = route.spec
    ways: list[Way] = [("spec.upstream", spec.upstream, spec.credential, "spec.credential")]
    for index, override in enumerate(spec.overrides):
        field = f"spec.overrides[{index}]"
        way = (f"{field}.upstream", override.upstream, override.credential, f"{field}.credential")
        ways.append(way)
    return ways


def _injected(route: PassthroughRoute) -> list[tuple[str, KeyRef]]:
    """Return what is put into requests, each with the field that refers to it."""
    found = [
        (f"{field}.secretKeyRef", credential.secret_key_ref)
        for _, _, credential, field in _ways(route)
        if credential is not None
    ]
    for index, header in enumerate(route.spec.request.headers.set_from_secret):
        field = f"spec.request.headers.setFromSecret[{index}].secretKeyRef"
        found.append((field, header.secret_key_ref))
    return found


def _address(route: PassthroughRoute, upstream: Upstream) -> Address | None:
    preset = PRESETS[route.spec.provider].url if route.spec.provider else ""
    try:
        return read_url(upstream.url or preset, "")
    except Refused:
        return None


def _path(route: PassthroughRoute) -> Iterator[Oddity]:
    if _VERSION.search(route.spec.path):
        yield (
            "spec.path",
            "holds a version, which belongs to what follows the route's path; leave it out: where "
            "clients do not append one, the upstream's versionPrefix is inserted",
        )


def _versions(route: PassthroughRoute) -> Iterator[Oddity]:
    for field, upstream, _, _ in _ways(route):
        address, version = _address(route, upstream), upstream.version_prefix
        if (
            address
            and version
            and has_version(address.base)
            and final_version(address.base) != version
        ):
            yield (
                f"{field}.versionPrefix",
                "is inserted behind the base path of url, which names a version already; leave it "
                "out, unless the API has both",
            )


def _hostnames(route: PassthroughRoute) -> Iterator[Oddity]:
    if route.spec.hostnames:
        yield (
            "spec.hostnames",
            "localhost is not this route's on a laptop: only requests with such a Host reach it; "
            "leave hostnames out to try it there",
        )


def _credentials(route: PassthroughRoute, resources: Resources) -> Iterator[Oddity]:
    spec = route.spec
    if spec.credential is None and spec.client_auth.type == "None":
        yield (
            "spec.credential",
            "is not set, so the client's own credential passes on; set secretKeyRef if Thruway is "
            "to put the key in",
        )
    for _, upstream, credential, field in _ways(route):
        if credential is None:
            continue
        preset = PRESETS[spec.provider] if spec.provider else None
        own = upstream is spec.upstream and upstream.url is None
        header = (credential.header or "").lower()
        if preset and own and header and header != preset.header:
            yield (
                f"{field}.header",
                f"is not where {spec.provider} expects the key, which is {preset.header}; leave "
                "header out, or set the upstream.url of the API that is meant",
            )
        elif preset and own and credential.prefix not in (None, preset.prefix):
            yield (
                f"{field}.prefix",
                f"is not what {spec.provider} expects in front of the key; leave prefix out",
            )
    for field, ref in _injected(route):
        value = resources.secrets.get((route.namespace, ref.name), {}).get(ref.key)
        where = f"key {ref.key} of Secret {ref.name}"
        if value is None:
            value = (resources.environment or {}).get(ref.key)
            where = f"the environment variable {ref.key}"
        if value is not None and value.reveal().strip() not in ("", value.reveal()):
            yield (
                field,
                f"{where} has white space around its value, which is left out; store the bare key "
                "(with `echo -n`)",
            )


def _clear_text(route: PassthroughRoute) -> Iterator[Oddity]:
    more = bool(route.spec.request.headers.set_from_secret)
    for field, upstream, credential, _ in _ways(route):
        address = _address(route, upstream)
        sent = credential or (more and upstream is route.spec.upstream)
        if sent and address and not address.secure and _is_public(address):
            yield (
                f"{field}.url",
                "is http:// to a public host, so the key passes the network in clear text; use "
                "https://",
            )


def _is_public(address: Address) -> bool:
    host = address.host.removesuffix(".")
    if address.is_ip:
        return ipaddress.ip_address(host).is_global
    return "." in host and not host.endswith(_PRIVATE) and ".svc." not in host


def _overrides(route: PassthroughRoute) -> Iterator[Oddity]:
    spec = route.spec
    own = _address(route, spec.upstream)
    for index, override in enumerate(spec.overrides):
        field = f"spec.overrides[{index}]"
        if own is not None and _address(route, override.upstream) == own:
            said = "is the route's own upstream"
            if (
                override.credential == spec.credential
                and override.upstream.tls == spec.upstream.tls
            ):
                yield f"{field}.upstream.url", f"{said}, so the override changes nothing; remove it"
            elif override.credential is None:
                yield (
                    f"{field}.upstream.url",
                    f"{said}, but without its credential, which overrides do not inherit; give the "
                    "override one, or remove the override",
                )


def _retries(route: PassthroughRoute) -> Iterator[Oddity]:
    retries = route.spec.retries
    if retries.attempts == 0 and "retry_on" in retries.model_fields_set:
        yield (
            "spec.retries.retryOn",
            "has no meaning with attempts: 0; remove it, or set attempts",
        )


def _duplicates(route: PassthroughRoute) -> Iterator[Oddity]:
    spec = route.spec
    headers, query = spec.request.headers, spec.request.query
    lists: dict[str, Sequence[str]] = {
        "spec.hostnames": spec.hostnames,
        "spec.request.methods": spec.request.methods,
        "spec.request.headers.forwardOnly": [name.lower() for name in headers.forward_only],
        "spec.request.query.remove": query.remove,
        "spec.retries.retryOn": spec.retries.retry_on,
    }
    for field, names in lists.items():
        for index, name in enumerate(names):
            if name in names[:index]:
                first = names.index(name)
                yield f"{field}[{index}]", f"is the same as [{first}]; remove one of them"


def _keys_in_rules(route: PassthroughRoute) -> Iterator[Oddity]:
    request, response = route.spec.request, route.spec.response
    rules: dict[str, Sequence[NameValue | QueryNameValue]] = {
        "spec.request.headers.set": request.headers.set,
        "spec.request.headers.add": request.headers.add,
        "spec.request.query.default": request.query.default,
        "spec.request.query.set": request.query.set,
        "spec.response.headers.set": response.headers.set,
        "spec.response.headers.add": response.headers.add,
    }
    for field, items in rules.items():
        for index, item in enumerate(items):
            if looks_like_a_key(item.value):
                yield (
                    f"{field}[{index}].value",
                    "looks like an API key, which everybody can read here; put it into a Secret, "
                    "and use `credential`",
                )
