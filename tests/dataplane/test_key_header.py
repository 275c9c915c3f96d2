"""`clientAuth.header`: one header carries Thruway's key, all others are the upstream's."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOP = "vk-shop-canary-5Tg7hNq1"
AUTH = {"type": "APIKey", "secretRef": {"name": "clients"}, "header": "X-Proxy-Key"}
IN_LITELLMS = {**AUTH, "header": "x-litellm-api-key"}
IN_AUTHORIZATION = {**AUTH, "header": "Authorization"}
CREDENTIAL = {"secretKeyRef": {"name": "openai", "key": "KEY"}}
OWN = "sk-of-the-client-itself"


@pytest.fixture(scope="module")
def up(
    tmp_path_factory: pytest.TempPathFactory,
    openai_upstream: OpenAIUpstream,
    native_upstream: OpenAIUpstream,
) -> Iterator[ThruwayUp]:
    url = openai_upstream.url
    native = [{"path": "/v1/responses", "upstream": {"url": native_upstream.url}}]
    file = tmp_path_factory.mktemp("keys") / "routes.yaml"
    write(
        file,
        route("own", "/own", url, clientAuth=AUTH, overrides=native),
        route("kept", "/kept", url, clientAuth=AUTH, credential=CREDENTIAL),
        route("litellm", "/litellm", url, clientAuth=IN_LITELLMS),
        route("authorization", "/authorization", url, clientAuth=IN_AUTHORIZATION),
        route("gemini", "/gemini", url, clientAuth=AUTH, provider="gemini"),
        secret("openai", KEY=CANARY_KEY),
        secret("clients", shop=SHOP),
    )
    with thruway_up("-f", str(file)) as up:
        yield up
        for text in (up.text, up.output):
            assert "canary" not in text


def call(up: ThruwayUp, path: str, **headers: str) -> tuple[httpx.Response, str]:
    mark = uuid.uuid4().hex
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"X-Mark": mark, "X-Request-Id": mark}
    return httpx.get(f"{up.url}{path}", headers=sent, trust_env=False), mark


def test_the_clients_own_credentials_reach_the_upstream(
    up: ThruwayUp, openai_upstream: OpenAIUpstream
) -> None:
    subprotocols = f"realtime, openai-insecure-api-key.{OWN}"
    answer, mark = call(
        up,
        f"/own/v1/models?key={OWN}",
        X_Proxy_Key=SHOP,
        Authorization=f"Bearer {OWN}",
        X_Api_Key=OWN,
        Sec_WebSocket_Protocol=subprotocols,
    )
    assert answer.headers["x-upstream"] == "openai"  # which knows no such key
    (request,) = openai_upstream.requests_with("X-Mark", mark)
    assert request.values("Authorization") == [f"Bearer {OWN}"]
    assert request.values("X-Api-Key") == [OWN]
    assert request.values("Sec-WebSocket-Protocol") == [subprotocols]
    assert request.query == f"key={OWN}".encode()
    assert SHOP not in str(request.headers)
    assert up.wait_for_call(request_id=mark)["client"] == "shop"


def test_so_they_do_that_of_an_override(up: ThruwayUp, native_upstream: OpenAIUpstream) -> None:
    _, mark = call(up, "/own/v1/responses", X_Proxy_Key=SHOP, Authorization=f"Bearer {OWN}")
    (request,) = native_upstream.requests_with("X-Mark", mark)
    assert request.values("Authorization") == [f"Bearer {OWN}"]
    assert SHOP not in str(request.headers)


def test_a_parameter_key_is_the_upstreams(up: ThruwayUp, openai_upstream: OpenAIUpstream) -> None:
    _, mark = call(up, f"/gemini/v1/models?key={OWN}", X_Proxy_Key=SHOP)
    (request,) = openai_upstream.requests_with("X-Mark", mark)
    assert request.query == f"key={OWN}".encode()
    assert call(up, f"/gemini/v1/models?key={SHOP}")[0].status_code == 401


def test_with_a_credential_they_are_removed(up: ThruwayUp, openai_upstream: OpenAIUpstream) -> None:
    answer, mark = call(
        up, "/kept/v1/models", X_Proxy_Key=SHOP, Authorization=f"Bearer {OWN}", X_Api_Key=OWN
    )
    assert answer.status_code == 200
    (request,) = openai_upstream.requests_with("X-Mark", mark)
    assert request.values("Authorization") == [f"Bearer {CANARY_KEY}"]
    assert request.values("X-Api-Key") == []
    assert SHOP not in str(request.headers)


@pytest.mark.parametrize("form", [SHOP, f"Bearer {SHOP}", f"bearer   {SHOP}", f"Key {SHOP}"])
def test_the_key_may_come_with_any_scheme(up: ThruwayUp, form: str) -> None:
    answer, _ = call(up, "/kept/v1/models", X_Proxy_Key=form)
    assert answer.status_code == 200


def test_no_other_header_carries_the_key(up: ThruwayUp) -> None:
    answer, _ = call(up, "/own/v1/models", Authorization=f"Bearer {SHOP}", X_Api_Key=SHOP)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "missing_api_key"
    answer, _ = call(up, "/own/v1/models", X_Proxy_Key="sk-wrong", Authorization=f"Bearer {SHOP}")
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_it_may_be_a_header_for_credentials(up: ThruwayUp, openai_upstream: OpenAIUpstream) -> None:
    _, mark = call(up, "/litellm/v1/models", x_litellm_api_key=SHOP, Authorization=f"Bearer {OWN}")
    (request,) = openai_upstream.requests_with("X-Mark", mark)
    assert request.values("Authorization") == [f"Bearer {OWN}"]
    assert request.values("x-litellm-api-key") == []
    _, mark = call(up, "/authorization/v1/models", Authorization=f"Bearer {SHOP}", X_Api_Key=OWN)
    (request,) = openai_upstream.requests_with("X-Mark", mark)
    assert request.values("Authorization") == []
    assert request.values("X-Api-Key") == [OWN]
