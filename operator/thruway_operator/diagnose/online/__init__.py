"""Queries the API server for doctor, status and `check --cluster`. Decides little, writes nothing.

It returns no value of a Secret.
Contract: "layers of diagnosis".
"""
