"""Everything that README.md shows is executed, as it stands there."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.product.up import ThruwayUp, base_environment, wait_until
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream
from thruway_testing.wire.curl import path_with_curl

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = 4000
"""The port in the README; the test takes a free one in its place."""


@dataclass(frozen=True)
class Block:
    """A fenced block, and its place among those of the README."""

    number: int
    language: str
    text: str


BLOCKS = [
    Block(number, found[1], found[2])
    for number, found in enumerate(
        re.finditer(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    )
]


def block(language: str, beginning: str) -> Block:
    """Return the one block that begins so."""
    (found,) = (b for b in BLOCKS if b.language == language and b.text.startswith(beginning))
    return found


TWO = block("sh", "make up\nmake test\n")
THREE = block("sh", "kubectl label namespace")
START = block("sh", "export OPENAI_API_KEY=")
CALL = block("python", "import openai")
CURL = block("sh", "curl ")
PICTURE = block("text", " your service")
ROUTES = block("yaml", "apiVersion: thruway.dev/")
FILES = block("sh", "make up ARGS=")


def test_every_block_of_the_readme_is_known_here() -> None:
    assert BLOCKS == [TWO, THREE, PICTURE, START, CALL, CURL, ROUTES, FILES]
    assert len(README.splitlines()) < 150


@pytest.fixture(scope="module")
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream(accepted_keys=[CANARY_KEY]) as upstream:
        yield upstream


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def typed(command: str, **environment: str) -> Iterator[ThruwayUp]:
    """Type a command that serves, in the root of the repository; Ctrl-C at the end."""
    process = subprocess.Popen(
        ["sh", "-c", command],
        cwd=ROOT,
        env=base_environment(PYTHON=sys._base_executable, **environment),  # type: ignore[attr-defined]
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    up = ThruwayUp(process)
    try:
        up.wait_ready()
        yield up
        assert "Traceback" not in up.text
    finally:
        pids = [pid for kind in up.children().values() for pid in kind]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        up.finish()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the end")


def output_of(*command: str, tmp_path: Path) -> str:
    path = path_with_curl(os.environ["PATH"], tmp_path)
    ended = subprocess.run(
        command,
        env=base_environment() | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stdout


def on_port(text: str, port: int) -> str:
    """The text as it stands, but for the port."""
    assert str(PORT) in text
    return text.replace(str(PORT), str(port))


def test_start_it_and_call_it(upstream: OpenAIUpstream, free_port: int, tmp_path: Path) -> None:
    command = START.text.replace("sk-…", CANARY_KEY)
    assert command != START.text
    port_option = re.search(r"`(make up ARGS=\"--port )4001\"`", README)
    assert port_option is not None
    command = command.replace("make up", f'{port_option[1]}{free_port}"')
    with typed(command, THRUWAY_UPSTREAM_URL=upstream.url) as up:
        assert up.port == free_port
        said = output_of(sys.executable, "-c", on_port(CALL.text, free_port), tmp_path=tmp_path)
        assert "Say hello." in said
        models = output_of("sh", "-c", on_port(CURL.text, free_port), tmp_path=tmp_path)
        assert '"object": "list"' in models


def test_the_example_of_a_key_is_not_taken_for_one() -> None:
    """Who copies the block as it stands is told so, and not by OpenAI's 401."""
    ended = subprocess.run(
        ["sh", "-c", START.text],
        cwd=ROOT,
        env=base_environment(PYTHON=sys._base_executable),  # type: ignore[attr-defined]
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "OPENAI_API_KEY looks like a placeholder, not a key" in ended.stderr


def test_the_demonstration_of_who_has_no_key(free_port: int, tmp_path: Path) -> None:
    assert TWO.text.startswith("make up\n")
    with typed(f'make up ARGS="--port {free_port}"') as up:
        assert "DEMONSTRATION" in up.text
        said = output_of(sys.executable, "-c", on_port(CALL.text, free_port), tmp_path=tmp_path)
        assert "OPENAI_API_KEY" in said


def test_your_own_routes(free_port: int) -> None:
    assert (ROOT / "examples" / "routes.yaml").read_text().endswith(f"---\n{ROUTES.text}")
    command = FILES.text.replace('yaml"', f'yaml --port {free_port}"')
    with typed(command, OPENAI_API_KEY=CANARY_KEY) as up:
        assert re.search(
            r"/openai_passthrough\s+https://api\.openai\.com\s+OPENAI_API_KEY", up.text
        )
        assert re.search(
            r"/openai/v1/responses\s+http://localhost:4100\s+the client's own", up.text
        )
        answer = httpx.get(f"{up.url}/openai/v1/responses/x", trust_env=False)
        assert answer.status_code == 502  # nothing listens on the example's port
        assert answer.json()["error"]["code"] == "upstream_unreachable"


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(targets) > 5
    for target in targets:
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), target
