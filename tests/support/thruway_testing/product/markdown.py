"""Reads the tables of the docs, so that tests execute them."""

from __future__ import annotations

import re

__all__ = ["table"]


def table(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head; `\\|` is a bar."""
    _, found, below = text.partition(f"# {heading}\n")
    assert found, f"no heading {heading!r}"
    block = re.search(r"^\|(?:.*\n)+?(?=[^|]|\Z)", below, re.MULTILINE)
    assert block is not None, f"no table below {heading!r}"
    return [_cells(line) for line in block[0].splitlines()[2:]]


def _cells(line: str) -> list[str]:
    inside = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inside)]
