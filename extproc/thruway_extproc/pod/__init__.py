"""What runs beside Envoy in a pod: extproc's workers, health and metrics, and the drain at the end.

Envoy's admin interface is a Unix socket that only the pod's own containers share. What others may
know of it, health and metrics, is served on a port of its own.
"""
