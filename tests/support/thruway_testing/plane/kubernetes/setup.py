"""What every control plane of our tests needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thruway_testing.plane.kubernetes.kubectl import Kubectl
from thruway_testing.product.up import wait_until

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

__all__ = ["CRDS", "install_crd", "wait_established"]

CRDS = Path(__file__).parents[5] / "charts" / "thruway" / "files" / "crds"


def install_crd(plane: ControlPlane) -> None:
    """Apply the chart's CRD and wait until it is served."""
    kubectl = Kubectl(plane.admin_kubeconfig, "default")
    kubectl.run("apply", "--server-side", "--filename", str(CRDS))
    wait_established(kubectl)


def wait_established(kubectl: Kubectl) -> None:
    """Wait until every CRD is served.

    Not by `kubectl wait`, which fails if it comes before the first status.
    """

    def established() -> bool:
        crds = kubectl.get_json("crd")["items"]
        return bool(crds) and all(_is_established(crd.get("status") or {}) for crd in crds)

    wait_until(established, "CRDs to be established", every=0.1)


def _is_established(status: dict[str, Any]) -> bool:
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or ()}
    return conditions.get("Established") == "True"
