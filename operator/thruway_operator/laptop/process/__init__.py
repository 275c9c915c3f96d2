"""Child processes: started, watched, restarted, and never left behind.

Knows nothing of routes or Envoy. `guardian` and `launch` are also programs of their own, started
with `python -I -S`, so they import the standard library only.
Contract: "layers of the laptop".
"""
