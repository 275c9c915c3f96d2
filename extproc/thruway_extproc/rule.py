"""The contract between the operator and extproc: what is done to the requests of one route.

The operator writes a route's rule as compact JSON into that route's gRPC initial metadata for
ext_proc (`METADATA_KEY`); extproc reads it from there. So Envoy's route and its rule change in the
same instant, and clients cannot forge it (gRPC metadata is not an HTTP header).

A rule holds no secret, ever. This module knows neither gRPC nor Kubernetes.
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
"""The schema version that `encode` writes; `decode` reads this one only."""

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
"""In which Envoy tells extproc the id of an authenticated client; it never goes upstream."""

KEY_HEADER = "x-thruway-key"
"""In which Envoy holds a key that came as a WebSocket subprotocol; it goes nowhere else."""

KEPT_ASIDE = {
    "x-forwarded-proto": "x-thruway-forwarded-proto",
    "referer": "x-thruway-referer",
}
"""Headers that Envoy itself writes over (`X-Forwarded-Proto`) or drops (a `Referer` that is no
absolute URL), each with the name under which the client's own is kept until extproc sees it."""

KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""How a browser sends its key to OpenAI's Realtime API: a WebSocket subprotocol with this start."""

VERSION_SEGMENT = re.compile(r"v[0-9]+[a-z0-9]*")
"""A first path segment that counts as an API version: `v1`, `v1beta`."""

Pairs = tuple[tuple[str, str], ...]


class RuleError(ValueError):
    """A rule is too large, of an unknown version, or not a rule at all."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done to a request's path, authority, query and headers.

    Header names are lower case. `authority` is what the upstream gets as Host. Values are literal
    text; extproc sends them as UTF-8.
    """

    strip: str
    """The route's own path, which is taken off: `/openai_passthrough`."""
    base: str
    """The upstream's base path, without a slash at its end: `` or `/proxy`."""
    version: str
    """Inserted where the client's path names no version: `` or `/v1`."""
    authority: str
    """`host` or `host:port`."""
    drop_credentials: bool = False
    """Whether the client's key may not pass: it is taken out of `Sec-WebSocket-Protocol`."""
    client_auth: bool = False
    """Whether the proxy has authenticated the client, whose id then stands in `CLIENT_HEADER`."""
    headers_set: Pairs = ()
    headers_add: Pairs = ()
    headers_remove: tuple[str, ...] = ()
    headers_only: tuple[str, ...] = ()
    """If not empty, the only client headers that pass on, beside those that frame the message."""
    query_default: Pairs = ()
    query_set: Pairs = ()
    query_remove: tuple[str, ...] = ()
    unversioned: tuple[str, ...] = ()
    """First segments below which the API has no version: nothing is inserted there."""


# JSON key of each field; a field at its default is left out.
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

    Envoy %-formats the values of gRPC initial metadata for every request, so a `%` of the user's is
    written as the JSON escape `\\u0025`, and non-ASCII text as JSON escapes too.

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
            f"the rule is {len(text)} bytes long, at most {MAX_BYTES} are allowed: "
            "use fewer or shorter header and query rules"
        )
    return text


@lru_cache(maxsize=4096)
def decode(text: str) -> Rule:
    """Return the rule that `encode` wrote; each distinct rule is parsed once and kept (bounded).

    Raises:
        RuleError: the text is no rule, or one of another schema version.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RuleError("the rule is not JSON") from error
    if not isinstance(body, dict):
        raise RuleError("the rule is not a JSON object")
    version = body.pop("v", None)
    if version != VERSION:
        raise RuleError(f"the rule has schema version {version!r}, this extproc reads {VERSION}")
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
