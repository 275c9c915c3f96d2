"""`python -m thruway_extproc.pod`: the command `thruway-pod`."""

from thruway_extproc.pod.cli import main

main()
