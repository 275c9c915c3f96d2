"""The real kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Kubectl", "KubectlError"]

# The wheel's, beside this interpreter: whatever else is on PATH may be older.
_COMMAND = Path(sys.executable).parent / "kubectl"


class KubectlError(AssertionError):
    """kubectl failed; the message is what it said."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig and one namespace."""

    kubeconfig: Path
    namespace: str

    def run(
        self, *arguments: str, given: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run it; raise KubectlError if it fails and `check` is true."""
        done = subprocess.run(
            # What the server knows is cached by its address, which another one may have had.
            [
                str(_COMMAND),
                f"--cache-dir={self.kubeconfig}.cache",
                "--namespace",
                self.namespace,
                *arguments,
            ],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done

    def apply(self, manifest: str | dict[str, Any], *arguments: str) -> str:
        """Apply a manifest; return what was said."""
        given = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.run("apply", *arguments, "-f", "-", given=given).stdout

    def get_json(self, *arguments: str) -> Any:
        """`kubectl get … -o json`, parsed."""
        return json.loads(self.run("get", *arguments, "-o", "json").stdout)
