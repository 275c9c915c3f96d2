"""Real pages in headless Chromium: those of this machine call Thruway, others cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from thruway_testing.product.chromium import FOREIGN, PageServer, open_page
from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream
from thruway_testing.upstreams.web_upstream import WebUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).with_name("page.html")
CLIENT = "vk-client-canary-8Jq2mWx5"
JSON = {"Content-Type": "application/json"}  # with it, a browser sends a preflight


@pytest.fixture(scope="module")
def upstream() -> Iterator[WebUpstream]:
    """Like api.openai.com, it answers preflights and lets every page read its responses."""
    with WebUpstream(CANARY_KEY, cors=True) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def closed_upstream() -> Iterator[WebUpstream]:
    """It knows nothing of browsers."""
    with WebUpstream(CANARY_KEY, cors=False) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def realtime() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream(accepted_keys=[CANARY_KEY]) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def up(
    tmp_path_factory: pytest.TempPathFactory,
    upstream: WebUpstream,
    closed_upstream: WebUpstream,
    realtime: OpenAIUpstream,
) -> Iterator[ThruwayUp]:
    file = tmp_path_factory.mktemp("routes") / "routes.yaml"
    credential = {"secretKeyRef": {"name": "openai", "key": "KEY"}}
    auth = {"type": "APIKey", "secretRef": {"name": "clients"}}
    write(
        file,
        route("openai", "/openai_passthrough", upstream.url, credential=credential),
        route("pass", "/pass", upstream.url),
        route("keyed", "/keyed", closed_upstream.url, credential=credential, clientAuth=auth),
        route("realtime", "/realtime", realtime.url, credential=credential),
        secret("openai", KEY=CANARY_KEY),
        secret("clients", page=CLIENT),
    )
    with thruway_up("-f", str(file)) as up:
        yield up


def report(host: str, calls: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what a page of this host reports of these calls."""
    with PageServer(PAGE.read_text("utf-8")) as server:
        url = f"http://{host}:{server.port}/#{quote(json.dumps(calls))}"
        with open_page(url, folder):
            return server.wait()


def post(up: ThruwayUp, path: str, key: str = "") -> dict[str, Any]:
    headers = JSON | ({"Authorization": f"Bearer {key}"} if key else {})
    return {"url": f"{up.url}{path}", "init": {"method": "POST", "headers": headers, "body": "{}"}}


def test_a_page_of_localhost_without_a_client_key(
    up: ThruwayUp, upstream: WebUpstream, tmp_path: Path
) -> None:
    base = "/openai_passthrough/v1"
    calls = {
        "json": post(up, f"{base}/responses"),
        "stream": post(up, f"{base}/stream") | {"release": post(up, f"{base}/release")},
        "upstream's 401": post(up, "/pass/v1/responses", "sk-wrong"),
        "no route": post(up, "/nowhere/v1/responses"),
        "simple": {"url": f"{up.url}{base}/models"},
        "socket": {"socket": f"ws://127.0.0.1:{up.port}/realtime/v1/realtime?model=m"},
    }
    seen = report("localhost", calls, tmp_path)
    assert seen["json"]["status"] == seen["simple"]["status"] == 200
    assert json.loads(seen["json"]["text"]) == {"path": "/v1/responses"}
    assert seen["json"]["requestId"] == "req-1"
    assert seen["stream"]["chunks"] == ["data: first\n\n", "data: second\n\n"]
    refused = seen["upstream's 401"]
    assert (refused["status"], refused["code"]) == (401, None)
    assert json.loads(refused["text"])["error"]["message"] == "upstream's"
    nowhere = seen["no route"]
    assert (nowhere["status"], nowhere["code"]) == (404, "route_not_found")
    assert json.loads(nowhere["text"])["error"]["code"] == "route_not_found"
    assert seen["socket"] == {"open": True}
    assert "OPTIONS" in {request.method for request in upstream.received}


def test_a_page_of_localhost_with_a_client_key(
    up: ThruwayUp, closed_upstream: WebUpstream, tmp_path: Path
) -> None:
    calls = {
        "json": post(up, "/keyed/v1/responses", CLIENT),
        "stream": post(up, "/keyed/v1/stream", CLIENT)
        | {"release": post(up, "/keyed/v1/release", CLIENT)},
        "no key": post(up, "/keyed/v1/responses"),
        "wrong key": post(up, "/keyed/v1/responses", "sk-wrong"),
        "delete": {
            "url": f"{up.url}/keyed/v1/own-cors",
            "init": {"method": "DELETE", "headers": {"Authorization": f"Bearer {CLIENT}"}},
        },
    }
    seen = report("localhost", calls, tmp_path)
    assert seen["json"]["status"] == 200
    assert seen["json"]["requestId"] == "req-1"
    assert seen["stream"]["chunks"] == ["data: first\n\n", "data: second\n\n"]
    for name, code in (("no key", "missing_api_key"), ("wrong key", "invalid_api_key")):
        assert (seen[name]["status"], seen[name]["code"]) == (401, code)
        assert json.loads(seen[name]["text"])["error"]["code"] == code
    assert "error" in seen["delete"]  # the upstream allows another origin, and that stays
    assert "OPTIONS" not in {request.method for request in closed_upstream.received}


def test_a_page_of_another_origin(
    up: ThruwayUp,
    upstream: WebUpstream,
    closed_upstream: WebUpstream,
    realtime: OpenAIUpstream,
    tmp_path: Path,
) -> None:
    before = [len(item) for item in (upstream.received, closed_upstream.received)]
    handshakes = len(realtime.requests)
    base = f"{up.url}/openai_passthrough/v1"
    opaque = {"mode": "no-cors", "method": "POST", "body": "{}"}
    calls = {
        "json": post(up, "/openai_passthrough/v1/responses"),
        "keyed": post(up, "/keyed/v1/responses", CLIENT),
        "no key": post(up, "/keyed/v1/responses"),
        "simple": {"url": f"{base}/models"},
        "no route": {"url": f"{up.url}/nowhere"},
        "opaque": {"url": f"{base}/responses", "init": opaque},
        "image": {"image": f"{base}/models"},
        "socket": {"socket": f"ws://127.0.0.1:{up.port}/realtime/v1/realtime?model=m"},
        "rebound": {"url": f"http://{FOREIGN}:{up.port}/openai_passthrough/v1/models"},
    }
    seen = report(FOREIGN, calls, tmp_path)
    assert seen.pop("opaque") == {  # the page learns nothing, and nothing happened
        "status": 0, "type": "opaque", "code": None, "requestId": None, "text": "",
    }  # fmt: skip
    assert seen == {
        "json": {"error": "TypeError"},
        "keyed": {"error": "TypeError"},
        "no key": {"error": "TypeError"},
        "simple": {"error": "TypeError"},
        "no route": {"error": "TypeError"},
        "image": {"error": "Image"},
        "socket": {"error": "WebSocket"},
        "rebound": {"error": "TypeError"},
    }
    assert [len(item) for item in (upstream.received, closed_upstream.received)] == before
    assert len(realtime.requests) == handshakes
    codes = [call["code"] for call in up.calls() if call["status"] == 403]
    assert set(codes) == {"foreign_origin", "foreign_host"}
