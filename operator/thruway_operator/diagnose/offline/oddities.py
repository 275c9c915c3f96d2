"""Finds what is legal in routes and Secrets, but probably a mistake.

Each check yields (field, message) for one route. None repeats a value that may be a key.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from thruway_operator.api.checks import looks_like_a_key
from thruway_operator.api.presets import PRESETS
from thruway_operator.translate.certificates import find_certificate
from thruway_operator.translate.credentials import (
    LookupFailed,
    find_authority,
    find_clients,
    find_secret,
)
from thruway_operator.translate.forwardproxy import find_login
from thruway_operator.translate.slips import slips_of
from thruway_operator.translate.upstream import Address, read_url
from thruway_operator.translate.verdict import Refused
from thruway_operator.translate.versions import final_version, has_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thruway_operator.api.destinations import Destination, Reference
    from thruway_operator.api.route import NameValue, PassthroughRoute, QueryNameValue
    from thruway_operator.resources.model import Resources

__all__ = ["fallbacks_of", "missing_of", "oddities_of", "referenced"]

Oddity = tuple[str, str]

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
    """Yield references whose objects do not exist or cannot be used."""
    for ref in route.spec.references():
        if ref.use == "clients" and route.spec.client_auth.type != "APIKey":
            continue
        try:
            _find(ref, route.namespace, resources)
        except LookupFailed as failure:
            yield ref.field, f"{failure.message}; until then its requests get 503 {failure.code}"


def _find(ref: Reference, namespace: str, resources: Resources) -> object:
    match ref.use:
        case "ca":
            return find_authority(resources, namespace, ref)
        case "certificate":
            return find_certificate(resources, namespace, ref.name)
        case "clients":
            return find_clients(resources, namespace, ref.name)
        case "login":
            return find_login(resources, namespace, ref)
        case _:
            return find_secret(resources, namespace, ref)


def fallbacks_of(route: PassthroughRoute, resources: Resources) -> Iterator[Oddity]:
    """Yield where the environment replaces a Secret, although the files contain others.

    `resources` are as written: what `--api-key` adds is not a Secret of the user's.
    """
    held = [name for namespace, name in resources.secrets if namespace == route.namespace]
    for ref in _injected(route):
        if not held or ref.key not in (resources.environment or {}):
            continue
        data = resources.secrets.get((route.namespace, ref.name))
        if data is None or ref.key not in data:
            lacks = f"Secret {ref.name} has no key {ref.key}"
            missing = f"there is no Secret {ref.name} in the files"
            yield (
                ref.field,
                f"{missing if data is None else lacks}, so the environment variable {ref.key} is "
                "used; correct the name if you mean a Secret in the files",
            )


def referenced(resources: Resources) -> set[tuple[str, str, str]]:
    """Return (kind, namespace, name) of each Secret and ConfigMap that some route refers to."""
    return {
        (ref.kind, route.namespace, ref.name)
        for route in resources.routes
        for ref in route.spec.references()
    }


def oddities_of(route: PassthroughRoute, resources: Resources) -> Iterator[Oddity]:
    """Yield the oddities of a route that is served."""
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


def _injected(route: PassthroughRoute) -> list[Reference]:
    """Return the references whose values are put into requests."""
    return [ref for ref in route.spec.references() if ref.sends]


def _address(destination: Destination) -> Address | None:
    try:
        return read_url(destination.url, "")
    except Refused:
        return None


def _path(route: PassthroughRoute) -> Iterator[Oddity]:
    if _VERSION.search(route.spec.path):
        yield (
            "spec.path",
            "contains a version, which belongs after the route's path; remove it: if clients "
            "append none, the upstream's versionPrefix is inserted",
        )


def _versions(route: PassthroughRoute) -> Iterator[Oddity]:
    for item in route.spec.destinations():
        address, version = _address(item), item.upstream.version_prefix
        if (
            address
            and version
            and has_version(address.base)
            and final_version(address.base) != version
        ):
            yield (
                f"{item.field}.upstream.versionPrefix",
                "is inserted after the base path of url, which already contains a version; remove "
                "it, unless the API has both",
            )


def _hostnames(route: PassthroughRoute) -> Iterator[Oddity]:
    if route.spec.hostnames:
        yield (
            "spec.hostnames",
            "on a laptop, requests to localhost do not reach this route, only those with such a "
            "Host; remove hostnames to try it there",
        )


def _credentials(route: PassthroughRoute, resources: Resources) -> Iterator[Oddity]:
    spec = route.spec
    if spec.credential is None and spec.client_auth.type == "None":
        yield (
            "spec.credential",
            "is not set, so the client's own credential is forwarded; set secretKeyRef if Thruway "
            "should inject the key",
        )
    for item in spec.destinations():
        if (credential := item.credential) is None:
            continue
        field = f"{item.field}.credential"
        preset = PRESETS[spec.provider] if spec.provider else None
        own = not item.path and item.upstream.url is None
        header = (credential.header or "").lower()
        if preset and own and header and header != preset.header:
            yield (
                f"{field}.header",
                f"is not where {spec.provider} expects the key, which is {preset.header}; remove "
                "header, or set the upstream.url of the intended API",
            )
        elif preset and own and credential.prefix not in (None, preset.prefix):
            yield (
                f"{field}.prefix",
                f"is not what {spec.provider} expects before the key; remove prefix",
            )
    for ref in _injected(route):
        value = resources.secrets.get((route.namespace, ref.name), {}).get(ref.key)
        where = f"key {ref.key} of Secret {ref.name}"
        if value is None:
            value = (resources.environment or {}).get(ref.key)
            where = f"the environment variable {ref.key}"
        if value is not None and value.reveal().strip() not in ("", value.reveal()):
            yield (
                ref.field,
                f"{where} has white space around its value, which is removed; store the bare key "
                "(with `echo -n`)",
            )


def _clear_text(route: PassthroughRoute) -> Iterator[Oddity]:
    more = bool(route.spec.request.headers.set_from_secret)
    for item in route.spec.destinations():
        address = _address(item)
        sent = item.credential or (more and not item.path)
        if sent and address and not address.secure and _is_public(address):
            yield (
                f"{item.field}.upstream.url",
                "is http:// to a public host, so the key crosses the network in clear text; use "
                "https://",
            )


def _is_public(address: Address) -> bool:
    host = address.host.removesuffix(".")
    if address.is_ip:
        return ipaddress.ip_address(host).is_global
    return "." in host and not host.endswith(_PRIVATE) and ".svc." not in host


def _overrides(route: PassthroughRoute) -> Iterator[Oddity]:
    main, *overrides = route.spec.destinations()
    own = _address(main)
    for item in overrides:
        field = f"{item.field}.upstream.url"
        if own is not None and _address(item) == own:
            said = "is the route's own upstream"
            if item.credential == main.credential and item.upstream.tls == main.upstream.tls:
                yield field, f"{said}, so the override changes nothing; remove it"
            elif item.credential is None:
                yield (
                    field,
                    f"{said}, but without its credential, which overrides do not inherit; give the "
                    "override one, or remove the override",
                )


def _retries(route: PassthroughRoute) -> Iterator[Oddity]:
    retries = route.spec.retries
    if retries.attempts == 0 and "retry_on" in retries.model_fields_set:
        yield (
            "spec.retries.retryOn",
            "has no effect with attempts: 0; remove it, or set attempts",
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
                    "looks like an API key, which everybody can read here; move it to a Secret, "
                    "and use `credential`",
                )
