"""The operator's log: one line per event, on standard error."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

__all__ = ["log_to_stderr"]

_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"


def log_to_stderr(level: str) -> None:
    """Log at this level (`debug`, `info`, `warning`, `error`) and above; times are UTC."""
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("thruway").setLevel(level.upper())
    # kopf and grpc log lost connections with tracebacks; we log them in a sentence.
    quiet = logging.DEBUG if level == "debug" else logging.CRITICAL
    for name in ("kopf", "grpc", "aiohttp"):
        logging.getLogger(name).setLevel(quiet)
