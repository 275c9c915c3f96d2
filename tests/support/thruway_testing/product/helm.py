"""The real Helm on a real API server."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thruway_testing.plane.kubernetes.kubectl import Kubectl
from thruway_testing.product.chart import NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

__all__ = ["Helm"]


@dataclass
class Helm:
    """Helm, and kubectl, with all rights."""

    program: Path
    plane: ControlPlane
    home: Path

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.plane.admin_kubeconfig, NAMESPACE)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.program), *arguments, "--namespace", NAMESPACE],
            env={
                "KUBECONFIG": str(self.plane.admin_kubeconfig),
                "HOME": str(self.home),
                "PATH": os.environ["PATH"],
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    def everything(self) -> set[str]:
        """Return kind, namespace and name of every object there is, but for Events and Leases."""
        kinds = self.kubectl.run("api-resources", "--verbs=list", "-o", "name").stdout.split()
        kinds = [kind for kind in kinds if not kind.startswith(("events", "leases."))]
        columns = "KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name"
        listing = ("get", ",".join(kinds), "--all-namespaces", "--no-headers", "-o")
        found = self.kubectl.run(*listing, f"custom-columns={columns}").stdout
        return {re.sub(r" +", " ", line) for line in found.splitlines()}
