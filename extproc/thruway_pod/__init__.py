"""What runs beside Envoy in a pod: extproc's workers, health, metrics, and the drain at the end.

Only the pod's own containers share Envoy's admin interface, a Unix socket. What others may know,
health and metrics, is served on a separate port.
Contract: "extproc and pod never import the operator".
"""
