"""The command `thruway`: arguments in, sentences and exit codes out.

Exit codes: 0 for success and for Ctrl-C, 1 when it cannot do what it was asked, 2 for arguments
that it does not understand.
"""

from thruway_operator.cli.main import main

__all__ = ["main"]
