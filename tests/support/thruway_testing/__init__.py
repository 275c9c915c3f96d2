"""Servers and clients that the tests share: upstreams on real sockets that say what they were sent.

Nothing here knows Thruway. Each module is imported by its own name, so that a test pays only for
what it uses.
"""
