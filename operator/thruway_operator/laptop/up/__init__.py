"""`thruway up` itself: connects configuration, Envoy, extproc's workers and the console.

Contract: "layers of the laptop".
"""
