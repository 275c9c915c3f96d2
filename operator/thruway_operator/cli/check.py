"""`thruway check`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from thruway_operator.cli.shared import as_json, echo, input_options, loaded

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check"]


@click.command()
@input_options
@click.option(
    "-o",
    "--output",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="How findings are printed.",
)
def check(files: tuple[Path, ...], port: int, output: str) -> None:
    """Say what is wrong with routes, and what is odd.

    As strict as `thruway up`, Envoy's own validation included: one line for each finding, with
    file, line, field and remedy.

    \b
    Exit code 0: nothing is wrong, though something may be odd.
    Exit code 1: there are errors.
    Exit code 2: the arguments or files cannot be used.
    """
    from thruway_operator.inspection.checking import check as run
    from thruway_operator.local.console import wants_color

    given = loaded(files, port)
    report = run(given)
    secrets = given.secrets()
    if output == "json":
        as_json(report.data(), secrets)
    else:
        color = wants_color(sys.stdout)
        for finding in report.findings:
            echo(finding.text(color=color), secrets)
        echo(report.summary())
    sys.exit(1 if report.count("error") else 0)
