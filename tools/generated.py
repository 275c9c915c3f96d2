"""Writes the generated files; with --check, reports those that are outdated.

Register a generator below as the arguments that follow `python`. It writes its files; with --check
added, it writes nothing, prints a line for each outdated file, and exits with 1 if there is one.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

GENERATORS: tuple[tuple[str, ...], ...] = (
    ("tools/reference.py",),
    ("tools/crd.py",),
    ("tools/chart.py",),
)


def main(arguments: list[str]) -> int:
    """Run every generator, even when one fails; return 1 if any did."""
    failed = [generator for generator in GENERATORS if not _succeeds([*generator, *arguments])]
    for generator in failed:
        sys.stdout.write(f"failed: python {' '.join([*generator, *arguments])}\n")
    if failed and "--check" in arguments:
        sys.stdout.write("Run `make generate` and commit what it changes.\n")
    return 1 if failed else 0


def _succeeds(arguments: list[str]) -> bool:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
