"""OpenAI's SDK for Node, which has HTTP and multipart of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from thruway_testing.openai_generation import MODELS, answer_to
from thruway_testing.sdk import ADDRESSES, base_url

if TYPE_CHECKING:
    from thruway_testing.sdk import Address

HERE = Path(__file__).parent / "node"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None,
    reason="node and npm are needed for OpenAI's Node SDK",
)


@pytest.fixture(scope="module")
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


def walk(node_modules: Path, url: str) -> dict[str, Any]:
    """Run the calls in `node/walk.mjs` and return what they gave."""
    command = ["node", str(HERE / "walk.mjs"), str(node_modules), url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


@pytest.mark.parametrize("address", ADDRESSES[:3])
def test_the_node_sdk_works(address: str, node_modules: Path, thruway: Address) -> None:
    assert walk(node_modules, base_url(address, thruway)) == {
        "models": list(MODELS),
        "chat": answer_to("Grüße from Node 👋"),
        "streamedChat": {"text": answer_to("Grüße from Node 👋"), "severalPieces": True},
        "response": {"text": answer_to("Hello"), "input": "Hello"},
        "file": {"name": "node.bin", "size": 4096, "same": True},
        "error": {
            "kind": "NotFoundError",
            "status": 404,
            "code": "model_not_found",
            "upstream": "openai",
        },
    }
