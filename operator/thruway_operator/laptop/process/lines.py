"""Splits the bytes of a pipe into lines of any length, without losing the last one."""

from __future__ import annotations

__all__ = ["LINE_LIMIT", "LineSplitter"]

LINE_LIMIT = 64 * 1024


class LineSplitter:
    r"""Splits a stream of bytes at `\n` into lines of at most `limit` bytes, without line ends.

    The rest of a longer line is dropped and never held in memory. The lines do not depend on how
    the bytes were chunked.
    """

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._open = False  # whether the line being read has any byte, kept or dropped

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that these bytes complete."""
        *ended, tail = data.split(b"\n")
        lines = []
        for piece in ended:
            self._append(piece)
            lines.append(self._take())
        self._append(tail)
        return lines

    def close(self) -> list[bytes]:
        r"""Return the last line, if the stream did not end in `\n`."""
        return [self._take()] if self._open else []

    def _append(self, piece: bytes) -> None:
        self._rest += piece[: self._limit - len(self._rest)]
        self._open = self._open or bool(piece)

    def _take(self) -> bytes:
        line = bytes(self._rest)
        self._rest.clear()
        self._open = False
        return line
