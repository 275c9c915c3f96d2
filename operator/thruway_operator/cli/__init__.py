"""The command `thruway`: arguments in, messages and exit codes out.

Exit codes: 0 for success and for Ctrl-C, 1 when it cannot do what it was asked, 2 for arguments
that it does not understand.
Contract: "layers of the operator".
"""

from thruway_operator.cli.main import main

__all__ = ["main"]
