"""The command `thruway`: arguments in, messages and exit codes out.

Exit codes: 0 for success and for Ctrl-C, 1 if the command fails, 2 for unusable arguments.
Contract: "layers of the operator".
"""

from thruway_operator.cli.main import main

__all__ = ["main"]
