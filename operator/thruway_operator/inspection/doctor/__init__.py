"""`thruway doctor`: walks the chain from the API server to the upstream, and stops at the fault.

`gather` asks the API server and decides nothing; what it found are `facts`. All else is pure: facts
in, steps out, the time passed in. Nothing is written, and no value of a Secret leaves `gather`.
"""
