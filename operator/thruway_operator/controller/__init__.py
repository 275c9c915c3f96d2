"""The operator in a cluster: wires source, translation, xDS and status together.

It alone knows all of them, and decides which proxy belongs to which group. `app` is one replica.
Contract: "layers of the operator": it and the laptop know nothing of each other.
"""
