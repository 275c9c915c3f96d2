"""One run of one child process: its start behind the gate, its output lines, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from thruway_operator.laptop.process import launch
from thruway_operator.laptop.process.lines import LineSplitter
from thruway_operator.laptop.process.reaper import ReaperError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thruway_operator.laptop.process.reaper import Reaper

__all__ = ["Child", "Command", "OnLine", "ProcessError", "spawn", "status_in_words"]

OnLine: TypeAlias = "Callable[[bytes], None]"

_STDERR_KEPT = 20  # lines
_DRAIN = 1.0  # seconds to read the last output after the process has ended


class ProcessError(Exception):
    """A child process cannot be started; the message is a sentence for the user."""


@dataclass(frozen=True)
class Command:
    """What to run, and the callbacks for its lines (without line ends, cut at 64 KiB)."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None = None
    on_stdout_line: OnLine | None = None
    on_stderr_line: OnLine | None = None


def status_in_words(code: int) -> str:
    """Describe an exit status from `subprocess` (negative: a signal) in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Child(asyncio.SubprocessProtocol):
    """One run of a process: its lines and its end.

    It uses the protocol, not `asyncio.subprocess.Process`: depending on the Python version,
    `Process.wait()` also waits for the pipes, which a grandchild may hold open for long.
    """

    def __init__(self, command: Command) -> None:
        loop = asyncio.get_running_loop()
        self._loop, self._name = loop, command.name
        self._callbacks = {1: command.on_stdout_line, 2: command.on_stderr_line}
        self._splitters = {1: LineSplitter(), 2: LineSplitter()}
        self._open = {1, 2}
        self.stderr: deque[str] = deque(maxlen=_STDERR_KEPT)
        self.exited: asyncio.Future[None] = loop.create_future()
        self.drained: asyncio.Future[None] = loop.create_future()
        self.transport: asyncio.SubprocessTransport | None = None
        self.pid = 0  # until connection_made, which comes first

    # ------------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process has started; its pipes follow."""
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101 (for the type)
        self.transport, self.pid = transport, transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Bytes from stdout (1) or stderr (2)."""
        self._deliver(fd, self._splitters[fd].feed(data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """The end of stdout or stderr."""
        self._deliver(fd, self._splitters[fd].close())
        self._open.discard(fd)
        if not self._open and not self.drained.done():
            self.drained.set_result(None)

    def process_exited(self) -> None:
        """The process has ended; its pipes may still contain bytes."""
        if not self.exited.done():
            self.exited.set_result(None)

    # ------------------------------------------------------------------ what the supervisor calls

    def status(self) -> str:
        """How it ended, in words."""
        code = self.transport.get_returncode() if self.transport else None
        return "an unknown end" if code is None else status_in_words(code)

    def terminate(self) -> None:
        """Send SIGTERM only to the leader, which ends its own workers."""
        if self.transport is not None and not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                self.transport.terminate()

    def kill_group(self) -> None:
        """Send SIGKILL to the process and every descendant in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Kill what remains: workers of a dead leader would hold its ports and pipes."""
        self.kill_group()
        await asyncio.wait([self.exited])
        await asyncio.wait([self.drained], timeout=_DRAIN)
        if self.transport is not None:
            self.transport.close()

    def _deliver(self, fd: int, lines: list[bytes]) -> None:
        if fd == 2:
            self.stderr.extend(line.decode(errors="replace") for line in lines)
        callback = self._callbacks[fd]
        if callback is None:
            return
        for line in lines:
            try:
                callback(line)
            except Exception as error:  # noqa: BLE001 (a full pipe would stop the child)
                message = f"the line callback of {self._name} failed"
                self._loop.call_exception_handler({"message": message, "exception": error})


async def spawn(command: Command, reaper: Reaper) -> Child:
    """Start one run: behind the gate, then register it with the reaper, then open the gate.

    Call it in the main thread: on Linux a child dies with the *thread* that started it
    (PR_SET_PDEATHSIG). Raises ProcessError.
    """
    gate, opener = os.pipe()
    launcher = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), str(gate)]
    child = Child(command)
    try:
        await asyncio.get_running_loop().subprocess_exec(
            lambda: child,
            *launcher,
            *command.argv,
            stdin=asyncio.subprocess.DEVNULL,
            env=command.env,
            cwd=command.cwd,
            pass_fds=(gate,),
            start_new_session=True,
        )
        reaper.add(child.pid)
        os.write(opener, b"+")
    except (OSError, ReaperError) as error:
        if child.transport is not None:
            await child.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ProcessError(f"{command.name} could not be started: {reason}") from error
    finally:
        os.close(gate)
        os.close(opener)  # without a `+`, the launcher exits
    return child
