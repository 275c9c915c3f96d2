"""Checks that a tag may be released, and prints its release notes: the section of CHANGELOG.md."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class ReleaseError(Exception):
    """The tag must not be released; the message is a sentence."""


def main(arguments: list[str]) -> int:
    """Print the notes for the tag in the arguments; return 1 if it must not be released."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python tools/release.py vX.Y.Z\n")
        return 2
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    try:
        text = notes(arguments[0], project["version"], (ROOT / "CHANGELOG.md").read_text("utf-8"))
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(text)
    return 0


def notes(tag: str, version: str, changelog: str) -> str:
    """Return the changelog's section for a tag of this version.

    Raises:
        ReleaseError: the tag names another version, or the changelog has no dated section for it.
    """
    if tag != f"v{version}":
        raise ReleaseError(f"The tag is {tag}, but pyproject.toml has version {version}.")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n"
    section = re.search(rf"{heading}(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if section is None or not section[1].strip():
        raise ReleaseError(
            f"CHANGELOG.md has nothing under `## [{version}] - YYYY-MM-DD`: add the section."
        )
    return f"{section[1].strip()}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
