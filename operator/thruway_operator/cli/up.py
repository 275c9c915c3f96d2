"""`thruway up`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from thruway_operator.cli.shared import Unusable, say

__all__ = ["up", "without_keys"]

_API_KEY = "--api-key"
_VARIABLE = "THRUWAY_API_KEY"


@click.command()
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
    help=(
        "Address to serve on; may be given several times. Beyond loopback only with client "
        "authentication.  [default: 127.0.0.1 and ::1]"
    ),
)
@click.option(
    _API_KEY,
    "api_keys",
    multiple=True,
    metavar="KEY",
    help=(
        "Key of Thruway's own that clients have to send as their api_key; may be given several "
        f"times. Better set {_VARIABLE}, which no list of processes shows."
    ),
)
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help=(
        "Web page or desktop app that may call every route from a browser, such as "
        "https://app.example or app://obsidian.md; may be given several times. Pages of this "
        "machine always may."
    ),
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
def up(  # noqa: PLR0917 - click passes them by name
    files: tuple[Path, ...],
    port: int,
    bind: tuple[str, ...],
    api_keys: tuple[str, ...],
    allow_origins: tuple[str, ...],
    workers: int,
    log_level: str,
) -> None:
    """Serve passthrough routes on this machine.

    Without -f: /openai_passthrough and the legacy /openai, with the key in OPENAI_API_KEY. A
    secretKeyRef is looked up in the Secret documents given, then in the environment variable named
    by its key. Without any key: a demonstration with made-up answers.

    \b
    THRUWAY_UPSTREAM_URL    another upstream than https://api.openai.com
    THRUWAY_NATIVE_URL      where /openai sends /v1/responses
    THRUWAY_NATIVE_API_KEY  the key for it; without it the client's own passes
    THRUWAY_API_KEY         keys for clients, as --api-key, separated by commas
    THRUWAY_ALLOW_ORIGIN    origins of web pages, as --allow-origin, separated by commas
    """
    from thruway_operator.sources.files.origins import origin_problem

    for origin in allow_origins:
        if problem := origin_problem(origin):
            raise Unusable(f"--allow-origin {problem}")
    if any(not key.strip(" ,") for key in api_keys):
        # As by --api-key "$UNSET": without a key everybody would be let in.
        say("thruway up", "--api-key is empty, so no usable key: give one, or leave the option out")
        sys.exit(1)
    if api_keys:
        _start_again_without(api_keys)
    from thruway_operator.laptop.up.app import UpError, UpOptions, run

    options = UpOptions(files, bind, port, workers, log_level, allow_origins)
    try:
        asyncio.run(run(options, os.environ))
    except UpError as error:
        for sentence in error.sentences:
            say("thruway up", sentence)
        sys.exit(error.code)


def without_keys(arguments: list[str]) -> list[str]:
    """Return a command line without `--api-key KEY` and `--api-key=KEY`."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == _API_KEY:
            skip = True
        elif not argument.startswith(f"{_API_KEY}="):
            kept.append(argument)
    return kept


def _start_again_without(api_keys: tuple[str, ...]) -> None:
    """Replace this process by one whose command line, which everybody can read, holds no key."""
    keys = ",".join([*filter(None, [os.environ.get(_VARIABLE, "")]), *api_keys])
    command = [sys.executable, *without_keys(sys.argv)]
    os.execve(sys.executable, command, {**os.environ, _VARIABLE: keys})  # noqa: S606 - no shell
