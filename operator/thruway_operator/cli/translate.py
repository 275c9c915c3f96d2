"""`thruway translate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from thruway_operator.cli.shared import Unusable, echo, input_options, loaded, say

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["translate"]


@click.command()
@input_options
@click.option("--rules", is_flag=True, help="Print the rules for extproc.")
@click.option("--ir", is_flag=True, help="Print the IR between resources and Envoy.")
@click.option("--envoy", is_flag=True, help="Print the routes, clusters and secrets for Envoy.")
def translate(files: tuple[Path, ...], port: int, *, rules: bool, ir: bool, envoy: bool) -> None:
    """Print the configuration that would be served, as YAML; secrets are never shown.

    Without --rules, --ir and --envoy, it prints each route with its matches, upstream, credential
    and rule.

    \b
    Exit code 1: there are errors; see `thruway check`.
    Exit code 2: the arguments or files cannot be used.
    """
    from thruway_operator.diagnose.offline import shown
    from thruway_operator.diagnose.offline.checking import refusals
    from thruway_operator.diagnose.offline.problems import from_problem

    if rules + ir + envoy > 1:
        raise Unusable("--rules, --ir and --envoy cannot be combined: give one of them")
    given = loaded(files, port)
    wrong = [from_problem("error", problem) for problem in given.problems]
    secrets = given.secrets()
    if not wrong:
        views = {"rules": (rules, shown.rules_view), "ir": (ir, shown.ir_view)}
        views["envoy"] = (envoy, shown.envoy_view)
        view = next((view for asked, view in views.values() if asked), shown.summary_view)
        echo(shown.dump(shown.redacted(view(given), secrets)).rstrip("\n"))
        wrong = list(refusals(given))
    for finding in wrong:
        say("thruway translate", finding.text())
    sys.exit(1 if wrong else 0)
