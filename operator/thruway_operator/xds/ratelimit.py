"""Limits the rate of log lines caused by unauthenticated peers."""

from __future__ import annotations

import logging
import time
from typing import Final

__all__ = ["RateLimitedLog"]

_LINES: Final = 20
_WINDOW: Final = 60.0


class RateLimitedLog:
    """Logs at most 20 warnings a minute, and then the number of warnings left out."""

    def __init__(self, logger: str) -> None:
        self._log = logging.getLogger(logger)
        self._since = float("-inf")
        self._count = 0

    def warning(self, message: str, *args: object) -> None:
        """Log a warning, or count it."""
        now = time.monotonic()
        if now - self._since >= _WINDOW:
            if self._count > _LINES:
                self._log.warning("left out %d more lines like these", self._count - _LINES)
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= _LINES:
            self._log.warning(message, *args)
