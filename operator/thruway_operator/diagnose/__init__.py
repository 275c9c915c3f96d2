"""Says what would be served, what is wrong with it, and what to do.

Uses the same sources, translation and rendering as what serves, so its findings match. It never
opens a port, sends a request upstream, writes to the cluster or shows a secret.
Contracts: "layers of the operator", "layers of diagnosis".
"""
