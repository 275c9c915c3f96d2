"""The contract between the operator and extproc: how the requests of one route are rewritten.

The operator writes a route's rule as compact JSON into that route's gRPC initial metadata for
ext_proc (`METADATA_KEY`); extproc reads it from there. So Envoy's route and its rule change at the
same instant, and clients cannot forge a rule, because gRPC metadata is not an HTTP header.

A rule never holds a secret. This module knows neither gRPC nor Kubernetes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = [
    "CLIENT_HEADER",
    "CREDENTIAL_HEADERS",
    "KEPT_ASIDE",
    "KEY_HEADER",
    "KEY_SUBPROTOCOL",
    "MAX_BYTES",
    "METADATA_KEY",
    "VERSION",
    "VERSION_SEGMENT",
    "Rule",
    "RuleError",
    "decode",
    "encode",
]

METADATA_KEY = "x-thruway-rule"
"""The key of the gRPC initial metadata that carries a rule from Envoy to extproc."""

VERSION = 1
"""The schema version that `encode` writes. `decode` reads only this version."""

MAX_BYTES = 4096
"""The longest encoded rule, in bytes: gRPC metadata is limited to 8 KiB in common peers."""

CREDENTIAL_HEADERS = (
    "authorization",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "x-litellm-api-key",
)
"""Request headers in which clients of AI APIs send a key. Envoy keeps them from extproc."""

CLIENT_HEADER = "x-thruway-client"
"""Envoy sends extproc the id of an authenticated client in this header. It never goes upstream."""

KEY_HEADER = "x-thruway-key"
"""The header in which Envoy holds a key sent as a WebSocket subprotocol; it never leaves Envoy."""

KEPT_ASIDE = {
    "x-forwarded-proto": "x-thruway-forwarded-proto",
    "referer": "x-thruway-referer",
}
"""Headers that Envoy itself overwrites (`X-Forwarded-Proto`) or drops (a `Referer` that is not an
absolute URL). Each maps to the name under which Envoy keeps the client's value for extproc."""

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""A browser sends its key to OpenAI's Realtime API as a WebSocket subprotocol with this prefix."""

VERSION_SEGMENT = re.compile(r"v[0-9]+[a-z0-9]*")
"""A first path segment that counts as an API version: `v1`, `v1beta`."""

Pairs = tuple[tuple[str, str], ...]


class RuleError(ValueError):
    """A rule is too large, has an unknown version, or is malformed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a request's path, authority, query and headers are rewritten.

    Header names are lower case. The upstream receives `authority` as Host. Values are literal text;
    extproc sends them as UTF-8.
    """

    strip: str
    """The route's own path, which is removed: `/openai_passthrough`."""
    base: str
    """The upstream's base path, without a trailing slash: `` or `/proxy`."""
    version: str
    """Inserted if the client's path names no version: `` or `/v1`."""
    authority: str
    """`host` or `host:port`."""
    drop_credentials: bool = False
    """Whether to remove the client's key from `Sec-WebSocket-Protocol`."""
    client_auth: bool = False
    """Whether the proxy authenticated the client; if so, `CLIENT_HEADER` holds the client's id."""
    headers_set: Pairs = ()
    headers_add: Pairs = ()
    headers_remove: tuple[str, ...] = ()
    headers_only: tuple[str, ...] = ()
    """If not empty, only these client headers and those that frame the message are forwarded."""
    query_default: Pairs = ()
    query_set: Pairs = ()
    query_remove: tuple[str, ...] = ()
    unversioned: tuple[str, ...] = ()
    """First path segments below which the API has no version: none is inserted there."""


# JSON key of each field; a field at its default is omitted.
_KEYS = {
    "strip": "s",
    "base": "b",
    "version": "p",
    "authority": "a",
    "drop_credentials": "dc",
    "client_auth": "ca",
    "headers_set": "hs",
    "headers_add": "ha",
    "headers_remove": "hr",
    "headers_only": "ho",
    "query_default": "qd",
    "query_set": "qs",
    "query_remove": "qr",
    "unversioned": "u",
}
_FLAGS = {"drop_credentials", "client_auth"}
_REQUIRED = ("strip", "base", "version", "authority")
_PAIRS = {"headers_set", "headers_add", "query_default", "query_set"}
_NAMES = {"headers_remove", "headers_only", "query_remove", "unversioned"}


def encode(rule: Rule) -> str:
    """Return the rule as compact ASCII JSON without a `%`.

    Envoy %-formats the values of gRPC initial metadata for every request, so a `%` in the user's
    text is written as the JSON escape `\\u0025`. Non-ASCII text is escaped too.

    Raises:
        RuleError: the result is longer than `MAX_BYTES`.
    """
    body: dict[str, Any] = {"v": VERSION}
    for field, key in _KEYS.items():
        value = getattr(rule, field)
        if value or field in _REQUIRED:
            body[key] = value
    text = json.dumps(body, ensure_ascii=True, separators=(",", ":")).replace("%", "\\u0025")
    if len(text) > MAX_BYTES:
        raise RuleError(
            f"the rule is {len(text)} bytes long, but at most {MAX_BYTES} are allowed: "
            "use fewer or shorter header and query rules"
        )
    return text


@lru_cache(maxsize=4096)
def decode(text: str) -> Rule:
    """Return the rule that `encode` wrote. Each distinct rule is parsed once and cached (bounded).

    Raises:
        RuleError: the text is not a rule, or has another schema version.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RuleError("the rule is not JSON") from error
    if not isinstance(body, dict):
        raise RuleError("the rule is not a JSON object")
    version = body.pop("v", None)
    if version != VERSION:
        raise RuleError(
            f"the rule has schema version {version!r}, but this extproc reads {VERSION}"
        )
    names = {key: field for field, key in _KEYS.items()}
    unknown = sorted(set(body) - set(names))
    if unknown:
        raise RuleError(f"the rule has unknown keys {', '.join(unknown)}")
    fields = {names[key]: _checked(names[key], value) for key, value in body.items()}
    missing = [field for field in _REQUIRED if field not in fields]
    if missing:
        raise RuleError(f"the rule lacks {', '.join(missing)}")
    return Rule(**fields)


def _checked(field: str, value: object) -> Any:  # noqa: ANN401 - one of the field types of Rule
    if field in _PAIRS and isinstance(value, list):
        pairs = tuple(tuple(pair) for pair in value if isinstance(pair, list))
        if len(pairs) == len(value) and all(
            len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs
        ):
            return pairs
    elif field in _NAMES and isinstance(value, list):
        if all(isinstance(name, str) for name in value):
            return tuple(value)
    elif field in _FLAGS:
        if isinstance(value, bool):
            return value
    elif field in _REQUIRED and isinstance(value, str):
        return value
    raise RuleError(f"the rule's {field} has the wrong type")
