"""The key is at the upstream and nowhere else, also when everything logs at debug level."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

from thruway_testing.product.up import ThruwayUp, thruway_up
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT_KEY = "sk-client-canary-4fQ8wZr1Lk0pXv6TnY3b"
"""What clients send: worthless to Thruway, or a key of its own. No business of a log either way."""


@pytest.fixture(params=["the client's key is worthless", "the client's key is Thruway's"])
def up(request: pytest.FixtureRequest, openai_upstream: OpenAIUpstream) -> Iterator[ThruwayUp]:
    environment = {"OPENAI_API_KEY": CANARY_KEY, "THRUWAY_UPSTREAM_URL": openai_upstream.url}
    if request.param.endswith("Thruway's"):
        environment["THRUWAY_API_KEY"] = CLIENT_KEY
    with thruway_up("--log-level", "debug", environment=environment) as up:
        yield up


def traffic(up: ThruwayUp) -> None:
    """Calls that go well and calls that fail, with the client's key wherever clients put it."""
    base = f"{up.url}/openai_passthrough/v1"
    headers = {
        name: value
        for name in ("Authorization", "api-key", "x-api-key", "x-goog-api-key", "x-litellm-api-key")
        for value in [f"Bearer {CLIENT_KEY}" if name == "Authorization" else CLIENT_KEY]
    }
    with httpx.Client(headers=headers, trust_env=False) as client:
        assert client.get(f"{base}/models").status_code == 200
        assert client.get(f"{base}/models?key={CLIENT_KEY}&{CLIENT_KEY}").status_code == 200
        assert client.post(f"{base}/responses", json={"model": "error-500"}).status_code == 500
        assert client.get(f"{up.url}/nowhere?key={CLIENT_KEY}").status_code == 404
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": f"realtime, openai-insecure-api-key.{CLIENT_KEY}",
        }
        assert client.get(f"{base}/no-websocket-here", headers=upgrade).status_code == 404


def test_the_key_is_found_nowhere_but_at_the_upstream(
    up: ThruwayUp, openai_upstream: OpenAIUpstream
) -> None:
    traffic(up)
    up.wait_for_call(path="/nowhere")
    folder = up.run_folder
    places = {
        f"{what} of {kind} {pid}": Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace")
        for kind, pids in up.children().items()
        for pid in pids
        for what in ("cmdline", "environ", "comm")
    }
    places |= {
        f"Envoy's {path}": up.admin(path)
        for path in ("/config_dump?include_eds", "/clusters", "/stats", "/certs", "/server_info")
    }
    assert "openai-passthrough" in places["Envoy's /config_dump?include_eds"]
    places |= {
        f"the file {file.name}": file.read_bytes().decode(errors="replace")
        for file in folder.iterdir()
        if file.is_file()
    }
    os.kill(up.children()["envoy"][0], signal.SIGABRT)  # a crash prints what it was doing
    up.wait_for("envoy is back")
    places |= {"stderr": up.text, "stdout": up.output}
    for place, text in places.items():
        for key in (CANARY_KEY, CLIENT_KEY):
            for form in {key, quote(key), json.dumps(key)[1:-1], key[5:25]}:
                assert form not in text, f"a key is in {place}"
    sent = [
        value for request in openai_upstream.requests for value in request.values("authorization")
    ]
    assert f"Bearer {CANARY_KEY}" in sent
    assert not any(CLIENT_KEY in value for value in sent)
    assert len(up.text.splitlines()) > 100, "debug level says a lot"


def test_a_key_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(
        f"""
apiVersion: thruway.dev/v1alpha1
kind: PassthroughRoute
metadata: {{name: a}}
spec:
  path: {CANARY_KEY}
  provider: {CANARY_KEY}
  {CANARY_KEY}: 1
  upstream: {{url: "https://user:{CANARY_KEY}@host"}}
  credential: {CANARY_KEY}
"""
    )
    with thruway_up("-f", str(file), wait=False) as up:
        assert up.process.wait(30) == 1
    assert "spec.path" in up.text
    assert "spec.credential: must be a mapping of fields" in up.text
    assert CANARY_KEY not in up.text
