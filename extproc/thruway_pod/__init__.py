"""What runs beside Envoy in a pod: extproc's workers, health, metrics, and the drain at shutdown.

Only the pod's own containers share Envoy's admin interface, a Unix socket. Health and metrics,
which others may read, are served on a separate port.
Contract: "extproc and pod never import the operator".
"""
