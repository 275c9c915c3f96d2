"""Runs a command, then kills the processes that it left behind, and fails if there were any.

On Linux, the command's orphans become our children, in any session or process group: prctl(2),
PR_SET_CHILD_SUBREAPER. On other systems, processes left behind are not detected.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
GRACE = 2.0  # seconds for processes that are already ending


def main(command: list[str]) -> int:
    """Return the command's exit status, or 1 if it left a process behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in STOPS:
        signal.signal(number, _stop)  # a child then starts with the default, not a shell's setting
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        status = process.wait()
    except SystemExit:
        _end_children(grace=0)
        raise
    leftovers = _end_children(GRACE)
    for name in leftovers:
        sys.stdout.write(f"{' '.join(command)}: left a process behind: {name}\n")
    return status if status > 0 or not leftovers else 1


def _end_children(grace: float) -> list[str]:
    """Kill the children that have not ended within `grace` seconds; return their names."""
    started = time.monotonic()
    killed: dict[int, str] = {}
    while children := _children():
        if time.monotonic() - started >= grace:
            for pid, name in children.items():
                killed.setdefault(pid, name)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return sorted(killed.values())


def _children() -> dict[int, str]:
    """Reap the dead children, and return the names of the live ones."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            # proc(5): pid (name) state ppid; the name may contain anything.
            before, _, after = stat.read_text("utf-8", "replace").rpartition(")")
            if after.split()[1] == str(os.getpid()):
                pid, _, name = before.partition(" (")
                found[int(pid)] = name
    return found


def _stop(number: int, _frame: FrameType | None) -> None:
    for again in STOPS:  # do not interrupt the clean-up
        signal.signal(again, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
