"""Anthropic's and Google's SDKs on a route of their provider, with any key."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import anthropic
import pytest
import trustme
from google import genai
from google.genai import types

from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.node_sdks import needs_node, run_script
from thruway_testing.product.up import thruway_up
from thruway_testing.upstreams.anthropic import anthropic_upstream
from thruway_testing.upstreams.gemini import LIVE, gemini_upstream
from thruway_testing.upstreams.openai_upstream import CANARY_KEY
from thruway_testing.upstreams.tls_front import TlsFront, server_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thruway_testing.product.up import ThruwayUp
    from thruway_testing.upstreams.served import Served

BINARY = bytes(range(256)) * 40 + b"\r\n--\r\n\x00\xff"
PLACEHOLDER = "placeholder"


@pytest.fixture(scope="module")
def claude_upstream() -> Iterator[Served]:
    with anthropic_upstream(CANARY_KEY) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def google_upstream() -> Iterator[Served]:
    with gemini_upstream(CANARY_KEY) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def up(
    claude_upstream: Served,
    google_upstream: Served,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ThruwayUp]:
    folder: Path = tmp_path_factory.mktemp("providers")
    credential = {"secretKeyRef": {"name": "keys", "key": "real"}}
    write(
        folder / "routes.yaml",
        route(
            "claude",
            "/claude",
            "",
            provider="anthropic",
            upstream={"url": claude_upstream.url},
            credential=credential,
        ),
        route(
            "google",
            "/google",
            "",
            provider="gemini",
            upstream={"url": google_upstream.url},
            credential=credential,
        ),
        # Google's SDK for Node takes the path of an upload from the upstream: docs/paths.md.
        route("uploads", "/upload", f"{google_upstream.url}/upload", credential=credential),
        secret("keys", real=CANARY_KEY),
    )
    with thruway_up("-f", str(folder / "routes.yaml")) as up:
        yield up


@pytest.fixture(scope="module")
def claude(up: ThruwayUp) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=f"{up.url}/claude",
        api_key=PLACEHOLDER,
        max_retries=0,
        http_client=anthropic.DefaultHttpxClient(trust_env=False),
    ) as client:
        yield client


@pytest.fixture(scope="module")
def google(up: ThruwayUp) -> Iterator[genai.Client]:
    client = genai.Client(
        api_key=PLACEHOLDER, http_options=types.HttpOptions(base_url=f"{up.url}/google")
    )
    yield client
    client.close()


def test_anthropic_models(claude: anthropic.Anthropic) -> None:
    assert [model.id for model in claude.models.list()] == ["claude-test"]


def test_anthropic_messages(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(
        model="claude-test", max_tokens=10, messages=[{"role": "user", "content": "Grüße 👋"}]
    )
    assert message.content[0].type == "text"
    assert message.content[0].text == "You said: Grüße 👋"


def test_anthropic_streams(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model="claude-test", max_tokens=10, messages=[{"role": "user", "content": "one two"}]
    ) as stream:
        pieces = list(stream.text_stream)
    assert pieces == ["You", " said:", " one", " two"]


def test_anthropic_batches(claude: anthropic.Anthropic) -> None:
    batch = claude.messages.batches.create(requests=[])
    assert claude.messages.batches.retrieve(batch.id).processing_status == "ended"


def test_anthropic_files(claude: anthropic.Anthropic) -> None:
    uploaded = claude.beta.files.upload(file=("all.bin", io.BytesIO(BINARY)))
    assert (uploaded.filename, uploaded.size_bytes) == ("all.bin", len(BINARY))
    assert claude.beta.files.download(uploaded.id).read() == BINARY


def test_anthropic_other_endpoints(claude: anthropic.Anthropic, claude_upstream: Served) -> None:
    """Claude Code reports events to a path that has no version."""
    with pytest.raises(anthropic.NotFoundError):
        claude.post("/api/event_logging/batch", cast_to=object)
    assert claude_upstream.targets()[-1] == "POST /api/event_logging/batch"


def test_gemini_models(google: genai.Client) -> None:
    assert [model.name for model in google.models.list()] == ["models/gemini-test"]
    assert google.models.get(model="gemini-test").display_name == "Gemini Test"


def test_gemini_generates(google: genai.Client) -> None:
    response = google.models.generate_content(model="gemini-test", contents="Grüße 👋")
    assert response.text == "You said: Grüße 👋"


def test_gemini_streams(google: genai.Client) -> None:
    stream = google.models.generate_content_stream(model="gemini-test", contents="one two")
    assert [chunk.text for chunk in stream] == ["You", " said:", " one", " two"]


def test_gemini_files(google: genai.Client, google_upstream: Served) -> None:
    uploaded = google.files.upload(
        file=io.BytesIO(BINARY), config={"mime_type": "application/octet-stream"}
    )
    assert uploaded.size_bytes == len(BINARY)
    assert google.files.download(file=uploaded) == BINARY
    assert "POST /upload/v1/files" in google_upstream.targets()


def test_gemini_live(
    up: ThruwayUp, google_upstream: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK always opens wss://, whatever the scheme of its base URL."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def handshake(base: str) -> bool:
        options = types.HttpOptions(base_url=base)
        client = genai.Client(api_key=PLACEHOLDER, http_options=options)
        async with client.aio.live.connect(model="gemini-test") as session:
            return session is not None

    with TlsFront(up.port, server_context(authority, "127.0.0.1")) as front:
        assert asyncio.run(handshake(f"https://127.0.0.1:{front.port}/google"))
    live = f"GET {LIVE.format(version='v1')}"
    assert any(target.startswith(live) for target in google_upstream.targets())


@needs_node
def test_the_sdks_for_node(up: ThruwayUp) -> None:
    assert run_script("providers.mjs", f"{up.url}/claude", f"{up.url}/google") == {
        "claudeModels": ["claude-test"],
        "claudeMessage": "You said: Grüße from Node 👋",
        "claudeStream": {"text": "You said: Grüße from Node 👋", "severalPieces": True},
        "claudeBatch": "ended",
        "claudeFile": True,
        "googleModels": ["models/gemini-test"],
        "googleText": "You said: Hello",
        "googleStream": ["You", " said:", " one", " two"],
        "googleFile": True,
        "googleLive": True,
    }


def test_the_upstreams_saw_the_real_key_alone(
    claude_upstream: Served, google_upstream: Served
) -> None:
    for request in (*claude_upstream.requests, *google_upstream.requests):
        if "upload_id=" not in request.target:
            assert CANARY_KEY in request.headers.values()
        assert PLACEHOLDER not in f"{request.target} {dict(request.headers)}"
