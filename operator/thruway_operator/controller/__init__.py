"""The operator in a cluster: connects source, translation, xDS and status.

Only this package knows all of them. It decides which proxy belongs to which group. `app` is one
replica.
Contract: "layers of the operator": it and the laptop do not import each other.
"""
