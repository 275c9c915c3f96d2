"""Text made fit to be shown: nothing secret in it, nothing that a terminal would obey."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Redactor", "mask_queries_in_text", "mask_query", "printable", "put_line"]

_SHORTEST = 6  # characters; anything shorter would blot out innocent text
_REDACTED = "[redacted]"


class Redactor:
    """Replaces registered secrets in any text by `[redacted]`; its own repr shows none."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, secret: str) -> None:
        """Never show this value again, nor its percent-encoded and JSON-escaped forms.

        Values under 6 characters are not registered.
        """
        if len(secret) < _SHORTEST:
            return
        lines = [line for line in secret.splitlines() if len(line) > _SHORTEST]  # of a PEM
        for form in (secret, *(line for line in lines if not line.startswith("-----"))):
            self._forms |= {form, quote(form, safe=""), json.dumps(form)[1:-1]}
        longest_first = sorted(self._forms, key=len, reverse=True)  # one may hold another
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def redact(self, text: str) -> str:
        """The text without the registered values."""
        return self._pattern.sub(_REDACTED, text) if self._pattern else text

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"


def printable(text: str, limit: int | None = None) -> str:
    r"""The text with whatever is not printable (by Unicode: also bidi controls) as `\x1b`.

    With a `limit`, cut to so many characters, the last then being `…`.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def mask_query(path: str) -> str:
    """A request path without the values of its query: `/v1/files?limit=…&after=…`.

    A parameter without `=` may itself be a value (`?sk-123`), so it is replaced whole.
    """
    bare, mark, query = path.partition("?")
    return bare + mark + "&".join(map(_mask_parameter, query.split("&"))) if mark else path


def _mask_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if equals:
        return f"{name}=…"
    return "…" if parameter else ""


def mask_queries_in_text(text: str) -> str:
    """Free text (an Envoy log line) with everything that looks like a query replaced."""
    return re.sub(r"\?\S+", "?…", text)


def put_line(stream: TextIO, line: str) -> bool:
    """Write one line and flush; False if nobody reads any more (`thruway up | head`).

    What the stream's encoding lacks (`…` under LANG=C) is written escaped.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except (OSError, ValueError):  # a broken pipe, a terminal that is gone; a closed stream
        return False
    return True
