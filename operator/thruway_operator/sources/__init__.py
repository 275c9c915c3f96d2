"""Reads resources from files and the environment, or from a cluster. Never writes.

Contracts: "layers of the operator", "the two sources are independent".
"""
