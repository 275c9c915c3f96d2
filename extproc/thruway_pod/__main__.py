"""`python -m thruway_pod`: the command `thruway-pod`."""

from thruway_pod.cli import main

main()
