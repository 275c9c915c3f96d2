"""Runs `thruway` with Envoy's timers of more than a second divided by `FACTOR`.

A test of a minute's silence then takes a few seconds, and also meets timers that nobody has thought
of yet. Run as `python -P hurried.py FACTOR AGE up ...`; AGE is that of connections, in
milliseconds, as the shared gateway has it (0: none).
"""

from __future__ import annotations

import sys
from datetime import timedelta


def _hurry(factor: int) -> None:
    from thruway_operator.envoy import wire

    def duration(milliseconds: int) -> timedelta:
        # A second or less is for reactions, not for pauses: a slow machine needs all of it.
        hurried = milliseconds if milliseconds <= 1000 else milliseconds / factor
        return timedelta(milliseconds=hurried)

    wire.duration = duration  # before any module has imported it by name
    from thruway_operator.envoy.peers import TCP_KEEPALIVE

    for wait in (TCP_KEEPALIVE.keepalive_time, TCP_KEEPALIVE.keepalive_interval):
        wait.value = max(1, wait.value // factor)


def main() -> None:
    """Run the command line after the factor and the age."""
    _hurry(int(sys.argv.pop(1)))
    from thruway_operator.envoy.downstream import PLAIN

    object.__setattr__(PLAIN, "connection_age_ms", int(sys.argv.pop(1)))  # it is frozen
    from thruway_operator.cli import main as run

    run()


if __name__ == "__main__":
    main()
