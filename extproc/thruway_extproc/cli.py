"""The command `thruway-extproc`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from thruway_extproc.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

_LEVELS = ("debug", "info", "warning", "error")


def main(argv: list[str] | None = None) -> None:
    """Run the external processor until SIGTERM or SIGINT.

    Exit status: 0 after a graceful stop, 2 for unusable arguments, 1 if it cannot listen.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        with _socket_file(options.listen):
            uvloop.run(_run(options.listen, options.grace))
    except OSError as error:
        sys.exit(f"thruway-extproc: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="thruway-extproc",
        description="Rewrite the path and headers of requests for Envoy (ext_proc).",
    )
    parser.add_argument(
        "--listen", required=True, type=_address, help="unix:PATH of the socket to serve on"
    )
    parser.add_argument("--log-level", choices=_LEVELS, default="info")
    parser.add_argument(
        "--grace", type=_seconds, default=5.0, help="seconds to finish requests on shutdown (5)"
    )
    return parser


def _address(text: str) -> str:
    if not text.startswith("unix:") or text == "unix:":
        raise argparse.ArgumentTypeError(f"{text!r} is not a Unix socket: write unix:PATH")
    if len(text.encode()) - len("unix:") > 103:  # sun_path on macOS; Linux allows four more
        raise argparse.ArgumentTypeError(f"{text!r} is too long: a socket path has up to 103 bytes")
    if "%" in text:
        raise argparse.ArgumentTypeError(f"{text!r} contains %, which gRPC treats as an escape")
    return text


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:  # also false for NaN
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 3600")
    return value


@contextlib.contextmanager
def _socket_file(listen: str) -> Iterator[None]:
    # A killed predecessor leaves its socket behind. A file that is not a socket is never touched.
    path = Path(listen.removeprefix("unix:"))
    if not path.parent.is_dir():
        raise OSError(f"the folder of {path} does not exist: create it first")
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(f"{path} exists and is not a socket: choose another path")
        path.unlink()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


async def _run(listen: str, grace: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(listen, stop=stop, grace=grace)
