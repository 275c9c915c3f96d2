"""Makes text safe to show: without secrets and without terminal control sequences."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Redactor", "mask_queries_in_text", "printable", "put_line"]

_SHORTEST = 6  # characters; redacting shorter values would hide unrelated text
_REDACTED = "[redacted]"


class Redactor:
    """Replaces registered secrets in any text with `[redacted]`; its own repr shows none."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, secret: str) -> None:
        """Redact this value from now on, also in percent-encoded and JSON-escaped form.

        Values under 6 characters are not registered.
        """
        if len(secret) < _SHORTEST:
            return
        lines = [line for line in secret.splitlines() if len(line) > _SHORTEST]  # a PEM's
        for form in (secret, *(line for line in lines if not line.startswith("-----"))):
            self._forms |= {form, quote(form, safe=""), json.dumps(form)[1:-1]}
        longest_first = sorted(self._forms, key=len, reverse=True)  # one may contain another
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def redact(self, text: str) -> str:
        """Return the text without the registered values."""
        return self._pattern.sub(_REDACTED, text) if self._pattern else text

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} forms)"


def printable(text: str, limit: int | None = None) -> str:
    r"""Return the text with unprintable characters (by Unicode, also bidi controls) as `\x1b`.

    With a `limit`, cut it to that many characters, the last of which is then `…`.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def mask_queries_in_text(text: str) -> str:
    """Return free text (an Envoy log line) with everything that looks like a query masked."""
    return re.sub(r"\?\S+", "?…", text)


def put_line(stream: TextIO, line: str) -> bool:
    """Write one line and flush; return False if the reader is gone (`thruway up | head`).

    Characters that the stream's encoding lacks (`…` under LANG=C) are escaped.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except (OSError, ValueError):  # a broken pipe or a vanished terminal; a closed stream
        return False
    return True
