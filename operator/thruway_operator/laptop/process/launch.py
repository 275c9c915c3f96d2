"""Becomes a program that does not outlive `thruway up`: `python -I -S launch.py …` and then exec.

    launch.py PARENT_PID GATE PROGRAM ARGUMENT…

On Linux the kernel is asked to kill this process when its parent ends (PR_SET_PDEATHSIG, prctl(2);
it survives the exec), which holds even if the guard was killed too. Then it waits at the gate, a
pipe, until the parent has registered it with the guard: so no moment exists at which the parent
can die and this process be unknown to the guard. Costs about 15 ms per start, none afterwards.

This is a program of its own because `preexec_fn` runs Python between fork and exec of a process
with threads, which may deadlock; `setpriv --pdeathsig` is not on every machine and has no gate.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PARENT_GONE = 125  # like timeout(1) and env(1): the launcher itself did not get so far
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


def _die_with_parent() -> None:
    if sys.platform != "linux":
        return  # only the guard, then
    try:
        import ctypes

        zero = ctypes.c_ulong(0)
        number = ctypes.c_ulong(signal.SIGKILL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, zero, zero, zero)
    except (ImportError, OSError, AttributeError):
        return  # a Python without ctypes or a C library without prctl: only the guard, then


def _main() -> None:
    parent, gate, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    _die_with_parent()
    # The parent may have died before prctl was called; then the kernel has nothing to report.
    if os.getppid() != parent or os.read(gate, 1) != b"+":
        os._exit(_PARENT_GONE)
    os.close(gate)
    # What is ignored stays ignored after exec: Python ignores the first two, and a shell that
    # starts `thruway up &` the others.
    for name in ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell, which is the point)
    except OSError as error:
        os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode(errors="replace"))
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


if __name__ == "__main__":
    _main()
