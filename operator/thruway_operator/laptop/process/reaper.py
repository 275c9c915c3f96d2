"""The parent's side of the reaper: starts it, and registers what must not outlive `thruway up`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from thruway_operator.laptop.process import reaper_process

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Reaper", "ReaperError"]

# Seconds; longer than the reaper itself waits for the processes that it ends.
_CLOSE_WAIT = 10.0


class ReaperError(Exception):
    """The reaper could not be started, or cannot be reached."""


class Reaper:
    """The parent's side: starts the reaper process and tells it what to watch.

    A reaper that was killed is restarted at the next call, and everything is registered again. It
    must not be used from several threads. Every call may raise `ReaperError`.
    """

    def __init__(self) -> None:
        self._processes: dict[int, str] = {}
        self._folders: list[str] = []
        self._pipe: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    @property
    def pid(self) -> int | None:
        """The reaper's process id; None once closed."""
        return self._process.pid if self._process else None

    def add(self, pid: int) -> bool:
        """Watch the process group that `pid` leads; return False if the process is gone."""
        token = reaper_process.start_token(pid)
        if token is None:
            return False
        self._processes[pid] = token
        self._send(f"+{pid} {token}")
        return True

    def discard(self, pid: int) -> None:
        """Stop watching this group; does nothing once closed."""
        if self._processes.pop(pid, None) is not None and self._pipe is not None:
            self._send(f"-{pid}")

    def remove_later(self, folder: str) -> None:
        """Remove this folder (absolute path, without a line break) when the parent is gone."""
        if not folder.startswith("/") or "\n" in folder:
            raise ReaperError(f"The reaper needs an absolute path without line breaks: {folder!r}.")
        self._folders.append(folder)
        self._send(f"rm {folder}")

    def keep(self, folder: str) -> None:
        """Do not remove this folder after all; does nothing once closed."""
        if folder in self._folders and self._pipe is not None:
            self._folders.remove(folder)
            self._send(f"keep {folder}")

    def close(self) -> None:
        """Let the reaper finish: it ends what is still registered, and then exits."""
        pipe, process, self._pipe, self._process = self._pipe, self._process, None, None
        if pipe is not None:
            os.close(pipe)
        if process is None:
            return
        try:
            process.wait(_CLOSE_WAIT)
        except subprocess.TimeoutExpired:  # perhaps it is stopped
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)  # a stopped reaper must not stop the parent
        try:
            # It has its own session and no terminal streams, so Ctrl-C does not reach it, and the
            # pipe in `thruway up | …` closes with `thruway up`.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", reaper_process.__file__, str(os.getpid())],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
            )
        except OSError as error:
            os.close(write_end)
            raise ReaperError(f"The reaper process did not start: {error.strerror}.") from error
        finally:
            os.close(read_end)
        self._pipe = write_end

    def _send(self, line: str) -> None:
        if self._pipe is None:
            raise ReaperError("The reaper is closed.")
        try:
            os.write(self._pipe, os.fsencode(line) + b"\n")
        except BrokenPipeError:
            self._revive()
        except BlockingIOError as error:
            raise ReaperError(
                "The reaper process does not read: check that it is not stopped."
            ) from error

    def _revive(self) -> None:
        self.close()
        self._start()
        for pid, token in self._processes.items():
            self._send(f"+{pid} {token}")
        for folder in self._folders:
            self._send(f"rm {folder}")
