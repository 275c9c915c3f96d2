"""`thruway explain`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from thruway_operator.cli.shared import (
    Unusable,
    as_json,
    echo,
    input_options,
    loaded,
    output_option,
    say,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["explain"]


@click.command()
@click.argument("method")
@click.argument("url")
@input_options
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header of the client; may be given several times.",
)
@output_option("it is")
def explain(  # noqa: PLR0917 - click passes them by name
    method: str,
    url: str,
    files: tuple[Path, ...],
    port: int,
    headers: tuple[str, ...],
    output: str,
) -> None:
    """Explain how Thruway would handle one request, without sending it.

    URL may be only a path. Values of the client's query and headers are not printed.

    \b
    thruway explain GET /openai_passthrough/models
    thruway explain POST http://localhost:4000/openai/v1/responses -f routes.yaml

    \b
    Exit code 0: it reaches an upstream.
    Exit code 1: Thruway itself responds to it, or there are errors in the files.
    Exit code 2: the arguments or files cannot be used.
    """
    from thruway_operator.diagnose.offline.explaining import explain as run
    from thruway_operator.diagnose.offline.problems import from_problem
    from thruway_operator.diagnose.offline.reporting import explanation_data, explanation_text
    from thruway_operator.diagnose.offline.requests import AskError, read_request

    try:
        request = read_request(method, url, headers, port)
    except AskError as error:
        raise Unusable(str(error)) from None
    given = loaded(files, port)
    for problem in given.problems:
        say("thruway explain", from_problem("error", problem).text())
    if given.problems:
        sys.exit(1)
    told = run(given, request)
    if output == "json":
        as_json(explanation_data(told), given.secrets())
    else:
        echo(explanation_text(told), given.secrets())
    sys.exit(0 if told.upstream else 1)
