"""Stands in for curl where there is none, so that printed commands are executed everywhere.

Knows what our documentation uses: `-N`, `-H`, `-d`, `-X`, `-i`, `-s` and one URL; refuses the rest.
Run as a program: `python -m thruway_testing.wire.curl ARGUMENT…`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import httpx

__all__ = ["main", "path_with_curl"]


def main(arguments: list[str]) -> int:
    """Do what curl would; returns its exit code."""
    parser = argparse.ArgumentParser(prog="curl", add_help=False)
    parser.add_argument("-N", "-s", "-sN", action="store_true")
    parser.add_argument("-i", action="store_true", dest="include")
    parser.add_argument("-H", action="append", default=[], dest="headers")
    parser.add_argument("-d", dest="data")
    parser.add_argument("-X", dest="method")
    parser.add_argument("url")
    options = parser.parse_args(arguments)
    method = options.method or ("GET" if options.data is None else "POST")
    headers = [tuple(header.split(": ", 1)) for header in options.headers]
    with httpx.stream(
        method, options.url, headers=headers, content=options.data, trust_env=False, timeout=30
    ) as answer:
        if options.include:
            sys.stdout.write(f"HTTP/1.1 {answer.status_code}\n")
        for part in answer.iter_text():
            sys.stdout.write(part)
    return 0


def path_with_curl(path: str, folder: Path) -> str:
    """Return `path`, or with a folder in front that holds a `curl` if it has none."""
    if shutil.which("curl", path=path):
        return path
    script = folder / "curl"
    here = Path(__file__).resolve().parents[2]
    program = f'"{sys.executable}" -m thruway_testing.wire.curl'
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{here}" exec {program} "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{path}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
