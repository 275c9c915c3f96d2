"""The legacy route `/openai`: some endpoints go to a native implementation, the rest direct."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.product.sdk import Address
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

OWN_KEY = "sk-the-clients-own"


@pytest.fixture(scope="module")
def client(thruway: Address) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {OWN_KEY}"}
    with httpx.Client(base_url=thruway.url, headers=headers, trust_env=False) as client:
        yield client


def send(client: httpx.Client, method: str, path: str) -> str:
    """Send a request that can be told from all others; return the mark that it carries."""
    mark = uuid.uuid4().hex
    client.request(method, path, headers={"X-Test-Mark": mark})
    return mark


def arrivals(upstream: OpenAIUpstream, mark: str) -> list[tuple[str, bytes, list[str]]]:
    """Return method, path and credential of each request with this mark that came here."""
    return [
        (request.method, request.raw_path, request.values("Authorization"))
        for request in upstream.requests_with("X-Test-Mark", mark)
    ]


@pytest.mark.parametrize(
    ("method", "sent", "received"),
    [
        ("POST", "/openai/responses", b"/v1/responses"),
        ("POST", "/openai/v1/responses", b"/v1/responses"),
        ("GET", "/openai/v1/responses?limit=2&a[]=%2F", b"/v1/responses?limit=2&a[]=%2F"),
        ("GET", "/openai/responses/resp_1", b"/v1/responses/resp_1"),
        (
            "GET",
            "/openai/v1/responses/resp_1/input_items",
            b"/v1/responses/resp_1/input_items",
        ),
        ("DELETE", "/openai/v1/responses/resp_1", b"/v1/responses/resp_1"),
    ],
)
def test_overridden_endpoints_go_native_with_the_clients_own_key(
    method: str,
    sent: str,
    received: bytes,
    client: httpx.Client,
    openai_upstream: OpenAIUpstream,
    native_upstream: OpenAIUpstream,
) -> None:
    mark = send(client, method, sent)
    assert arrivals(native_upstream, mark) == [(method, received, [f"Bearer {OWN_KEY}"])]
    assert arrivals(openai_upstream, mark) == []


@pytest.mark.parametrize(
    ("method", "sent", "received"),
    [
        ("GET", "/openai/v1/responsesX", b"/v1/responsesX"),
        ("GET", "/openai/responsesX", b"/v1/responsesX"),
        ("GET", "/openai/v1/models/responses", b"/v1/models/responses"),
        ("GET", "/openai/models", b"/v1/models"),
        ("POST", "/openai/v1/chat/completions", b"/v1/chat/completions"),
        ("POST", "/openai/assistants", b"/v1/assistants"),
        # A version of its own is not the /v1 that the override names.
        ("GET", "/openai/v2/responses", b"/v2/responses"),
        # The dedicated route has no overrides: every endpoint goes direct.
        ("POST", "/openai_passthrough/v1/responses", b"/v1/responses"),
        ("POST", "/openai_passthrough/responses", b"/v1/responses"),
        ("GET", "/openai_passthrough/v1/responses/resp_1", b"/v1/responses/resp_1"),
    ],
)
def test_everything_else_goes_direct_with_the_real_key(
    method: str,
    sent: str,
    received: bytes,
    client: httpx.Client,
    openai_upstream: OpenAIUpstream,
    native_upstream: OpenAIUpstream,
) -> None:
    mark = send(client, method, sent)
    assert arrivals(openai_upstream, mark) == [(method, received, [f"Bearer {CANARY_KEY}"])]
    assert arrivals(native_upstream, mark) == []


def test_the_native_answer_comes_back(client: httpx.Client) -> None:
    answer = client.post("/openai/responses", json={"model": "gpt-5", "input": "Hello"})
    assert answer.status_code == 200
    assert answer.headers["x-upstream"] == "native"
    found = client.get(f"/openai/v1/responses/{answer.json()['id']}/input_items")
    assert found.json()["data"][0]["content"] == [{"type": "input_text", "text": "Hello"}]


def test_the_real_key_never_reaches_the_native_upstream(
    client: httpx.Client, native_upstream: OpenAIUpstream
) -> None:
    mark = send(client, "POST", "/openai/responses")
    [request] = native_upstream.requests_with("X-Test-Mark", mark)
    assert CANARY_KEY not in str(request)
