"""The names that users and other parts of Thruway know."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BOOTSTRAP",
    "CA_CONFIG_MAP",
    "CA_VOLUME",
    "ENVOY",
    "EXTPROC",
    "HEALTH_PORT",
    "HEALTH_PORT_NAME",
    "INJECTED",
    "LABEL",
    "MESH",
    "OFF",
    "ON",
    "OUR_CONTAINERS",
    "OUR_VOLUMES",
    "PREFIX",
    "RUN_VOLUME",
    "TOKEN_VOLUME",
]

PREFIX: Final = "thruway.dev/"
LABEL: Final = f"{PREFIX}inject"
"""Of namespaces (`enabled`) and of pods."""
INJECTED: Final = f"{PREFIX}injected"
"""Annotation of pods that have a sidecar: the version of Thruway that added it."""
ON: Final = ("true", "enabled")
OFF: Final = ("false", "disabled")

BOOTSTRAP: Final = "thruway-bootstrap"
EXTPROC: Final = "thruway-extproc"
ENVOY: Final = "thruway-envoy"
OUR_CONTAINERS: Final = (BOOTSTRAP, EXTPROC, ENVOY)

RUN_VOLUME: Final = "thruway-run"
TOKEN_VOLUME: Final = "thruway-token"  # noqa: S105 - a name
CA_VOLUME: Final = "thruway-ca"
OUR_VOLUMES: Final = (RUN_VOLUME, TOKEN_VOLUME, CA_VOLUME)
CA_CONFIG_MAP: Final = "thruway-ca"

HEALTH_PORT: Final = 4001
"""Kubelet and Prometheus reach it at the pod's address."""
HEALTH_PORT_NAME: Final = "thruway-health"

MESH: Final = (
    "istio-init",
    "istio-validation",
    "istio-proxy",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-proxy",
)
"""Containers of meshes: they precede ours, and get no variables."""
