"""What `thruway up` is made of on a laptop: processes, ports, the demonstration and the console.

Nothing here knows routes or Envoy's configuration. `guard` and `launch` are also programs of their
own, started with `python -I -S`, and so import the standard library only.
"""
