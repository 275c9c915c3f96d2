"""The root of the command and its options."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.metadata import version
from pathlib import Path

import click

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("thruway"), message="thruway %(version)s")
def main() -> None:
    """Call AI APIs directly, without each service holding an API key."""


@main.command()
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File or folder of PassthroughRoute and Secret documents; may be given several times.",
)
@click.option("--port", default=4000, show_default=True, help="Port to serve on; 0: a free one.")
@click.option(
    "--bind",
    multiple=True,
    metavar="ADDRESS",
    help="Address to serve on; may be given several times.  [default: 127.0.0.1 and ::1]",
)
@click.option(
    "--workers",
    default=2,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Number of extproc processes.",
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What Envoy and extproc tell of themselves.",
)
def up(
    files: tuple[Path, ...], port: int, bind: tuple[str, ...], workers: int, log_level: str
) -> None:
    """Serve passthrough routes on this machine.

    Without -f: /openai_passthrough and the legacy /openai, with the key in OPENAI_API_KEY. A
    secretKeyRef is looked up in the Secret documents given, then in the environment variable named
    by its key. Without any key: a demonstration with made-up answers.

    \b
    THRUWAY_UPSTREAM_URL  another upstream than https://api.openai.com
    THRUWAY_NATIVE_URL    where /openai sends /v1/responses
    """
    from thruway_operator.local.app import UpError, UpOptions, run

    options = UpOptions(files, bind, port, workers, log_level)
    try:
        asyncio.run(run(options, os.environ))
    except UpError as error:
        for sentence in error.sentences:
            click.echo(f"thruway up: {sentence}", err=True)
        sys.exit(1)
