"""Where resources come from: files and the environment, or a cluster. Read-only.

Contracts: "layers of the operator", "the two sources are independent".
"""
