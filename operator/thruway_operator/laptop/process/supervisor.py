"""Keeps the child processes of `thruway up` running, and ends them in order.

Each child leads its own session, so that Ctrl-C in the terminal reaches only `thruway up`. It is
started through `launch`, and registered with the reaper before it runs its own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from thruway_operator.laptop.process.child import Command, ProcessError, spawn, status_in_words
from thruway_operator.laptop.process.reaper import ReaperError
from thruway_operator.laptop.process.runfolder import RunFolderError, run_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from thruway_operator.laptop.process.child import Child, OnLine
    from thruway_operator.laptop.process.reaper import Reaper

__all__ = [
    "Kind",
    "ProcessError",
    "ProcessEvent",
    "RunFolderError",
    "Supervisor",
    "minimal_env",
    "restart_delay",
    "run_folder",
    "status_in_words",
]

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
_GOOD_RUN = 10.0  # seconds after which earlier crashes are forgotten

# Variables that a child may inherit. It is an allow list, so that no key can slip through.
_ALLOWED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "LANG"}
    | {"LANGUAGE", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_NUMERIC", "LC_TIME"}
)


class Kind(StrEnum):
    """What happened to a process."""

    STARTED = "Started"
    EXITED = "Exited"
    RESTARTING = "Restarting"
    GAVE_UP = "GaveUp"


@dataclass(frozen=True)
class ProcessEvent:
    """Something that happened to the process of this name.

    `status` (Exited): how it ended, in words. `stderr`: the last lines of its stderr, at most 20,
    unchanged: escape control characters before showing them. `delay` (Restarting): seconds until
    the next start. `expected`: it was asked to stop.
    """

    name: str
    kind: Kind
    pid: int | None = None
    status: str | None = None
    stderr: tuple[str, ...] = ()
    delay: float = 0.0
    expected: bool = False


@dataclass
class _Kept:
    """A command that is kept running; `child` is None between two runs."""

    command: Command
    child: Child | None = None
    task: asyncio.Task[None] | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def minimal_env(environ: Mapping[str, str] | None = None, **extra: str) -> dict[str, str]:
    """Return the environment for a child: allowed variables and `extra`, never a key."""
    source = os.environ if environ is None else environ
    return {name: value for name, value in source.items() if name in _ALLOWED} | extra


def restart_delay(crashes: int) -> float:
    """Return the seconds before the next start after this many crashes in a row: 0, 0.1 … 5."""
    if crashes <= 1:
        return 0.0
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(crashes - 2, 16))


class Supervisor:
    """Starts child processes, restarts those that crash, and stops them in a given order.

    The first crash leads to an immediate restart; further restarts wait for 0.1 s, doubling up to
    5 s. After a run of 10 s, earlier crashes are forgotten. `attempts`: after so many crashes in a
    row, the process is given up (None: never). Callbacks run in the event loop and must not block.
    """

    def __init__(
        self,
        reaper: Reaper,
        *,
        on_event: Callable[[ProcessEvent], None] | None = None,
        attempts: int | None = None,
    ) -> None:
        self._reaper = reaper
        self._on_event = on_event
        self._attempts = attempts
        self._kept: dict[str, _Kept] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def pid(self, name: str) -> int | None:
        """Return the process id of the current run; None between two runs."""
        kept = self._kept.get(name)
        return kept.child.pid if kept and kept.child else None

    async def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        on_stdout_line: OnLine | None = None,
        on_stderr_line: OnLine | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> None:
        """Start a process under this name and keep it running; return once it has started.

        Lines arrive without line ends, cut at 64 KiB. Raises ProcessError if the program does not
        exist or the system refuses to start it; ValueError if the name is in use.
        """
        if name in self._kept:
            raise ValueError(f"A process named {name} is already kept.")
        program = shutil.which(argv[0], path=env.get("PATH"))
        if program is None:
            raise ProcessError(f"The program {argv[0]} was not found: install it.")
        folder = None if cwd is None else os.fspath(cwd)
        line = [program, *argv[1:]]
        kept = _Kept(Command(name, line, dict(env), folder, on_stdout_line, on_stderr_line))
        self._kept[name] = kept
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        kept.task = asyncio.create_task(self._supervise(kept, begun), name=f"supervise {name}")
        await begun

    async def stop(
        self, deadlines: Mapping[str, float] | None = None, *, default: float = 5.0
    ) -> None:
        """Stop the named processes in this order, then the others, last started first.

        Each gets SIGTERM, and SIGKILL after its time limit in seconds. Those that are not yet being
        stopped are kept running. If cancelled, everything is killed immediately.
        """
        first = {name: limit for name, limit in (deadlines or {}).items() if name in self._kept}
        others = {name: default for name in reversed(self._kept) if name not in first}
        try:
            for name, limit in (first | others).items():
                await self._stop_one(self._kept[name], limit)
        except asyncio.CancelledError:
            self.kill()
            raise

    def kill(self) -> None:
        """Send SIGKILL to every process and its descendants, without a restart."""
        for kept in self._kept.values():
            kept.stopping.set()
            if kept.child:
                kept.child.kill_group()

    async def _stop_one(self, kept: _Kept, limit: float) -> None:
        kept.stopping.set()
        if kept.child:
            kept.child.terminate()
        if kept.task and not (await asyncio.wait([kept.task], timeout=limit))[0]:
            if kept.child:
                kept.child.kill_group()
            await asyncio.wait([kept.task])
        self._kept.pop(kept.command.name, None)

    async def _spawn(self, kept: _Kept) -> None:
        kept.child = await spawn(kept.command, self._reaper)
        self._emit(ProcessEvent(kept.command.name, Kind.STARTED, kept.child.pid))
        if kept.stopping.is_set():  # it was asked to stop while it was being started
            kept.child.terminate()

    async def _supervise(self, kept: _Kept, begun: asyncio.Future[None]) -> None:
        clock = asyncio.get_running_loop().time
        crashes = 0
        while True:
            began = clock()
            if not await self._begin(kept, begun):
                return
            if kept.child:
                await self._end_of_run(kept, kept.child)
            if kept.stopping.is_set():
                return
            crashes = 1 if clock() - began >= _GOOD_RUN else crashes + 1
            if not await self._pause(kept, crashes):
                return

    async def _begin(self, kept: _Kept, begun: asyncio.Future[None]) -> bool:
        """Start a run, report the first one to the caller of `start`; return whether to go on."""
        name = kept.command.name
        try:
            await self._spawn(kept)
        except ProcessError as error:  # perhaps a temporary lack of processes or files
            self._emit(ProcessEvent(name, Kind.EXITED, status=str(error)))
            if begun.done():
                return True
            begun.set_exception(error)
            del self._kept[name]
            return False
        if not begun.done():
            begun.set_result(None)
        return True

    async def _pause(self, kept: _Kept, crashes: int) -> bool:
        """Wait before the next run; return False if there is none."""
        name = kept.command.name
        if crashes == self._attempts:
            self._emit(ProcessEvent(name, Kind.GAVE_UP))
            return False
        delay = restart_delay(crashes)
        self._emit(ProcessEvent(name, Kind.RESTARTING, delay=delay))
        try:
            await asyncio.wait_for(kept.stopping.wait(), delay)
        except TimeoutError:
            return True
        return False

    async def _end_of_run(self, kept: _Kept, child: Child) -> None:
        """Wait for the end of this run, clean up, and report it. If cancelled, end the run."""
        try:
            await asyncio.wait([child.exited])
        finally:
            kept.child = None
            await child.close()
            with contextlib.suppress(ReaperError):  # the reaper detects a reused id by its token
                self._reaper.discard(child.pid)
        name, expected = kept.command.name, kept.stopping.is_set()
        lines = tuple(child.stderr)
        self._emit(
            ProcessEvent(name, Kind.EXITED, child.pid, child.status(), lines, expected=expected)
        )

    def _emit(self, event: ProcessEvent) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001 (supervision goes on)
            message = f"the event callback failed on {event.kind} of {event.name}"
            context = {"message": message, "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
