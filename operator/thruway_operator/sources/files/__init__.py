"""Reads resources from files and environment variables, on a laptop and for commands.

Contract: "the two sources are independent".
"""
