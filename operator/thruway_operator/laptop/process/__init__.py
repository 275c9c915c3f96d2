"""Starts, watches and restarts child processes, and never leaves one behind.

It knows nothing about routes or Envoy. `reaper_process` and `launch` are also separate programs,
started with `python -I -S`, so they import only the standard library.
Contract: "layers of the laptop".
"""
