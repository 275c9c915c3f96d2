"""Runs `thruway …` inside the test's own process, with an environment of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from click.testing import CliRunner

from thruway_operator.cli import main

if TYPE_CHECKING:
    from click.testing import Result

__all__ = ["thruway"]

_FOREIGN = ("OPENAI_", "THRUWAY_", "HTTP", "http", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy")


def thruway(
    *arguments: str, stdin: str | bytes | None = None, environment: dict[str, str] | None = None
) -> Result:
    """Return what it printed and its exit code; fail where it raised."""
    unset: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith(_FOREIGN) or name == "SSL_CERT_FILE"
    }
    result = CliRunner().invoke(
        main, list(arguments), input=stdin, env={**unset, **(environment or {})}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
