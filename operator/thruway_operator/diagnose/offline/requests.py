"""Reads METHOD, URL and headers as a client would send them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args
from urllib.parse import urlsplit

from thruway_operator.api.checks import looks_like_a_key
from thruway_operator.api.route import Method
from thruway_operator.envoy.matching import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AskError", "read_request"]

_METHODS = (*get_args(Method), "CONNECT")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")  # RFC 9110, 9.1

_LONGEST = 60 * 1024  # bytes: what the listener takes of all headers
_MOST_HEADERS = 200
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*(.*?)[ \t]*", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")
_SCHEMES = ("http", "https", "ws", "wss")


class AskError(Exception):
    """It is not a valid request; the message is a sentence that repeats none of it."""


def read_request(method: str, url: str, headers: Sequence[str], port: int) -> Request:
    """Return the request; `url` may be only a path, which means localhost and `port`.

    Raises:
        AskError: one of the arguments cannot be sent.
    """
    if not _TOKEN.fullmatch(method) or looks_like_a_key(method):
        hint = "first METHOD, then URL" if "/" in method else "give a word such as GET"
        raise AskError(f"METHOD is not one that Thruway forwards: {hint}")
    if method.upper() in _METHODS:  # other methods pass too, and their case matters
        method = method.upper()
    host, target = _read_url(url, port)
    fragment = "#" in url
    read = [_read_header(number, text) for number, text in enumerate(headers, 1)]
    if len(read) > _MOST_HEADERS:
        raise AskError(
            f"-H is given more than {_MOST_HEADERS} times: Envoy accepts no more headers"
        )
    hosts = [value for name, value in read if name == "host"]
    if len(hosts) > 1:
        raise AskError("-H gives Host twice: keep one")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise AskError("-H gives an invalid Host: write it as localhost:4000")
    rest = tuple((name, value) for name, value in read if name != "host")
    return Request(method, hosts[0] if hosts else host, target, rest, fragment)


def _read_url(url: str, port: int) -> tuple[str, str]:
    if not url:
        raise AskError("URL is empty: write it as /openai_passthrough/v1/models")
    if len(url) > _LONGEST:
        raise AskError(f"URL is longer than {_LONGEST >> 10} KiB: Envoy accepts no more")
    if not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
        raise AskError(
            "URL contains a space or a character that is not printable ASCII: percent-encode it"
        )
    url = url.partition("#")[0]  # which no client sends; `explain` says so
    if url.startswith("/"):
        return f"localhost:{port}", url
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() not in _SCHEMES:
        raise AskError("URL must begin with http://, https:// or /")
    try:
        authority = urlsplit(url).netloc
    except ValueError:
        raise AskError("URL has no valid host: write it as http://localhost:4000/…") from None
    if "@" in authority:
        raise AskError("URL contains a user or password: give -H 'Authorization: …' instead")
    if not _HOST.fullmatch(authority):
        raise AskError("URL has no valid host and port: write it as http://localhost:4000/…")
    target = rest[len(authority) :]
    return authority, target if target.startswith("/") else f"/{target}"


def _read_header(number: int, text: str) -> tuple[str, str]:
    found = _HEADER.fullmatch(text)
    if found is None:
        raise AskError(f"-H number {number} is not a header: write it as -H 'Name: value'")
    try:
        value = found[2].encode().decode("latin-1")
    except UnicodeEncodeError:
        raise AskError(f"-H number {number} is not UTF-8 text: give text") from None
    if any((char < " " and char != "\t") or char == "\x7f" for char in value):
        raise AskError(f"-H number {number} contains a control character, which headers must not")
    return found[1].lower(), value
