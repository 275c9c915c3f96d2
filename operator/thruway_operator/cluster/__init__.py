"""The operator in a cluster: wires the source, translation, xDS and status together.

It alone knows all of them, and decides which proxy is of which group. `app` is one replica.
"""
