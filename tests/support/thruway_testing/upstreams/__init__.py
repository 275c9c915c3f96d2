"""Upstreams that Thruway forwards to in tests: real HTTP servers on loopback."""
