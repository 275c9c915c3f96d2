"""Which web pages may call a proxy, and read its responses: by raw requests, as browsers send them.

tests/browser has the same with a real browser.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up
from thruway_testing.upstreams.openai_upstream import CANARY_KEY
from thruway_testing.upstreams.web_upstream import WebUpstream
from thruway_testing.wire.rawhttp_client import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENT = "vk-client-canary-8Jq2mWx5"
KEY = {"Authorization": f"Bearer {CLIENT}"}
AUTH = {"type": "APIKey", "secretRef": {"name": "clients"}}
CREDENTIAL = {"secretKeyRef": {"name": "openai", "key": "KEY"}}
OBSIDIAN = "app://obsidian.md"
PARTNER = "https://partner.example"
CODE = "vscode-file://vscode-app"
LOCAL = "http://localhost:5173"
HTTP = httpx.Client(trust_env=False, verify=False)
SECRETS = (secret("openai", KEY=CANARY_KEY), secret("clients", page=CLIENT))


@pytest.fixture(scope="module")
def upstream() -> Iterator[WebUpstream]:
    with WebUpstream(CANARY_KEY, cors=False) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def open_upstream() -> Iterator[WebUpstream]:
    with WebUpstream(CANARY_KEY, cors=True) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def file(
    tmp_path_factory: pytest.TempPathFactory, upstream: WebUpstream, open_upstream: WebUpstream
) -> Path:
    file = tmp_path_factory.mktemp("browsers") / "routes.yaml"
    keyed = {"clientAuth": AUTH, "credential": CREDENTIAL}
    listed = {"allowedOrigins": [OBSIDIAN, PARTNER]}
    write(
        file,
        route("open", "/open", open_upstream.url, credential=CREDENTIAL),
        route("bare", "/bare", upstream.url, credential=CREDENTIAL),
        route("listed", "/listed", open_upstream.url, credential=CREDENTIAL, **listed),
        route("keyed", "/keyed", upstream.url, **keyed),
        route("keyed-listed", "/keyed-listed", upstream.url, **keyed, **listed),
        route(
            "narrow", "/narrow", upstream.url, **keyed,
            request={"methods": ["GET", "POST"], "headers": {"forwardOnly": ["Accept"]}},
        ),
        route("posts", "/posts", upstream.url, request={"methods": ["POST"]}),
        route(
            "own", "/own", upstream.url, **keyed,
            response={"headers": {"set": [{"name": "Access-Control-Allow-Origin", "value": "*"}]}},
        ),
        route(
            "missing", "/missing", upstream.url,
            credential={"secretKeyRef": {"name": "nowhere", "key": "KEY"}},
        ),
        route(
            "named", "/named", upstream.url, credential=CREDENTIAL,
            hostnames=["api.shop.test", "*.wild.test"],
        ),
        *SECRETS,
    )  # fmt: skip
    return file


@pytest.fixture(scope="module")
def up(file: Path) -> Iterator[ThruwayUp]:
    """On loopback."""
    with thruway_up("-f", str(file), "--allow-origin", CODE) as up:
        yield up


@pytest.fixture(scope="module")
def beyond(tmp_path_factory: pytest.TempPathFactory, upstream: WebUpstream) -> Iterator[ThruwayUp]:
    """Beyond loopback, as a gateway."""
    file = tmp_path_factory.mktemp("beyond") / "routes.yaml"
    keyed = {"clientAuth": AUTH, "credential": CREDENTIAL}
    write(
        file,
        route("keyed", "/keyed", upstream.url, **keyed),
        route("listed", "/listed", upstream.url, **keyed, allowedOrigins=[OBSIDIAN, PARTNER]),
        *SECRETS,
    )
    with thruway_up("-f", str(file), "--bind", "0.0.0.0") as up:
        yield up


def call(up: ThruwayUp, path: str, headers: dict[str, str], method: str = "GET") -> httpx.Response:
    return HTTP.request(method, f"{up.url}{path}", headers=headers)


def preflight(
    up: ThruwayUp, path: str, origin: str, method: str = "POST", **more: str
) -> httpx.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": method, **more}
    return call(up, path, headers, "OPTIONS")


def allowed(response: httpx.Response) -> str | None:
    value: str | None = response.headers.get("Access-Control-Allow-Origin")
    return value


def code_of(response: httpx.Response) -> str:
    code: str = response.json()["error"]["code"]
    assert response.headers["x-thruway-code"] == code
    return code


# Who may call

OURS = [
    LOCAL,
    "http://LOCALHOST:5173",
    "https://localhost",
    "https://127.0.0.1",
    "http://127.8.9.1:1",
    "http://[::1]:3000",
    "http://0.0.0.0:5173",
    "http://app.localhost",
    "http://tauri.localhost",
    "https://a.b-c.localhost:8443",
    CODE,
]
FOREIGN = [
    "null",
    "NULL",
    "",
    "*",
    "https://evil.example",
    "http://localhost.evil.com",
    "http://evil.com/localhost",
    "http://localhost:5173@evil",
    "http://evil.com:localhost",
    "http://evil.com?localhost",
    "http://notlocalhost",
    "http://.localhost",
    "http://localhost:",
    "http://localhost:123456",
    "http://127.0.0.1.evil.com",
    "http://127.0.0.1:4000:80",
    "http://1270.0.1",
    "http://[::1].evil.com",
    "http://[::2]",
    "http://localhost, http://localhost",
    "file://localhost",
    "localhost:5173",
    "app://localhost",
    f"{CODE}/",
    f"{CODE}.evil",
    CODE.upper(),
    OBSIDIAN,
    "chrome-extension://abcdefghijklmnop",
]


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", None])
@pytest.mark.parametrize("origin", OURS)
def test_a_local_page_may_call_whatever_its_site(
    up: ThruwayUp, origin: str, site: str | None
) -> None:
    headers = {"Origin": origin} | ({"Sec-Fetch-Site": site} if site else {})
    assert call(up, "/open/models", headers).status_code == 200


@pytest.mark.parametrize("path", ["/open/v1/models", "/keyed/v1/models", "/nowhere"])
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_may_not(
    up: ThruwayUp, upstream: WebUpstream, open_upstream: WebUpstream, origin: str, path: str
) -> None:
    mark = uuid.uuid4().hex
    for site in ("cross-site", "same-origin", "none"):
        headers = {"Origin": origin, "Sec-Fetch-Site": site, **KEY}
        for method in ("GET", "POST", "PUT"):
            response = call(up, f"{path}?{mark}", headers, method)
            assert (response.status_code, code_of(response)) == (403, "foreign_origin")
            assert allowed(response) is None
    response = preflight(up, f"{path}?{mark}", origin)
    assert (response.status_code, code_of(response)) == (403, "foreign_origin")
    assert allowed(response) is None
    assert upstream.received_with(mark) == open_upstream.received_with(mark) == []


@pytest.mark.parametrize("second", [LOCAL, "https://evil.example", "null"])
def test_two_origins_are_foreign(up: ThruwayUp, second: str) -> None:
    data = (
        f"GET /open/v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: {LOCAL}\r\n"
        f"Origin: {second}\r\n\r\n"
    )
    with RawClient(up.port) as client:
        (reply,) = client.send_raw(data.encode(), b"GET")
    assert reply.status == 403


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 403), ("Cross-Site", 403), ("same-site", 200), ("none", 200), ("", 200)],
)
def test_without_an_origin_the_site_decides(up: ThruwayUp, site: str, status: int) -> None:
    """Images, scripts, links and forms that GET."""
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert call(up, "/open/models", headers).status_code == status


@pytest.mark.parametrize("origin", [*OURS, "https://evil.example", "null"])
def test_the_origin_decides_about_websockets_too(up: ThruwayUp, origin: str) -> None:
    headers = {
        "Origin": origin,
        "Sec-Fetch-Site": "cross-site",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    response = call(up, "/nowhere", headers)  # refused before it is looked for
    code = "route_not_found" if origin in OURS else "foreign_origin"
    assert code_of(response) == code


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        ("evil.test", None, "foreign_host"),  # DNS rebinding, a GET of the same origin
        ("evil.test", "http://evil.test", "foreign_host"),
        ("evil.test", LOCAL, "foreign_host"),
        ("evil.test", CODE, "foreign_host"),
        ("evil.test", OBSIDIAN, "foreign_host"),
        ("localhost.evil.test", None, "foreign_host"),
        ("localhost@evil.test", None, "foreign_host"),
        ("app.localhost:4000", "http://app.localhost:4000", ""),
        ("localhost", "http://localhost", ""),
    ],
)
def test_a_page_of_a_rebound_name_may_not(
    up: ThruwayUp, host: str, origin: str | None, code: str
) -> None:
    headers = {"Host": host, "Sec-Fetch-Site": "same-origin"}
    headers |= {"Origin": origin} if origin else {}
    response = call(up, "/listed/models", headers)
    assert response.headers.get("x-thruway-code", "") == code
    assert response.status_code == (403 if code else 200)


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("api.shop.test", "http://api.shop.test:3000", 200),
        ("api.shop.test", LOCAL, 200),
        ("api.shop.test", "http://apixshop.test", 403),
        ("api.shop.test", "http://shop.test", 403),
        ("api.shop.test", "http://a.wild.test", 403),
        ("a.b.wild.test", "http://b.wild.test", 200),
        ("a.wild.test", "http://wild.test", 403),
        ("a.wild.test", "http://evil.test:80@x.wild.test", 403),
        ("a.wild.test", "http://evil.test/x.wild.test", 403),
    ],
)
def test_pages_of_a_routes_own_host_names(
    up: ThruwayUp, host: str, origin: str, status: int
) -> None:
    headers = {"Host": host, "Origin": origin, "Sec-Fetch-Site": "cross-site"}
    assert call(up, "/named/models", headers).status_code == status


def test_a_route_allows_its_own_origins_only_on_its_own_paths(up: ThruwayUp) -> None:
    for path, status in (
        ("/listed/models", 200),
        ("/keyed-listed/models", 200),
        ("/open/models", 403),
        ("/listedX", 403),
        ("/nowhere", 403),
    ):
        assert call(up, path, {"Origin": OBSIDIAN, **KEY}).status_code == status
    for origin in (f"{OBSIDIAN}x", "app://obsidianxmd", "https://obsidian.md", "null"):
        assert call(up, "/listed/models", {"Origin": origin}).status_code == 403


# Preflights


@pytest.mark.parametrize("path", ["/keyed", "/keyed/v1/models", "/keyed?x", "/own/x", "/narrow/x"])
@pytest.mark.parametrize("origin", OURS)
def test_envoy_answers_preflights_where_clients_need_a_key(
    up: ThruwayUp, upstream: WebUpstream, path: str, origin: str
) -> None:
    seen = len(upstream.received)
    wanted = "authorization,content-type,x-stainless-os"
    more = {
        "Access-Control-Request-Headers": wanted,
        "Access-Control-Request-Private-Network": "true",
    }
    response = preflight(up, path, origin, **more)
    assert response.status_code == 204
    assert response.content == b""
    assert allowed(response) == origin
    headers = response.headers
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert headers["Access-Control-Allow-Headers"] == wanted
    assert headers["Access-Control-Allow-Private-Network"] == "true"
    assert "Origin" in headers["Vary"]
    assert int(headers["Access-Control-Max-Age"]) > 0
    assert "Access-Control-Allow-Credentials" not in headers
    assert "x-thruway-code" not in headers
    assert len(upstream.received) == seen


def test_a_preflight_names_the_routes_methods(up: ThruwayUp) -> None:
    response = preflight(up, "/narrow/x", LOCAL, "DELETE")
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST"
    assert "Access-Control-Allow-Private-Network" not in response.headers
    assert "Access-Control-Allow-Headers" not in response.headers
    response = preflight(up, "/keyed/x", LOCAL, "DELETE")
    assert response.headers["Access-Control-Allow-Methods"] == "DELETE"


def test_a_preflight_passes_where_the_route_does_not_list_options(up: ThruwayUp) -> None:
    response = preflight(up, "/posts/x", LOCAL)
    assert (response.status_code, allowed(response)) == (204, LOCAL)
    assert response.headers["Access-Control-Allow-Methods"] == "POST"
    assert allowed(call(up, "/posts/x", {"Origin": LOCAL}, "POST")) == LOCAL
    assert preflight(up, "/posts/x", "https://evil.example").status_code == 403


def test_other_requests_with_options_need_a_key(up: ThruwayUp, upstream: WebUpstream) -> None:
    for headers in ({}, {"Origin": LOCAL}, {"Access-Control-Request-Method": "POST"}):
        assert call(up, "/keyed/x", headers, "OPTIONS").status_code == 401
    mark = uuid.uuid4().hex
    assert call(up, f"/keyed/x?{mark}", KEY, "OPTIONS").status_code == 204
    assert len(upstream.received_with(mark)) == 1


def test_without_client_keys_the_upstream_answers_preflights(
    up: ThruwayUp, open_upstream: WebUpstream
) -> None:
    mark = uuid.uuid4().hex
    response = preflight(up, f"/open/v1/chat/completions?{mark}", LOCAL)
    assert (response.status_code, allowed(response)) == (204, "*")
    (request,) = open_upstream.received_with(mark)
    assert (request.method, request.headers["origin"]) == ("OPTIONS", LOCAL)


def test_where_nobody_else_could_thruway_answers_preflights(up: ThruwayUp) -> None:
    """So that the page can read why there is nobody."""
    for path, status, code in (
        ("/missing/x", 503, "credential_missing"),
        ("/nowhere", 404, "route_not_found"),
    ):
        assert preflight(up, path, LOCAL).status_code == 204
        response = call(up, path, {"Origin": LOCAL}, "PUT")
        assert (response.status_code, code_of(response)) == (status, code)
        assert allowed(response) == LOCAL


# Responses

READ = {"Origin": LOCAL, "Sec-Fetch-Site": "cross-site"}


@pytest.mark.parametrize("origin", OURS)
def test_a_response_where_clients_need_a_key_can_be_read(up: ThruwayUp, origin: str) -> None:
    response = call(up, "/keyed/models", {"Origin": origin, **KEY})
    assert response.status_code == 200
    assert allowed(response) == origin
    assert response.headers["Vary"] == "Origin"
    assert response.headers["Access-Control-Expose-Headers"] == "*"
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_it_can_where_the_upstream_does_not_get_the_origin(
    up: ThruwayUp, upstream: WebUpstream
) -> None:
    mark = uuid.uuid4().hex
    assert allowed(call(up, f"/narrow/models?{mark}", {**READ, **KEY})) == LOCAL
    (request,) = upstream.received_with(mark)
    assert "origin" not in request.headers


def test_the_upstreams_own_headers_stay(up: ThruwayUp) -> None:
    response = call(up, "/keyed/own-cors", {**READ, **KEY})
    assert response.headers.get_list("Access-Control-Allow-Origin") == [PARTNER]
    assert response.headers["Vary"] == "Accept"
    assert "Access-Control-Expose-Headers" not in response.headers


def test_the_routes_own_headers_stay(up: ThruwayUp) -> None:
    response = call(up, "/own/models", {**READ, **KEY})
    assert response.headers.get_list("Access-Control-Allow-Origin") == ["*"]


def test_nothing_is_added_where_there_is_no_page(up: ThruwayUp) -> None:
    for path, headers in (
        ("/keyed/models", KEY),
        ("/keyed/models", {}),
        ("/nowhere", {}),
        ("/bare/models", {"Origin": LOCAL}),  # without client keys, the upstream decides
    ):
        response = call(up, path, headers)
        assert allowed(response) is None
        assert "Vary" not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/keyed/models", {}, 401, "missing_api_key"),
        ("POST", "/keyed/models", {"Authorization": "Bearer sk-other"}, 401, "invalid_api_key"),
        ("DELETE", "/narrow/models", KEY, 405, "method_not_allowed"),
        ("GET", "/nowhere", {}, 404, "route_not_found"),
        ("GET", "/missing/models", {}, 503, "credential_missing"),
    ],
)
def test_thruways_own_errors_can_be_read(
    up: ThruwayUp, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    response = call(up, path, {**READ, **headers}, method)
    assert (response.status_code, code_of(response)) == (status, code)
    assert response.headers.get_list("Access-Control-Allow-Origin") == [LOCAL]
    assert response.headers["Access-Control-Expose-Headers"] == "*"
    assert response.headers["Vary"] == "Origin"


def test_an_unreachable_upstream_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    gone = "http://127.0.0.1:9"
    write(
        file,
        route("keyed", "/keyed", gone, clientAuth=AUTH),
        route("open", "/open", gone),
        *SECRETS,
    )
    with thruway_up(
        "-f", str(file), environment={"THRUWAY_ALLOW_ORIGIN": f"{OBSIDIAN}, {CODE}"}
    ) as up:
        for path in ("/keyed/x", "/open/x"):
            for origin in (LOCAL, OBSIDIAN, CODE):
                response = call(up, path, {"Origin": origin, **KEY})
                assert code_of(response) == "upstream_unreachable"
                assert allowed(response) == origin
        assert call(up, "/open/x", {"Origin": PARTNER}).status_code == 403
        assert call(up, "/nowhere", {"Origin": CODE}).status_code == 404


# Beyond loopback: no origin is local, and whoever has a key may call.


@pytest.mark.parametrize("origin", [LOCAL, "https://evil.example", "null", f"{OBSIDIAN}x"])
def test_beyond_loopback_only_named_origins_can_read(
    beyond: ThruwayUp, upstream: WebUpstream, origin: str
) -> None:
    seen = len(upstream.received)
    for path in ("/keyed/models", "/listed/models"):
        response = preflight(beyond, path, origin)
        assert (response.status_code, code_of(response)) == (403, "origin_not_allowed")
        assert allowed(response) is None
        assert len(upstream.received) == seen
    for path, headers, status in (
        ("/listed/models", KEY, 200),
        ("/listed/models", {}, 401),
        ("/keyed/models", KEY, 200),
        ("/nowhere", {}, 404),
    ):
        response = call(beyond, path, {"Origin": origin, **headers})
        assert response.status_code == status
        assert allowed(response) is None


@pytest.mark.parametrize("origin", [OBSIDIAN, PARTNER])
def test_beyond_loopback_named_origins_can(beyond: ThruwayUp, origin: str) -> None:
    response = preflight(beyond, "/listed/models", origin)
    assert (response.status_code, allowed(response)) == (204, origin)
    for headers, status in ((KEY, 200), ({}, 401)):
        response = call(beyond, "/listed/models", {"Origin": origin, **headers})
        assert (response.status_code, allowed(response)) == (status, origin)
        assert response.headers["Vary"] == "Origin"
    assert preflight(beyond, "/keyed/models", origin).status_code == 403
