"""`thruway explain` and the running proxy agree, request by request."""

from __future__ import annotations

import http.client
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.diagnose.offline.explaining import explain
from thruway_operator.diagnose.offline.loading import Input, load
from thruway_operator.diagnose.offline.requests import read_request
from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow  # a real Envoy

KEY = "sk-canary-explain-0123456789"


class Upstream(ThreadingHTTPServer):
    """Answers everything, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        names = {name.lower() for name in self.headers}
        headers = {name: ", ".join(self.headers.get_all(name, ())) for name in names}
        target = self.raw_requestline.split(b" ")[1].decode("latin-1")
        self.server.seen.append((self.command, target, headers))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        pass


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    pair = (Upstream(), Upstream())
    threads = [threading.Thread(target=one.serve_forever, daemon=True) for one in pair]
    for thread in threads:
        thread.start()
    yield pair
    for one, thread in zip(pair, threads, strict=True):
        one.shutdown()
        thread.join()
        one.server_close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, upstreams: tuple[Upstream, Upstream]) -> Path:
    direct, native = (f"http://{one.authority}" for one in upstreams)
    file = tmp_path_factory.mktemp("explain") / "routes.yaml"
    credential = {"secretKeyRef": {"name": "openai", "key": "KEY"}}
    write(
        file,
        secret("openai", KEY=KEY),
        route("dedicated", "/openai_passthrough", direct, credential=credential),
        route(
            "legacy",
            "/openai",
            f"{direct}/base",
            credential=credential,
            overrides=[
                {"path": "/v1/responses", "upstream": {"url": f"{native}/native"}},
                {"path": "/v1/files", "match": "Exact", "upstream": {"url": native}},
                {
                    "path": "/v1/responses/own",
                    "upstream": {"url": native},
                    "credential": {**credential, "header": "X-Own", "prefix": "Key "},
                },
            ],
        ),
        route(
            "ruled",
            "/ruled",
            direct,
            request={
                "methods": ["GET", "POST"],
                "headers": {
                    "set": [{"name": "X-Set", "value": "é %"}],
                    "add": [{"name": "X-Add", "value": "more"}],
                    "remove": ["X-Gone"],
                },
                "query": {
                    "set": [{"name": "api-version", "value": "a b"}],
                    "default": [{"name": "d", "value": "1"}],
                    "remove": ["gone"],
                },
            },
        ),
        route("hosted", "/hosted", direct, hostnames=["api.example.com", "*.wild.example"]),
        route("strict", "/strict", direct, request={"headers": {"forwardOnly": ["X-Kept"]}}),
        route(
            "missing", "/missing", direct, credential={"secretKeyRef": {"name": "no", "key": "no"}}
        ),
        route("again", "/openai/v1", direct, hostnames=["other.example"]),
    )
    return file


@pytest.fixture(scope="module")
def proxy(file: Path) -> Iterator[ThruwayUp]:
    # `again` collides with `legacy`, which `up` does not start with; it comes later.
    documents = file.read_text("utf-8").split("---\n")
    started = file.with_name("served.yaml")
    started.write_text("---\n".join(part for part in documents if "name: again" not in part))
    with thruway_up("-f", str(started)) as up:
        yield up


@pytest.fixture(scope="module")
def given(file: Path) -> Input:
    return load([file], {name: os.environ[name] for name in ("PATH",)})


REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/openai_passthrough/v1/models", {}),
    ("GET", "/openai_passthrough/models", {}),
    ("GET", "/openai_passthrough", {}),
    ("GET", "/openai_passthrough/", {}),
    ("GET", "/openai_passthrough?a=1&a=%2F", {}),
    ("GET", "/openai_passthroughX/v1/models", {}),
    ("POST", "/openai_passthrough/v1beta/x;y=1//z", {}),
    ("GET", "/openai_passthrough/%2Fv1/models", {}),
    ("GET", "/openai_passthrough/../openai", {}),
    ("GET", "/openai_passthrough/%2e%2e/openai", {}),
    ("GET", "/openai/v1/models?x", {}),
    ("POST", "/openai/v1/responses", {"Authorization": "Bearer own"}),
    ("POST", "/openai/responses?include[]=a&include[]=b", {}),
    ("GET", "/openai/v1/responses/resp_1", {}),
    ("GET", "/openai/v1/responses/own/x", {}),
    ("GET", "/openai/responsesX", {}),
    ("GET", "/openai/v2/responses", {}),
    ("GET", "/openai/v1/files", {}),
    ("GET", "/openai/files", {}),
    ("GET", "/openai/v1/files/f1", {}),
    ("GET", "/ruled/v1/x?api-version=old&gone=1&k=v", {"X-Gone": "1", "X-Set": "old"}),
    ("POST", "/ruled/x?d=", {"X-Add": "first"}),
    ("DELETE", "/ruled/x", {}),
    ("PUT", "/ruled", {}),
    ("GET", "/hosted/x", {}),
    ("GET", "/hosted/x", {"Host": "api.example.com"}),
    ("GET", "/hosted/x", {"Host": "API.example.com:8080"}),
    ("GET", "/hosted/x", {"Host": "a.b.wild.example"}),
    ("GET", "/hosted/x", {"Host": "wild.example"}),
    ("GET", "/openai/x", {"Host": "api.example.com"}),
    ("GET", "/strict/x", {"X-Kept": "1", "X-Other": "2", "Api-Key": "k"}),
    ("GET", "/missing/x", {}),
    ("GET", "/nothing", {}),
    ("GET", "/", {}),
    ("OPTIONS", "/openai_passthrough/v1/models", {"Origin": "https://evil.example"}),
    ("GET", "/openai_passthrough/v1/models", {"Origin": "http://localhost:3000"}),
    ("GET", "/openai_passthrough/v1/models", {"Sec-Fetch-Site": "cross-site"}),
    ("GET", "/openai_passthrough/v1/models", {"Host": "evil.example"}),
]


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    REQUESTS,
    ids=[f"{method} {target} {headers}" for method, target, headers in REQUESTS],
)
def test_both_agree(
    method: str,
    target: str,
    headers: dict[str, str],
    proxy: ThruwayUp,
    given: Input,
    upstreams: tuple[Upstream, Upstream],
) -> None:
    """The route, the answer, and all that the upstream gets are as explained."""
    for one in upstreams:
        one.seen.clear()
    host = headers.get("Host", f"localhost:{proxy.port}")
    sent = {**headers, "Host": host, "X-Request-Id": "1"}
    before = len(proxy.calls())
    status, code = ask(proxy.port, method, target, sent)
    told = explain(
        given, read_request(method, target, [f"{k}: {v}" for k, v in sent.items()], proxy.port)
    )
    arrived = [(one.authority, *seen) for one in upstreams for seen in one.seen]
    wait_until(lambda: len(proxy.calls()) > before, "the call")
    name = f"{told.route}#{told.override}" if told.override else told.route
    assert (proxy.calls()[before]["route"] or "") == name
    if told.answer is not None:
        assert (arrived, status, code) == ([], told.answer.status, told.answer.code)
        return
    assert told.upstream is not None
    [(authority, got_method, got_target, got)] = arrived
    wanted = told.upstream
    assert (got_method, got_target, got["host"]) == (method, wanted.target, wanted.authority)
    assert authority == f"{wanted.endpoint.host}:{wanted.endpoint.port}"
    credential = wanted.endpoint.credential
    if credential:
        assert got[credential.header] == credential.prefix + KEY
    for name, value in wanted.set:
        assert got[name] == value
    injected = credential.header if credential else ""
    assert [name for name in wanted.removed if name in got and name != injected] == []
    for name in wanted.passed:
        assert got[name].startswith({k.lower(): v for k, v in sent.items()}[name])
    known = {name for name, _ in (*wanted.set, *wanted.added)} | {*wanted.passed, injected}
    assert got.keys() - known - {"host", "content-length", "accept-encoding"} == set()


def ask(port: int, method: str, target: str, headers: dict[str, str]) -> tuple[int, str]:
    """Send it as it stands; return the status, and the code of Thruway's own answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if method in ("POST", "PUT"):
            connection.putheader("Content-Length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        try:
            return answer.status, json.loads(body)["error"]["code"] if body else ""
        except (ValueError, KeyError):
            return answer.status, ""
    finally:
        connection.close()


def test_the_route_that_lost_says_so(given: Input) -> None:
    """`again` collides with `legacy` only on a host that both serve."""
    told = explain(given, read_request("GET", "http://other.example/openai/v1/x", [], 4000))
    why = dict(told.others).get("default/again", "")
    assert "it is not served: path collides" in why
