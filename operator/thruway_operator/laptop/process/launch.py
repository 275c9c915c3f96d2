"""Starts a program that does not outlive `thruway up`, and becomes it by exec.

    launch.py PARENT_PID GATE PROGRAM ARGUMENT…

On Linux it asks the kernel to kill this process when its parent ends (PR_SET_PDEATHSIG, prctl(2)).
This survives the exec and works even if the reaper was killed too. Then it waits at the gate, a
pipe, until the parent has registered it with the reaper. So the parent cannot die while the reaper
does not know this process. It costs about 15 ms per start, and nothing afterwards.

It is a separate program because `preexec_fn` runs Python between fork and exec of a process with
threads, which may deadlock; `setpriv --pdeathsig` is not on every machine and has no gate.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PARENT_GONE = 125  # like timeout(1) and env(1): the launcher itself failed
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


def _die_with_parent() -> None:
    if sys.platform != "linux":
        return  # only the reaper protects it
    try:
        import ctypes

        zero = ctypes.c_ulong(0)
        number = ctypes.c_ulong(signal.SIGKILL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, zero, zero, zero)
    except (ImportError, OSError, AttributeError):
        return  # Python lacks ctypes, or the C library prctl: only the reaper protects it


def _main() -> None:
    parent, gate, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    _die_with_parent()
    # The parent may have died before the call of prctl; then the kernel sends no signal.
    if os.getppid() != parent or os.read(gate, 1) != b"+":
        os._exit(_PARENT_GONE)
    os.close(gate)
    # Ignored signals stay ignored after exec. Python ignores the first two, and a shell that runs
    # `thruway up &` the others.
    for name in ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (intentionally without a shell)
    except OSError as error:
        os.write(2, f"cannot run {argv[0]}: {error.strerror}\n".encode(errors="replace"))
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


if __name__ == "__main__":
    _main()
