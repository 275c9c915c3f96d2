"""Takes away what a node leaves in the machine: containers, networks, mounts, rules, addresses."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

__all__ = ["ADDRESS", "DNS", "POD_GATEWAY", "sweep"]

ADDRESS = "10.244.255.1"
"""Of the API server, as pods reach it."""
DNS = "10.244.255.53"
POD_GATEWAY = "10.244.0.1"
"""The node's end of every pod's network."""


def sweep(prefix: str) -> None:
    """Take away whatever nodes left whose folders' paths begin with `prefix`."""
    _kill(prefix)
    for name in _run("ip", "netns", "list").split("\n"):
        if name.startswith("cni-"):
            _run("ip", "netns", "del", name.split()[0])
    for line in _run("ip", "-br", "addr").splitlines():
        name, *rest = line.split()
        if f"{POD_GATEWAY}/32" in rest or f"{POD_GATEWAY}/24" in rest:
            _run("ip", "link", "del", name.partition("@")[0])
    for family in ("ip", "ip6"):
        _run("nft", "delete", "table", family, "kube-proxy")
    for _ in range(3):  # mounts may lie on each other
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted(mounts, reverse=True):
            if mount.startswith(prefix):
                _run("umount", "--lazy", mount)
    for address in (ADDRESS, DNS):
        _run("ip", "addr", "del", f"{address}/32", "dev", "lo")


def _kill(prefix: str) -> None:
    """Kill containerd's shims of such folders, and all that runs in their containers."""
    shims = {pid for pid, command in _commands().items() if _is_shim(command, prefix)}
    parents = _parents()
    doomed = set(shims)
    while more := {pid for pid, parent in parents.items() if parent in doomed} - doomed:
        doomed |= more
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_shim(command: list[str], prefix: str) -> bool:
    return bool(command) and "containerd-shim" in command[0] and any(prefix in w for w in command)


def _commands() -> dict[int, list[str]]:
    found = {}
    for item in Path("/proc").iterdir():
        if item.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(item.name)] = (item / "cmdline").read_text(errors="replace").split("\0")
    return found


def _parents() -> dict[int, int]:
    found = {}
    for item in Path("/proc").iterdir():
        if item.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (item / "stat").read_text(errors="replace").rpartition(")")[2].split()
                found[int(item.name)] = int(stat[1])
    return found


def _run(*command: str) -> str:
    """Run it; that it fails because there is nothing to take away is what we hope for."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
