"""extproc's workers: processes with a Unix socket each. A worker that exits is restarted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Workers", "sockets"]

log = logging.getLogger("thruway.workers")

_SOON = 0.05  # seconds before the first restart
_LATE = 2.0  # seconds before a restart, at most
_WELL = 10.0  # a worker that ran for so many seconds is restarted without a longer pause


def sockets(folder: Path, count: int) -> tuple[Path, ...]:
    """Return the paths of the workers' sockets."""
    return tuple(folder / f"extproc-{number}.sock" for number in range(count))


class Workers:
    """The worker processes, which exist while `run` runs."""

    def __init__(self, folder: Path, count: int, log_level: str, grace: float) -> None:
        self._sockets = sockets(folder, count)
        self._log_level = log_level
        self._grace = grace

    async def run(self) -> None:
        """Keep the workers running; when cancelled, terminate them and wait until they exit."""
        async with asyncio.TaskGroup() as tasks:
            for path in self._sockets:
                tasks.create_task(self._keep(path))

    def problems(self) -> list[str]:
        """Report workers that do not accept connections. Blocks for up to a second each."""
        return [
            f"{path.name} does not accept connections"
            for path in self._sockets
            if not _accepts(path)
        ]

    async def _keep(self, path: Path) -> None:
        pause = _SOON
        while True:
            started = time.monotonic()
            code = await self._once(path)
            pause = _SOON if time.monotonic() > started + _WELL else min(2 * pause, _LATE)
            log.warning("%s exited with %d: restarting it", path.stem, code)
            await asyncio.sleep(pause)

    async def _once(self, path: Path) -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "thruway_extproc"),
            *("--listen", f"unix:{path}", "--log-level", self._log_level),
            *("--grace", str(self._grace)),
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
