"""Decides whether a stream supports colors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

__all__ = ["wants_color"]


def wants_color(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Whether to use colors: the terminal supports them and NO_COLOR (no-color.org) is not set."""
    environ = os.environ if environ is None else environ
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return stream.isatty()
