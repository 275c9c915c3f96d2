"""The providers' SDKs for Node: installed once, run as scripts that print JSON."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

__all__ = ["needs_node", "node_modules", "run_script"]

HERE = Path(__file__).parents[3] / "dataplane" / "node"

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None,
    reason="node and npm are needed for the SDKs for Node",
)


def node_modules() -> Path:
    """Return a folder with what the lock asks for installed, out of the repository.

    A folder that is there is complete: it is filled elsewhere and moved in one step.
    """
    lock = (HERE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thruway"
    folder = cache / f"node-{hashlib.sha256(lock).hexdigest()[:16]}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, fresh)
        install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(install, cwd=fresh, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        try:
            fresh.rename(folder)
        except OSError:
            assert folder.exists()  # another run was quicker
    return folder


def run_script(name: str, *arguments: str) -> dict[str, Any]:
    """Run a script of tests/dataplane/node with these arguments; return what it printed."""
    command = ["node", str(HERE / name), str(node_modules()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results
