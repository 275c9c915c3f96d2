"""What this machine lacks to run a node."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["PROGRAMS", "missing"]

PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "coredns",
    "helm",
)
"""Built from their Go modules."""

# A built runc lacks seccomp. Command or file, and the package of Debian that has it.
_PACKAGES = {
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "openssl": "openssl",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
}


def missing() -> list[str]:
    """Return what is missing, in sentences; empty: nothing."""
    found = []
    if os.geteuid() != 0:
        found.append("root: run it as root, kubelet makes cgroups, mounts and networks")
    packages = [package for file, package in _PACKAGES.items() if not _there(file)]
    if packages:
        names = " ".join(packages)
        found.append(f"packages: apt-get install --no-install-recommends {names}")
    return found


def _there(file: str) -> bool:
    if file.startswith("/"):
        return Path(file).exists()
    return shutil.which(file) is not None
