"""Tells what would be served, and what is wrong with it, without serving.

Reads through the same sources, translation and rendering as `thruway up`, so that it says what the
data path does. Never opens a port, sends a request or shows a secret.
"""
