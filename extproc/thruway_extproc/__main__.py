"""`python -m thruway_extproc`: the command `thruway-extproc`."""

from thruway_extproc.cli import main

main()
