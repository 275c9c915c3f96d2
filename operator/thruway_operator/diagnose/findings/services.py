"""The Services of the chart, and whether anything is behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thruway_operator.diagnose.findings.conventions import containers

if TYPE_CHECKING:
    from thruway_operator.diagnose.findings.facts import Answer, Object

__all__ = ["UPGRADE", "has_endpoint", "operator_service", "see_operators"]

UPGRADE: Final = "upgrade the chart, which restores it"
_OPTION: Final = "--operator="
"""The option of `thruway bootstrap` that names the operator's Service."""


def operator_service(pod: Object) -> tuple[str, str] | None:
    """Return namespace and name of the Service through which a proxy reaches the operator."""
    arguments = [arg for item in containers(pod) for arg in item.get("args") or ()]
    found = next((arg for arg in arguments if str(arg).startswith(_OPTION)), "")
    host = str(found).removeprefix(_OPTION).rpartition(":")[0].split(".")
    return (host[1], host[0]) if len(host) > 2 and host[2] == "svc" else None


def see_operators(namespace: str) -> str:
    """Return what to do if a Service of the operator has no ready endpoint."""
    return (
        f"see why the operator's pods are not ready: kubectl -n {namespace} get pods "
        "-l app.kubernetes.io/component=operator"
    )


def has_endpoint(slices: Answer) -> bool:
    """Return whether a Service has a ready endpoint."""
    return any(_is_ready(item) for found in slices.items for item in found.get("endpoints") or ())


def _is_ready(endpoint: dict[str, Any]) -> bool:
    # Unset means ready: EndpointSlice API, EndpointConditions.
    return (endpoint.get("conditions") or {}).get("ready") is not False
