"""Runs a command as the terminal's foreground job: tools/foreground.py COMMAND [ARGUMENT...].

`make` itself is killed by Ctrl-C, whatever its recipe returns. With the terminal to itself, only
the command receives the keys' signals, once, so that an orderly stop is a success for `make` too.
Without a terminal, this program simply becomes the command.
"""

import os
import signal
import sys
from types import FrameType

STOPPED_BY_CTRL_C = (-signal.SIGINT, 128 + signal.SIGINT)


def main(command: list[str]) -> int:
    """Run the command and return its exit status; 0 when Ctrl-C ended it."""
    terminal = _terminal()
    if terminal is None:
        os.execv(command[0], command)  # noqa: S606 - intentionally without a shell
    ours = os.getpgrp()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # we hand the terminal over and take it back
    child = os.fork()
    if child == 0:
        _become(command, terminal)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _forward_to(child))
    status = _wait(child, terminal, ours)
    os.tcsetpgrp(terminal, ours)
    if status in STOPPED_BY_CTRL_C:
        return 0
    return status if status >= 0 else 128 - status


def _terminal() -> int | None:
    """Open the controlling terminal, if there is one and we are in its foreground."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        return terminal if os.tcgetpgrp(terminal) == os.getpgrp() else None
    except OSError:
        return None


def _become(command: list[str], terminal: int) -> None:
    try:
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _forward_to(child: int) -> "signal._HANDLER":
    def forward(number: int, _frame: FrameType | None) -> None:
        os.killpg(child, number)

    return forward


def _wait(child: int, terminal: int, ours: int) -> int:
    """Wait for the command's end; on Ctrl-Z, stop and later continue together with it."""
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        os.tcsetpgrp(terminal, ours)
        os.kill(0, signal.SIGTSTP)  # stops us and make, so that the shell sees its job stop
        if os.tcgetpgrp(terminal) == ours:  # continued by `fg`, not by `bg`
            os.tcsetpgrp(terminal, child)
        os.killpg(child, signal.SIGCONT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
