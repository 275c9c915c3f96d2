"""The table fits its width and loses nothing; notices are one line each, without secrets."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thruway_operator.laptop.up.console import Notice, snippets
from thruway_operator.laptop.up.table import RouteRow, startup_table
from thruway_operator.text.colors import wants_color
from thruway_operator.text.safe import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

# Two shared cores may be slow; what matters here is the result.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ROWS = [
    RouteRow("/openai_passthrough", "https://api.openai.com", "OPENAI_API_KEY (environment)"),
    RouteRow("/demo", "http://127.0.0.1:49152", "demonstration, no key"),
]


def test_the_table_at_80_columns() -> None:
    assert startup_table(ROWS, width=80) == (
        "PATH                 UPSTREAM                CREDENTIAL\n"
        "/openai_passthrough  https://api.openai.com  OPENAI_API_KEY (environment)\n"
        "/demo                http://127.0.0.1:49152  demonstration, no key"
    )


def test_a_terminal_gets_a_bold_head() -> None:
    assert startup_table(ROWS, width=80, color=True).startswith("\x1b[1mPATH")


def test_a_piped_table_has_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = [RouteRow("/p", "https://" + "x" * 100, "client's own")]
    assert max(map(len, startup_table(long).splitlines())) <= 80


@UNHURRIED
@given(st.text(st.characters(categories=["L", "N", "P"], max_codepoint=0x24F), max_size=150))
def test_long_texts_are_folded_not_cut_and_brackets_are_no_markup(upstream: str) -> None:
    table = startup_table([RouteRow("/[red]p[/red]", upstream, "c")], width=60)
    lines = table.splitlines()
    assert all(len(line) <= 60 for line in lines)
    start = lines[0].index("UPSTREAM")
    end = lines[0].index("CREDENTIAL")
    assert "".join(line[start:end].rstrip() for line in lines[1:]) == upstream
    assert "/[red]p[/red]" in table


def test_control_characters_in_a_table_are_shown_as_escapes() -> None:
    assert r"/\x1b[2J" in startup_table([RouteRow("/\x1b[2J", "u", "c")], width=80)


def test_notices() -> None:
    stream = io.StringIO()
    redactor = Redactor()
    redactor.register("sk-secret")
    notice = Notice(stream, color=False, redactor=redactor)
    notice.info("Ready.\nOn two lines.")
    notice.warn("envoy: killed by SIGKILL \x1b[2J")
    notice.error("401 with sk-secret")
    assert stream.getvalue().splitlines() == [
        "Ready. On two lines.",
        r"warn: envoy: killed by SIGKILL \x1b[2J",
        "error: 401 with [redacted]",
    ]


def test_notices_in_colour_and_in_json() -> None:
    stream = io.StringIO()
    Notice(stream, color=True).error("no")
    assert stream.getvalue() == "\x1b[31merror:\x1b[0m no\n"
    stream = io.StringIO()
    Notice(stream, color=False, json=True).warn("hm")
    assert json.loads(stream.getvalue()) == {"event": "notice", "level": "warn", "text": "hm"}


SECRETS = st.lists(st.text('ab-/+€"', min_size=6, max_size=12), min_size=1, max_size=4)


@UNHURRIED
@given(SECRETS, st.text("ab- "), st.sampled_from([str, json.dumps]))
def test_no_registered_secret_survives(
    secrets: list[str], around: str, form: Callable[[str], str]
) -> None:
    """Invariant: a redacted text holds no registered secret, however they overlap."""
    redactor = Redactor()
    for secret in secrets:
        redactor.register(secret)
    text = around.join(["", *map(form, secrets), ""])
    shown = redactor.redact(text).replace("[redacted]", "\0")
    assert not any(secret in shown for secret in secrets)
    assert not any(secret in repr(redactor) for secret in secrets)


def test_short_values_are_no_secrets() -> None:
    redactor = Redactor()
    redactor.register("")
    redactor.register("short")
    assert redactor.redact("a short text") == "a short text"


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    assert wants_color(terminal, {})
    assert not wants_color(terminal, {"NO_COLOR": "1"})
    assert not wants_color(terminal, {"TERM": "dumb"})
    assert not wants_color(io.StringIO(), {})


def test_snippets_quote_what_needs_quoting() -> None:
    shown = snippets("http://localhost:4000/openai_passthrough/v1/")
    assert shown.curl.startswith("curl -N http://localhost:4000/openai_passthrough/v1/chat/compl")
    assert '"stream": true' in shown.curl
    assert (
        'base_url="http://localhost:4000/openai_passthrough/v1", api_key="sk-anything"'
        in shown.python
    )
    assert "'http://h/$(x)/v1/chat/completions'" in snippets("http://h/$(x)/v1").curl
