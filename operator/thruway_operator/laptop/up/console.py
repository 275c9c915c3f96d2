"""What a person sees of `thruway up`: notices, the table of routes, snippets, calls."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, NamedTuple

from thruway_operator.laptop.up.calls import CallPrinter
from thruway_operator.text.safe import Redactor, printable, put_line

if TYPE_CHECKING:
    from typing import TextIO

__all__ = [
    "CallPrinter",
    "Notice",
    "Snippets",
    "snippets",
]

_LEVELS = {"info": "", "warn": "\x1b[33m", "error": "\x1b[31m"}
_RESET = "\x1b[0m"


class Notice:
    """Prints what Thruway itself has to say, one line each, without registered secrets."""

    def __init__(
        self,
        stream: TextIO,
        *,
        color: bool,
        json: bool = False,
        redactor: Redactor | None = None,
    ) -> None:
        self._stream, self._color, self._json = stream, color, json
        self._redactor = redactor or Redactor()

    def info(self, text: str) -> None:
        """Say something that needs no action."""
        self._put("info", text)

    def warn(self, text: str) -> None:
        """Say something that somebody should look at."""
        self._put("warn", text)

    def error(self, text: str) -> None:
        """Say what does not work."""
        self._put("error", text)

    def _put(self, level: str, text: str) -> None:
        shown = printable(" ".join(self._redactor.redact(text).split()))
        if self._json:
            line = json.dumps({"event": "notice", "level": level, "text": shown})
        elif level == "info":
            line = shown
        elif self._color:
            line = f"{_LEVELS[level]}{level}:{_RESET} {shown}"
        else:
            line = f"{level}: {shown}"
        put_line(self._stream, line)


class Snippets(NamedTuple):
    """Ready to paste: a command for the shell and a program for Python."""

    curl: str
    python: str


def snippets(base_url: str, *, key: str = "", first: bool = False, host: str = "") -> Snippets:
    """Two examples for `base_url`, such as `http://localhost:4000/openai_passthrough/v1`.

    `key` is the environment variable with the key to send, of which `first` takes what stands
    before the first comma; none: any key does. `host` is the Host to send instead of the URL's.
    """
    base = base_url.rstrip("/")
    body = {
        "model": "gpt-4o-mini",
        "stream": True,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    variable = f"{{{key}%%,*}}" if first else key
    curl = (
        f"curl -N {shlex.quote(base + '/chat/completions')} \\\n"
        + (f"  -H {shlex.quote('Host: ' + host)} \\\n" if host else "")
        + (f'  -H "Authorization: Bearer ${variable}" \\\n' if key else "")
        + "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body))}"
    )
    value = f"os.environ[{json.dumps(key)}]" + ('.split(",")[0]' if first else "")
    arguments = [
        f"base_url={json.dumps(base)}",
        f"api_key={value}" if key else 'api_key="sk-anything"',
    ]
    if host:
        arguments.append(f"default_headers={json.dumps({'Host': host})}")
    python = (
        ("import os\n\n" if key else "") + "from openai import OpenAI\n\n"
        f"client = OpenAI({', '.join(arguments)})\n"
        'answer = client.responses.create(model="gpt-4o-mini", input="Say hello.")\n'
        "print(answer.output_text)"
    )
    return Snippets(curl, python)
