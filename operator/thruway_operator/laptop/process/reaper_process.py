"""Cleans up when `thruway up` dies, even after `kill -9`.

A process cannot clean up after its own SIGKILL, so a second one waits for its end. The reaper holds
the read end of a pipe whose only write end belongs to `thruway up`. The kernel closes that end
however the parent dies; the reaper then ends every registered process group and removes the run
folder.

It runs as `python -I -S reaper_process.py PARENT_PID` with the pipe as its standard input; `reaper`
is the parent's side. The lines on the pipe are `+PID TOKEN`, `-PID`, `rm DIR` and `keep DIR`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # avoids the import of typing
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Watched", "live_groups", "start_token"]

# Seconds for processes to exit after SIGTERM, and for the kernel to end them after SIGKILL.
_GRACE = 1.5
_KILL_WAIT = 2.0
_POLL = 0.02
# The pipe signals the parent's death immediately. If a process forked from the parent still holds
# the write end, a check of getppid() at this interval (seconds) detects it.
_PARENT_CHECK = 2.0
_DEAD_STATES = ("Z", "X")


# ---------------------------------------------------------------- processes, as the system has them


def _stat_fields(text: str) -> tuple[str, int, str]:
    """Return state, process group and start token from a /proc/PID/stat (proc_pid_stat(5)).

    The command in parentheses may itself contain spaces and parentheses, hence the last `)`.
    """
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[2]), fields[19]


def _ps_fields(line: str) -> tuple[int, tuple[str, int, str]]:
    """Return the same from a line of `ps -o pid=,pgid=,stat=,lstart=`; the token is the date."""
    pid, group, state, *started = line.split()
    return int(pid), (state[0], int(group), "_".join(started))


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)


def _processes(pid: int | None = None) -> dict[int, tuple[str, int, str]]:
    """Return the state, group and start token of every process (or only `pid`)."""
    found: dict[int, tuple[str, int, str]] = {}
    if os.access("/proc/self/stat", os.R_OK):
        for name in [str(pid)] if pid is not None else filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 (pathlib is slow to import)
            with contextlib.suppress(OSError, ValueError, IndexError):
                found[int(name)] = _stat_fields(_read(f"/proc/{name}/stat"))
        return found
    import subprocess

    which = ["-A"] if pid is None else ["-p", str(pid)]
    command = ["/bin/ps", *which, "-o", "pid=,pgid=,stat=,lstart="]
    output = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"LC_ALL": "C"}, check=False
    ).stdout
    for line in output.decode(errors="replace").splitlines():
        with contextlib.suppress(ValueError, IndexError):
            number, fields = _ps_fields(line)
            found[number] = fields
    return found


def start_token(pid: int) -> str | None:
    """Return a text that distinguishes this process from a later one with its id; None if gone."""
    entry = _processes(pid).get(pid)
    return entry[2] if entry else None


def live_groups(registered: dict[int, str]) -> list[int]:
    """Return the registered groups (leader's id: its start token) with a live member.

    A leader with another token means that the id was reused, which the kernel allows only when the
    old group has no members left. If a leader is gone, the remaining members are still ours.
    """
    table = _processes()
    alive = {group for state, group, _ in table.values() if state not in _DEAD_STATES}
    return [
        pid
        for pid, token in registered.items()
        if pid in alive and (pid not in table or table[pid][2] == token)
    ]


def _signal_groups(groups: Iterable[int], *numbers: signal.Signals) -> None:
    for group in groups:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)


def _await_end(registered: dict[int, str], seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while (alive := live_groups(registered)) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return alive


# ---------------------------------------------------------------------------- the reaper's own side


class Watched:
    """The registrations from the lines read so far."""

    def __init__(self) -> None:
        self.processes: dict[int, str] = {}
        self.folders: list[str] = []

    def take(self, line: str) -> None:
        """Apply one line; unknown lines are ignored."""
        head, _, rest = line.partition(" ")
        if head == "rm" and rest.startswith("/"):
            self.folders.append(rest)
        elif head == "keep":
            self.folders = [folder for folder in self.folders if folder != rest]
        elif head[:1] in ("+", "-") and head[1:].isdigit() and int(head[1:]) > 1:
            self.processes.pop(int(head[1:]), None)
            if head[0] == "+" and rest:
                self.processes[int(head[1:])] = rest

    def finish(self) -> None:
        """End the processes (SIGTERM, a moment, SIGKILL), then remove the folders."""
        if alive := live_groups(self.processes):
            # SIGCONT: a stopped process would not see its SIGTERM.
            _signal_groups(alive, signal.SIGTERM, signal.SIGCONT)
            _signal_groups(_await_end(self.processes, _GRACE), signal.SIGKILL)
            _await_end(self.processes, _KILL_WAIT)
        if self.folders:
            import shutil

            for folder in self.folders:
                shutil.rmtree(folder, ignore_errors=True)


def _parent_lines(descriptor: int, parent: int) -> Iterable[str]:
    """Yield the lines on the pipe until its other end is closed or the parent is gone."""
    rest = b""
    while os.getppid() == parent:
        if not select.select([descriptor], [], [], _PARENT_CHECK)[0]:
            continue
        if not (data := os.read(descriptor, 65536)):
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from map(os.fsdecode, lines)


def _main() -> None:
    # Only the parent's end may end the reaper. So ignore a closed terminal, Ctrl-C, and the SIGTERM
    # that a session manager sends to all processes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    watched = Watched()
    for line in _parent_lines(0, int(sys.argv[1])):
        watched.take(line)
    watched.finish()


if __name__ == "__main__":
    _main()
