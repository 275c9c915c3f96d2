"""`python -m thruway_operator`: the command `thruway`."""

from thruway_operator.cli import main

main(prog_name="thruway")
