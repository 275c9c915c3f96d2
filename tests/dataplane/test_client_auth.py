"""Thruway's own keys: who may use a route, on this machine and from beyond it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import socket
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import openai
import pytest

from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import (
    ThruwayUp,
    base_environment,
    thruway_command,
    thruway_up,
    wait_until,
)
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream
from thruway_testing.wire.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOP = "vk-shop-canary-8Jq2mWx5"
SHIP = "vk-ship-canary-3Lz9pRt7"
AUTH = {"type": "APIKey", "secretRef": {"name": "clients"}}
CREDENTIAL = {"secretKeyRef": {"name": "openai", "key": "KEY"}}


def with_clients(file: Path, upstream: OpenAIUpstream, **clients: str) -> None:
    write(
        file,
        route("a", "/a", upstream.url, clientAuth=AUTH, credential=CREDENTIAL),
        route("bare", "/bare", upstream.url, clientAuth=AUTH),
        route(
            "gemini",
            "/gemini",
            upstream.url,
            provider="gemini",
            clientAuth=AUTH,
            credential={**CREDENTIAL, "header": "Authorization", "prefix": "Bearer "},
        ),
        secret("openai", KEY=CANARY_KEY),
        secret("clients", **clients),
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("auth") / "routes.yaml"


@pytest.fixture(scope="module")
def up(file: Path, openai_upstream: OpenAIUpstream) -> Iterator[ThruwayUp]:
    with_clients(file, openai_upstream, shop=SHOP, ship=SHIP)
    with thruway_up("-f", str(file)) as up:
        yield up
        for text in (up.text, up.output):
            assert "canary" not in text


HOW_KEYS_COME = {
    "Authorization": {"Authorization": f"Bearer {SHOP}"},
    "a scheme in lower case": {"Authorization": f"bearer {SHOP}"},
    "a scheme in upper case": {"Authorization": f"BEARER {SHOP}"},
    "two blanks behind the scheme": {"Authorization": f"Bearer  {SHOP}"},
    "a tab behind the scheme": {"Authorization": f"Bearer\t{SHOP}"},
    "another scheme": {"Authorization": f"Token {SHOP}"},
    "no scheme": {"Authorization": SHOP},
    "a scheme in another header": {"x-litellm-api-key": f"bearer {SHOP}"},
    "the proxy's own header before the upstream's": {
        "Authorization": "Bearer sk-ant-oat-of-the-upstream",
        "x-litellm-api-key": SHOP,
    },
    "empty headers before": {"Authorization": "", "api-key": "", "x-api-key": SHOP},
    "a scheme alone before": {"Authorization": "Bearer", "x-api-key": SHOP},
    "api-key": {"api-key": SHOP},
    "x-api-key": {"x-api-key": SHOP},
    "x-goog-api-key": {"x-goog-api-key": SHOP},
    "subprotocol": {"Sec-WebSocket-Protocol": f"realtime, openai-insecure-api-key.{SHOP}, beta"},
}


def get(up: ThruwayUp, path: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(f"{up.url}{path}", headers=headers, trust_env=False)


@pytest.mark.parametrize("how", HOW_KEYS_COME)
def test_a_key_lets_its_client_in_and_goes_no_further(
    up: ThruwayUp, openai_upstream: OpenAIUpstream, how: str
) -> None:
    mark = uuid.uuid4().hex
    headers = {"X-Mark": mark, "X-Request-Id": mark, **HOW_KEYS_COME[how]}
    assert get(up, "/a/models", headers).status_code == 200
    (request,) = openai_upstream.requests_with("X-Mark", mark)
    assert request.values("Authorization") == [f"Bearer {CANARY_KEY}"]
    assert SHOP not in str(request.headers)
    assert not any(name.lower().startswith("x-thruway") for name, _ in request.headers)
    assert up.wait_for_call(request_id=mark)["client"] == "shop"


def test_without_a_credential_the_upstream_gets_none(
    up: ThruwayUp, openai_upstream: OpenAIUpstream
) -> None:
    mark = uuid.uuid4().hex
    get(up, "/bare/models", {"X-Mark": mark, "Authorization": f"Bearer {SHOP}"})
    (request,) = openai_upstream.requests_with("X-Mark", mark)
    assert request.values("Authorization") == []


HOW_QUERIES_CARRY_KEYS = {
    "alone": (f"key={SHOP}", ""),
    "among others": (f"%24alt=sse&key={SHOP}&a=%2f&a=b+c", "?%24alt=sse&a=%2f&a=b+c"),
    "escaped": ("key=" + "".join(f"%{ord(letter):02X}" for letter in SHOP), ""),
    "several": (f"key={SHOP}&x=1&key=sk-other", "?x=1"),
}


@pytest.mark.parametrize("how", HOW_QUERIES_CARRY_KEYS)
def test_a_key_in_the_query_is_taken_where_the_provider_takes_it(
    up: ThruwayUp, openai_upstream: OpenAIUpstream, how: str
) -> None:
    query, rest = HOW_QUERIES_CARRY_KEYS[how]
    mark = uuid.uuid4().hex
    headers = {"X-Mark": mark, "X-Request-Id": mark}
    path = f"/gemini/v1/models?{query}"
    assert raw_get(up, path, list(headers.items())) == (200, "")
    (request,) = openai_upstream.requests_with("X-Mark", mark)
    assert request.raw_path == f"/v1/models{rest}".encode()
    assert SHOP not in str(request.headers)
    assert up.wait_for_call(request_id=mark)["client"] == "shop"


def test_a_key_in_a_header_decides_before_one_in_the_query(up: ThruwayUp) -> None:
    wrong = {"x-goog-api-key": "sk-wrong"}
    assert get(up, f"/gemini/v1/models?key={SHOP}", wrong).status_code == 401
    right = {"x-goog-api-key": SHOP}
    assert get(up, "/gemini/v1/models?key=sk-wrong", right).status_code == 200


def test_a_key_in_the_query_is_taken_nowhere_else(up: ThruwayUp) -> None:
    answer = get(up, f"/a/models?key={SHOP}", {})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "missing_api_key"


@pytest.mark.parametrize(
    "keys", [[SHOP, SHIP], [SHOP, SHOP], [SHOP, ""], ["sk-wrong", SHOP]], ids=str
)
def test_several_authorizations_are_no_key(up: ThruwayUp, keys: list[str]) -> None:
    lines = [("Authorization", f"Bearer {key}") for key in keys]
    assert raw_get(up, "/a/models", lines) == (401, "invalid_api_key")


def test_blanks_at_the_end_are_not_part_of_the_key(up: ThruwayUp) -> None:
    for key in (f"bearer {SHOP} \t ", f"Bearer {SHOP}  ", f"{SHOP}\t"):
        assert raw_get(up, "/a/models", [("Authorization", key)]) == (200, "")


def raw_get(up: ThruwayUp, path: str, lines: list[tuple[str, str]]) -> tuple[int, str]:
    """Send a query and headers as they are, unlike httpx; return the status and Thruway's code."""
    connection = http.client.HTTPConnection("127.0.0.1", up.port)
    with contextlib.closing(connection):
        connection.putrequest("GET", path)
        for line in lines:
            connection.putheader(*line)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.getheader("x-thruway-code", "")


NOT_LET_IN = {
    "nothing": ({}, "missing_api_key"),
    "a wrong key": ({"Authorization": "Bearer sk-wrong"}, "invalid_api_key"),
    "half a key": ({"Authorization": f"Bearer {SHOP[:-1]}"}, "invalid_api_key"),
    "the upstream's key": ({"Authorization": f"Bearer {CANARY_KEY}"}, "invalid_api_key"),
    "a wrong key before a right one": (
        {"Authorization": "Bearer sk-wrong", "api-key": SHOP},
        "invalid_api_key",
    ),
    "a wrong key in the proxy's own header before a right one": (
        {"x-litellm-api-key": "sk-wrong", "Authorization": f"Bearer {SHOP}"},
        "invalid_api_key",
    ),
    "a password": (
        {"Authorization": f"Basic {base64.b64encode(f'user:{SHOP}'.encode()).decode()}"},
        "invalid_api_key",
    ),
    "a key among others": ({"Authorization": f"Bearer sk-wrong {SHOP}"}, "invalid_api_key"),
    "a key in a list": ({"Authorization": f"Bearer {SHOP}, Bearer {SHOP}"}, "invalid_api_key"),
    "a scheme alone": ({"Authorization": "bearer"}, "missing_api_key"),
    "an empty header": ({"Authorization": ""}, "missing_api_key"),
    "our own header": ({"X-Thruway-Key": SHOP}, "missing_api_key"),
    "a client's id": ({"X-Thruway-Client": "shop"}, "missing_api_key"),
    "a subprotocol without a key": ({"Sec-WebSocket-Protocol": "realtime"}, "missing_api_key"),
}


@pytest.mark.parametrize("who", NOT_LET_IN)
def test_who_is_not_let_in(up: ThruwayUp, openai_upstream: OpenAIUpstream, who: str) -> None:
    headers, code = NOT_LET_IN[who]
    mark = uuid.uuid4().hex
    answer = get(up, "/a/models", {**headers, "X-Mark": mark})
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == code
    assert openai_upstream.requests_with("X-Mark", mark) == []


def test_the_sdk_raises_its_authentication_error(up: ThruwayUp) -> None:
    with (
        openai.OpenAI(base_url=f"{up.url}/a/v1", api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_a_client_cannot_pass_for_another_in_the_log(up: ThruwayUp) -> None:
    mark = uuid.uuid4().hex
    headers = {"Authorization": f"Bearer {SHIP}", "X-Thruway-Client": "shop", "X-Request-Id": mark}
    assert get(up, "/a/models", headers).status_code == 200
    assert up.wait_for_call(request_id=mark)["client"] == "ship"


def test_rotating_a_key_under_load_fails_no_request(
    up: ThruwayUp, file: Path, openai_upstream: OpenAIUpstream
) -> None:
    new = "vk-shop-canary-new-6Hs1"
    load_headers = {"Authorization": f"Bearer {SHOP}"}
    with Load([f"{up.url}/a/responses"], headers=load_headers) as load:
        wait_until(lambda: load.done > 50, "traffic")
        with_clients(file, openai_upstream, shop=SHOP, shop2=new, ship=SHIP)
        fresh = {"Authorization": f"Bearer {new}"}
        wait_until(lambda: get(up, "/a/models", fresh).status_code == 200, "the new key")
        seen = load.done
        wait_until(lambda: load.done > seen + 50, "more traffic")
    assert load.failures == []
    with_clients(file, openai_upstream, shop2=new, ship=SHIP)
    old = {"Authorization": f"Bearer {SHOP}"}
    wait_until(lambda: get(up, "/a/models", old).status_code == 401, "the old key to go")
    with_clients(file, openai_upstream, shop=SHOP, ship=SHIP)
    wait_until(lambda: get(up, "/a/models", old).status_code == 200, "the first state again")


def test_envoys_configuration_dump_shows_no_key(up: ThruwayUp) -> None:
    dump = up.admin("/config_dump?include_eds")
    assert "api_key_auth" in dump
    assert SHOP not in dump
    assert SHIP not in dump


# --api-key


def test_an_api_key_for_all_routes_is_in_no_list_of_processes(
    openai_upstream: OpenAIUpstream,
) -> None:
    environment = {"OPENAI_API_KEY": CANARY_KEY, "THRUWAY_UPSTREAM_URL": openai_upstream.url}
    with thruway_up("--api-key", SHOP, f"--api-key={SHIP}", environment=environment) as up:
        for key, status in ((SHOP, 200), (SHIP, 200), ("sk-anything", 401)):
            for path in ("/openai_passthrough/v1/models", "/openai/models"):
                headers = {"Authorization": f"Bearer {key}"}
                assert get(up, path, headers).status_code == status
        shown = Path(f"/proc/{up.process.pid}/cmdline").read_bytes().decode()
        assert "--port" in shown
        assert "canary" not in shown
        for pid in (pid for pids in up.children().values() for pid in pids):
            environ = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
            assert "canary" not in environ


def run_up(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*thruway_command(), "up", "--port", "0", *arguments],
        env=base_environment(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_beyond_loopback_without_a_key_is_refused() -> None:
    ended = run_up("--bind", "0.0.0.0", OPENAI_API_KEY=CANARY_KEY)
    assert ended.returncode == 1
    assert "other machines can reach this proxy" in ended.stderr
    assert "--api-key" in ended.stderr


def test_beyond_loopback_with_a_key_serves(openai_upstream: OpenAIUpstream) -> None:
    environment = {
        "OPENAI_API_KEY": CANARY_KEY,
        "THRUWAY_UPSTREAM_URL": openai_upstream.url,
        "THRUWAY_API_KEY": SHOP,
    }
    with thruway_up("--bind", "0.0.0.0", environment=environment) as up:
        headers = {"Authorization": f"Bearer {SHOP}", "Origin": "https://app.example"}
        answer = get(up, "/openai_passthrough/models", headers)
        assert answer.status_code == 200


def test_the_native_upstream_needs_a_key_of_its_own_then(
    openai_upstream: OpenAIUpstream, native_upstream: OpenAIUpstream
) -> None:
    environment = {
        "OPENAI_API_KEY": CANARY_KEY,
        "THRUWAY_UPSTREAM_URL": openai_upstream.url,
        "THRUWAY_NATIVE_URL": native_upstream.url,
        "THRUWAY_API_KEY": SHOP,
    }
    ended = run_up(**environment)
    assert ended.returncode == 1
    assert "set THRUWAY_NATIVE_API_KEY" in ended.stderr
    environment["THRUWAY_NATIVE_API_KEY"] = "sk-native-own"
    with thruway_up(environment=environment) as up:
        mark = uuid.uuid4().hex
        get(up, "/openai/responses", {"Authorization": f"Bearer {SHOP}", "X-Mark": mark})
        (request,) = native_upstream.requests_with("X-Mark", mark)
        assert request.values("Authorization") == ["Bearer sk-native-own"]


@pytest.mark.parametrize("key", ["short", "with a blank", "nön-ascii-key", " "])
def test_an_unusable_key_is_refused_and_not_repeated(key: str) -> None:
    ended = run_up("--bind", "0.0.0.0", "--api-key", key, OPENAI_API_KEY=CANARY_KEY)
    assert ended.returncode == 1
    assert re.search("usable key|is not usable|strangers", ended.stderr)
    assert len(ended.stderr.strip().splitlines()) <= 2
    if key.strip():
        assert key not in ended.stderr


# Browsers, and ourselves

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://evil.example:4000"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
]
OURS = [
    {"Origin": "http://localhost:3000"},
    {"Origin": "https://127.0.0.1"},
    {"Origin": "http://[::1]:8080"},
    {"Origin": "http://0.0.0.0:5173"},
    {"Sec-Fetch-Site": "same-site"},
    {},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_no_foreign_page_can_spend_the_key(thruway: ThruwayUp, headers: dict[str, str]) -> None:
    for path in ("/openai_passthrough/v1/models", "/nowhere"):
        answer = get(thruway, path, headers)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "foreign_origin"


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_pages_of_this_machine_can(thruway: ThruwayUp, headers: dict[str, str]) -> None:
    assert get(thruway, "/openai_passthrough/v1/models", headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1", 200),
        ("127.1.2.3:4000", 200),
        ("[::1]:4000", 200),
        ("0.0.0.0:4000", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:4000", 403),
        ("evil-localhost", 403),
    ],
)
def test_no_foreign_name_leads_here(thruway: ThruwayUp, host: str, status: int) -> None:
    answer = get(thruway, "/openai_passthrough/v1/models", {"Host": host})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "foreign_host"


def test_a_routes_own_host_name_leads_here(tmp_path: Path, openai_upstream: OpenAIUpstream) -> None:
    file = tmp_path / "routes.yaml"
    write(file, route("h", "/h", openai_upstream.url, hostnames=["api.shop.test"]))
    with thruway_up("-f", str(file)) as up:
        bearer = {"Authorization": f"Bearer {CANARY_KEY}", "Host": "api.shop.test"}
        assert get(up, "/h/models", bearer).status_code == 200
        own = {**bearer, "Origin": "http://api.shop.test"}
        assert get(up, "/h/models", own).status_code == 200
        assert get(up, "/h/models", {**bearer, "Origin": "http://evil.test"}).status_code == 403
        assert get(up, "/h/models", {**bearer, "Host": "localhost"}).status_code == 404


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "LocalHost."])
def test_a_route_back_to_ourselves_is_refused(tmp_path: Path, host: str) -> None:
    file = tmp_path / "routes.yaml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    write(file, route("loop", "/loop", f"http://{host}:{port}"))
    ended = run_up("-f", str(file), "--port", str(port))
    assert ended.returncode == 1
    assert "spec.upstream.url leads back to this proxy" in ended.stderr
