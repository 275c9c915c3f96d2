"""`request.headers.setFromSecret`: headers from Secrets beside the credential."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from thruway_testing.product.manifests import Document, route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up, wait_until
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream
from thruway_testing.wire.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN, NEW = "gw-token-of-test-7Yh2", "gw-token-of-test-new-3Kd9"
CREDENTIAL = {"secretKeyRef": {"name": "openai", "key": "KEY"}}
GATEWAY = {"name": "X-Gateway-Token", "secretKeyRef": {"name": "gateway", "key": "TOKEN"}}
AZURE = {"name": "api-key", "prefix": "v1 ", "secretKeyRef": {"name": "gateway", "key": "TOKEN"}}
LOST = {"name": "X-Lost", "secretKeyRef": {"name": "nowhere", "key": "TOKEN"}}


def setting(*items: dict[str, Any], **headers: Any) -> dict[str, Any]:
    return {"headers": {"setFromSecret": list(items), **headers}}


def documents(upstream: OpenAIUpstream, native: OpenAIUpstream, token: str) -> list[Document]:
    overrides = [{"path": "/v1/responses", "upstream": {"url": native.url}}]
    url = upstream.url
    return [
        route("both", "/both", url, credential=CREDENTIAL, request=setting(GATEWAY, AZURE)),
        route("own", "/own", url, request=setting(GATEWAY), overrides=overrides),
        route(
            "few",
            "/few",
            url,
            credential=CREDENTIAL,
            request=setting(GATEWAY, forwardOnly=["X-Mark"]),
        ),
        route("lost", "/lost", url, credential=CREDENTIAL, request=setting(GATEWAY, LOST)),
        secret("openai", KEY=CANARY_KEY),
        secret("gateway", TOKEN=token),
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "routes.yaml"


@pytest.fixture
def up(
    file: Path, openai_upstream: OpenAIUpstream, native_upstream: OpenAIUpstream
) -> Iterator[ThruwayUp]:
    write(file, *documents(openai_upstream, native_upstream, TOKEN))
    with thruway_up("-f", str(file), "--log-level", "debug") as up:
        yield up
        for text in (up.text, up.output, up.admin("/config_dump")):
            assert not [value for value in (TOKEN, NEW, CANARY_KEY) if value in text]


def call(up: ThruwayUp, path: str, **headers: str) -> tuple[httpx.Response, str]:
    mark = uuid.uuid4().hex
    sent = {name.replace("_", "-"): value for name, value in headers.items()} | {"X-Mark": mark}
    return httpx.get(f"{up.url}{path}", headers=sent, trust_env=False), mark


def test_they_reach_the_upstream_in_place_of_the_clients(
    up: ThruwayUp, openai_upstream: OpenAIUpstream
) -> None:
    for path, more in (("/both/models", {"api-key": [f"v1 {TOKEN}"]}), ("/few/models", {})):
        answer, mark = call(up, path, X_Gateway_Token="forged", api_key="sk-client")
        assert answer.status_code == 200
        (request,) = openai_upstream.requests_with("X-Mark", mark)
        assert request.values("X-Gateway-Token") == [TOKEN]
        assert request.values("Authorization") == [f"Bearer {CANARY_KEY}"]
        assert request.values("api-key") == more.get("api-key", [])


def test_an_override_gets_none_of_them(
    up: ThruwayUp, openai_upstream: OpenAIUpstream, native_upstream: OpenAIUpstream
) -> None:
    own = {"Authorization": f"Bearer {CANARY_KEY}"}
    _, mark = call(up, "/own/models", **own)
    (request,) = openai_upstream.requests_with("X-Mark", mark)
    assert request.values("X-Gateway-Token") == [TOKEN]
    assert request.values("Authorization") == [own["Authorization"]]
    _, mark = call(up, "/own/responses", **own)
    (request,) = native_upstream.requests_with("X-Mark", mark)
    assert request.values("X-Gateway-Token") == []


def test_without_one_of_the_secrets_nothing_goes_out(
    up: ThruwayUp, openai_upstream: OpenAIUpstream
) -> None:
    answer, mark = call(up, "/lost/models", X_Lost="forged")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "credential_missing"
    assert openai_upstream.requests_with("X-Mark", mark) == []


def test_rotation_under_load_and_loss(
    up: ThruwayUp, file: Path, openai_upstream: OpenAIUpstream, native_upstream: OpenAIUpstream
) -> None:
    with Load([f"{up.url}/both/responses"]) as load:
        wait_until(lambda: load.done > 50, "traffic")
        write(file, *documents(openai_upstream, native_upstream, NEW))
        wait_until(lambda: openai_upstream.requests_with("X-Gateway-Token", NEW), "the new token")
        seen = load.done
        wait_until(lambda: load.done > seen + 50, "more traffic")
    assert load.failures == []
    without = [
        document
        for document in documents(openai_upstream, native_upstream, NEW)
        if document["metadata"]["name"] != "gateway"
    ]
    write(file, *without)
    wait_until(lambda: call(up, "/both/models")[0].status_code == 503, "the token to go")
    before = len(openai_upstream.requests)
    assert call(up, "/few/models")[0].json()["error"]["code"] == "credential_missing"
    assert len(openai_upstream.requests) == before
