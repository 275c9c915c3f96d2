"""Checks that no pattern can express: reserved names, and duplicates.

Each raises `ValueError` with the reason and the remedy; pydantic adds the field. Messages never
repeat the user's text, which may be a key in the wrong place, except for the names listed here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thruway_extproc.rule import CREDENTIAL_HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "HOP_BY_HOP",
    "KEY_PATTERN",
    "check_header_of_key",
    "check_header_of_secret",
    "check_header_removed",
    "check_header_written",
    "check_names_a_key",
    "check_origin",
    "check_response_header_removed",
    "check_unique",
    "looks_like_a_key",
]

# RFC 9110, 7.6.1, and RFC 9112; Envoy manages them for each connection.
HOP_BY_HOP = (
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
)
# Keys of OpenAI and Anthropic, Groq, xAI and Google. Names of entries do not look like that.
KEY_PATTERN = r"(sk|gsk|xai)-.{8}|gsk_.{16}|AIza.{16}"
_LOOKS_LIKE_A_KEY = re.compile(KEY_PATTERN)
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")
_THRUWAYS = "x-thruway-"
_OURS = ("x-envoy-", _THRUWAYS)
# The access log shows them.
LOGGED = ("user-agent", "x-request-id")
# They mean something else; Envoy or the upstream reads them.
TAKEN = ("accept", "cookie", "date", "expect", "origin", "referer")
TAKEN_PREFIXES = ("accept-", "access-control-", "content-", "sec-", "x-forwarded-")


def check_header_written(name: str) -> str:
    """Return the name of a header to `set` or `add`; reject one that a rule must not write."""
    check_header_removed(name)
    if name.lower() in CREDENTIAL_HEADERS:
        raise ValueError(
            f"{name} carries a credential, which rules must not contain: use `credential`, "
            "so that the key stays in a Secret"
        )
    return name


def check_header_removed(name: str) -> str:
    """Return the name of a header to `remove`; reject one that a rule must not touch."""
    _check_touched(name)
    if name.lower().startswith(_OURS):
        raise ValueError("names that begin with x-envoy- or x-thruway- are reserved: use another")
    return name


def check_response_header_removed(name: str) -> str:
    """Return the name of a header to `remove` from responses.

    Unlike a client's, an upstream's `x-envoy-*` headers pass on, so a rule may remove them.
    """
    _check_touched(name)
    if name.lower().startswith(_THRUWAYS):
        raise ValueError("names that begin with x-thruway- are reserved: remove it")
    return name


def _check_touched(name: str) -> None:
    lower = name.lower()
    if lower in HOP_BY_HOP:
        raise ValueError(f"{name} belongs to one connection, not to the message: remove it")
    if lower in ("host", "content-length"):
        raise ValueError(f"{name} is set from the upstream's URL or the body: remove it")


def check_header_of_secret(name: str) -> str:
    """Return the name of a header that carries a secret; reject one that cannot."""
    check_header_removed(name)
    if name.lower() in LOGGED:
        raise ValueError(f"{name} is written to the log: use another header for a secret")
    return name


def check_header_of_key(name: str) -> str:
    """Return the name of the header for a client's key; reject one with another purpose."""
    check_header_of_secret(name)
    if not _PLAIN_NAME.fullmatch(name):  # it becomes part of an expression
        raise ValueError(
            "may only contain letters, digits, - and _: use a name such as X-Proxy-Key"
        )
    if name.lower() in TAKEN or name.lower().startswith(TAKEN_PREFIXES):
        raise ValueError(
            f"{name} has another purpose: use a header that carries nothing else, such as "
            "X-Proxy-Key"
        )
    return name


def check_names_a_key(name: str) -> str:
    """Return the name of a Secret's key; reject an API key that was pasted there.

    Conditions and errors show names, so they would show the API key too.
    """
    if _LOOKS_LIKE_A_KEY.match(name):
        raise ValueError(
            "looks like an API key itself: put it into a Secret, and name the Secret's key here"
        )
    return name


def looks_like_a_key(text: str) -> bool:
    """Tell whether the text contains something that looks like a key of a well-known API."""
    return _LOOKS_LIKE_A_KEY.search(text) is not None


def check_origin(origin: str) -> str:
    """Return an origin; reject one that no browser sends."""
    if re.match(r"http://.*:80$|https://.*:443$", origin):
        raise ValueError("names the scheme's default port, which browsers omit: omit it too")
    return origin


def check_unique(names: list[str], key: Callable[[str], str]) -> list[str]:
    """Return the names; reject duplicates (compared by `key`)."""
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        first = seen.setdefault(key(name), index)
        if first != index:
            raise ValueError(f"entries [{first}] and [{index}] have the same name: keep one")
    return names
