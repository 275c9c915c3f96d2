"""`thruway up` itself: configuration, Envoy, extproc's workers and the console, wired together.

Contract: "layers of the laptop".
"""
