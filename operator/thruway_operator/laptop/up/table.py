"""The table of routes that `thruway up` prints when it starts."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thruway_operator.text.safe import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RouteRow", "startup_table"]

_PIPED_WIDTH = 80  # columns
_NARROWEST = 40


@dataclass(frozen=True)
class RouteRow:
    """One row of the table: a route's path, its upstream, and the credential sent there."""

    path: str
    upstream: str
    credential: str


def startup_table(
    rows: Sequence[RouteRow], *, width: int | None = None, color: bool = False
) -> str:
    """Return the routes as a table of at most `width` columns (None: the terminal's; 80 if piped).

    Long texts are wrapped, never cut, so that addresses can be copied. Lines have no trailing
    spaces, and the text no trailing line break.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if width is None:
        width = shutil.get_terminal_size((_PIPED_WIDTH, 24)).columns
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("PATH", "UPSTREAM", "CREDENTIAL"):
        table.add_column(title, overflow="fold")
    for row in rows:
        # Text, not str, because brackets in a name are not markup.
        cells = (row.path, row.upstream, row.credential)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    output = io.StringIO()
    console = Console(
        file=output,
        width=max(width, _NARROWEST),
        force_terminal=color,
        color_system="standard" if color else None,
        legacy_windows=False,
        highlight=False,
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())
