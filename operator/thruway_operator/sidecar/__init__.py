"""The sidecar's way into a pod: `decide` changes a pod, `webhook` serves the API server.

Contracts: "layers of the operator", "layers of the sidecar".
"""
