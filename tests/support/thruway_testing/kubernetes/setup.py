"""What every control plane of our tests needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thruway_testing.kubernetes.kubectl import Kubectl

if TYPE_CHECKING:
    from thruway_testing.kubernetes.control_plane import ControlPlane

__all__ = ["CRDS", "install_crd"]

CRDS = Path(__file__).parents[4] / "charts" / "thruway" / "files" / "crds"


def install_crd(plane: ControlPlane) -> None:
    """Apply the chart's CRD and wait until it is served."""
    kubectl = Kubectl(plane.admin_kubeconfig, "default")
    kubectl.run("apply", "--server-side", "--filename", str(CRDS))
    kubectl.run(
        "wait", "--for=condition=Established", "--timeout=30s", "crd/passthroughroutes.thruway.dev"
    )
