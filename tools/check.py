"""Runs all static checks, even if one fails, and prints a table of the results."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Check:
    """A command that exits with 0 on success: the arguments that follow `python`."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """The result of a check."""

    check: Check
    status: int
    seconds: float
    output: str


# The slowest ones come first, because checks run concurrently.
CHECKS = (
    Check("types", ("-m", "mypy")),
    Check("layers", ("-c", "from importlinter.cli import lint_imports_command as m; m()")),
    Check("generated files", ("tools/generated.py", "--check")),
    Check("docs", ("tools/docs.py",)),
    Check("lock", ("tools/lock.py",)),
    Check("lint", ("-m", "ruff", "check", "--quiet", ".")),
    Check("format", ("-m", "ruff", "format", "--check", "--quiet", ".")),
)


def main() -> int:
    """Return 1 if any check failed."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(_run, CHECKS))
    failed = [result for result in results if result.status != 0]
    for result in failed:
        _say(f"---- {result.check.name} ----\n{result.output.rstrip()}\n")
    _say(f"{'check':<18}{'result':<8}seconds")
    for result in results:
        verdict = "FAILED" if result.status else "ok"
        _say(f"{result.check.name:<18}{verdict:<8}{result.seconds:7.1f}")
    return 1 if failed else 0


def _run(check: Check) -> Result:
    start = time.monotonic()
    process = subprocess.run(
        [sys.executable, *check.arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return Result(check, process.returncode, time.monotonic() - start, process.stdout)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
