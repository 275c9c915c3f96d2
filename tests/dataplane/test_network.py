"""Networks that lead to the world through a proxy: CONNECT on the wire, and what fails how."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
import trustme
from websockets.sync.client import connect

from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up, wait_until
from thruway_testing.upstreams.connect_proxy import ConnectProxy
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream
from thruway_testing.upstreams.rawhttp_upstream import RawUpstream
from thruway_testing.upstreams.tls_front import TlsFront, server_context
from thruway_testing.wire.rawhttp import Answer, Version

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "api.corp.test"
"""A name that exists on the proxy alone."""
LOGIN = "jo:p@ss wörd/canary-6Yt2"
BASIC = "Basic " + base64.b64encode(LOGIN.encode()).decode()
KEY = {"Authorization": f"Bearer {CANARY_KEY}"}
CREDENTIAL = {"secretKeyRef": {"name": "openai", "key": "KEY"}}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


@pytest.fixture(scope="module")
def front(authority: trustme.CA, openai_upstream: OpenAIUpstream) -> Iterator[TlsFront]:
    with TlsFront(openai_upstream.port, server_context(authority, HOST)) as front:
        yield front


@contextmanager
def up_with(bundle: str, *arguments: str, **variables: str) -> Iterator[ThruwayUp]:
    environment = {
        "OPENAI_API_KEY": CANARY_KEY,
        "THRUWAY_UPSTREAM_URL": f"https://{HOST}",
        "SSL_CERT_FILE": bundle,
        **variables,
    }
    with thruway_up(*arguments, environment=environment) as up:
        yield up


def get(up: ThruwayUp, path: str = "/openai_passthrough/v1/models") -> httpx.Response:
    return httpx.get(f"{up.url}{path}", trust_env=False, timeout=20)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# What passes


def test_connect_asks_for_the_name_and_says_nothing_of_the_request(
    bundle: str, front: TlsFront
) -> None:
    with (
        ConnectProxy({HOST: front.port}) as proxy,
        up_with(bundle, HTTPS_PROXY=proxy.url) as up,
    ):
        up.wait_for(rf"Through the proxy 127\.0\.0\.1:{proxy.port}: api\.corp\.test\.")
        with httpx.Client(trust_env=False) as client:  # one connection, so one thread of Envoy's
            for _ in range(3):
                answer = client.get(f"{up.url}/openai_passthrough/v1/models")
                assert answer.status_code == 200
        [asked] = proxy.requests
        assert (asked.method, asked.target, asked.version) == ("CONNECT", f"{HOST}:443", "HTTP/1.1")
        assert asked.headers == (("host", f"{HOST}:443"),)
        assert front.handshakes[-1].server_name == HOST


def test_streams_uploads_and_websockets_pass_through_the_tunnel(
    bundle: str, front: TlsFront, openai_upstream: OpenAIUpstream
) -> None:
    with (
        ConnectProxy({HOST: front.port}) as proxy,
        up_with(bundle, HTTPS_PROXY=proxy.url) as up,
    ):
        lock_steps(up)
        body = os.urandom(8 * 1024 * 1024)
        answer = httpx.post(
            f"{up.url}/openai_passthrough/v1/files",
            files={"file": ("data.bin", body)},
            data={"purpose": "assistants"},
            trust_env=False,
            timeout=30,
        )
        assert answer.status_code == 200
        content = get(up, f"/openai_passthrough/v1/files/{answer.json()['id']}/content")
        assert content.content == body
        assert set(proxy.tunnels) == {f"{HOST}:443"}
    assert openai_upstream.requests[-1].values("authorization") == [f"Bearer {CANARY_KEY}"]


def lock_steps(up: ThruwayUp) -> None:
    """Walk through a stream of events and a WebSocket, each step confirmed before the next."""
    base = f"{up.url}/openai_passthrough/v1/lockstep/"
    with httpx.Client(trust_env=False, timeout=10) as client:
        url = f"{base}{uuid.uuid4().hex}"
        with client.stream("GET", url, params={"events": 5}) as response:
            steps = list(walk(response, client, url))
        assert steps == list(range(5))
    url = f"{base}{uuid.uuid4().hex}/ws?events=5".replace("http", "ws", 1)
    with connect(url, proxy=None) as conversation:
        for n in range(5):
            assert json.loads(conversation.recv(10)) == {"n": n}
            conversation.send(json.dumps({"ack": n}))


def walk(response: httpx.Response, client: httpx.Client, url: str) -> Iterator[int]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            n = json.loads(line.removeprefix("data: "))["n"]
            yield n
            answer = client.post(f"{url}/ack", json={"n": n}, headers=KEY)
            assert answer.status_code == 200


def test_http2_to_the_upstream_passes_through_the_tunnel(
    bundle: str, authority: trustme.CA
) -> None:
    context = server_context(authority, HOST, alpn=("h2", "http/1.1"))
    with (
        RawUpstream() as upstream,
        TlsFront(upstream.port, context) as front,
        ConnectProxy({HOST: front.port}) as proxy,
        up_with(bundle, HTTPS_PROXY=proxy.url) as up,
    ):
        upstream.answer_with(Answer(200, body=(b"by h2",)))
        assert get(up).text == "by h2"
        [received] = upstream.take()
        assert received.version is Version.HTTP2
        assert front.handshakes[-1].alpn == "h2"
        assert len(proxy.tunnels) == 1


def test_plain_http_goes_in_absolute_form_and_its_websockets_by_connect(
    bundle: str, openai_upstream: OpenAIUpstream
) -> None:
    hosts = {HOST: openai_upstream.port}
    with ConnectProxy(hosts, login=LOGIN) as proxy:
        url = proxy.url.replace("//", f"//{quote(LOGIN, safe=':')}@")
        variables = {"HTTP_PROXY": url, "THRUWAY_UPSTREAM_URL": f"http://{HOST}:8080/base"}
        with up_with(bundle, **variables) as up:
            answer = get(up, "/openai_passthrough/models?a=%2f&a=2")
            [asked] = proxy.requests
            assert asked.method == "GET"
            assert asked.target == f"http://{HOST}:8080/base/v1/models?a=%2f&a=2"
            assert asked.values("host") == [f"{HOST}:8080"]
            assert asked.values("proxy-authorization") == [BASIC]
            assert asked.values("authorization") == [f"Bearer {CANARY_KEY}"]
            assert answer.status_code == 404, "the upstream has no /base"
        variables["THRUWAY_UPSTREAM_URL"] = f"http://{HOST}"
        with up_with(bundle, **variables) as up:
            lock_steps(up)
            assert proxy.tunnels == [f"{HOST}:80"]
            assert openai_upstream.requests[-1].values("proxy-authorization") == []


def test_a_proxy_that_is_spoken_to_by_tls(
    bundle: str, authority: trustme.CA, front: TlsFront
) -> None:
    hosts = {HOST: front.port}
    right = server_context(authority, "127.0.0.1")
    with ConnectProxy(hosts, tls=right) as proxy, up_with(bundle, HTTPS_PROXY=proxy.url) as up:
        lock_steps(up)
        assert set(proxy.tunnels) == {f"{HOST}:443"}
    wrong = server_context(authority, "proxy.elsewhere.test")
    with ConnectProxy(hosts, tls=wrong) as proxy, up_with(bundle, HTTPS_PROXY=proxy.url) as up:
        assert get(up).status_code == 502
        up.wait_for(r"has a certificate that is not trusted: put its CA into SSL_CERT_FILE")
        assert proxy.requests == []


# Who is reached directly


def test_no_proxy_names_who_is_reached_directly(bundle: str, front: TlsFront) -> None:
    with (
        ConnectProxy({HOST: front.port}) as proxy,
        up_with(bundle, HTTPS_PROXY=proxy.url, NO_PROXY="x.test,corp.test") as up,
    ):
        assert code_of(get(up)) == (502, "upstream_unresolved")
        assert proxy.requests == []
        assert "Through the proxy" not in up.text


def test_this_machine_is_reached_directly_and_odd_entries_are_told(
    openai_upstream: OpenAIUpstream, bundle: str
) -> None:
    variables = {
        "THRUWAY_UPSTREAM_URL": openai_upstream.url,
        "HTTP_PROXY": "http://127.0.0.1:1",
        "no_proxy": "10.*",
    }
    with up_with(bundle, **variables) as up:
        up.wait_for(r"NO_PROXY contains 10\.\*, which is not a host name, address or network")
        assert get(up).status_code == 200


def test_a_variable_that_names_no_proxy_is_refused_without_repeating_it() -> None:
    variables = {"HTTPS_PROXY": "socks5://u:canary-1@h:1080"}
    with thruway_up(environment=variables, wait=False) as up:
        assert up.process.wait(30) == 1
    assert "The environment variable HTTPS_PROXY names a SOCKS proxy" in up.text
    assert "canary" not in up.text


# What is said when it fails


def test_the_proxy_refuses_the_upstream_or_wants_a_login(bundle: str, front: TlsFront) -> None:
    with (
        ConnectProxy({HOST: front.port}, login=LOGIN) as proxy,
        up_with(bundle, HTTPS_PROXY=proxy.url) as up,
    ):
        assert code_of(get(up)) == (502, "forward_proxy_failed")
        up.wait_for(rf"{proxy.port} returned 407 to CONNECT {HOST}:443: it requires a valid login")
        proxy.login = None
        for proxy.refuse in (403, 502):
            answer = get(up)
            assert code_of(answer) == (502, "forward_proxy_failed")
            assert "the proxy says" not in answer.text
            up.wait_for(rf"returned {proxy.refuse} to CONNECT {HOST}:443: it (does not|cannot) ")


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("http://127.0.0.1:1", r"127\.0\.0\.1:1, .* cannot be reached \(Connection refused\)"),
        ("http://proxy.nowhere.test:3128", r"has a name that does not resolve"),
    ],
)
def test_the_proxy_is_not_there(proxy: str, said: str, bundle: str) -> None:
    with up_with(bundle, HTTPS_PROXY=proxy) as up:
        assert code_of(get(up)) == (502, "forward_proxy_failed")
        up.wait_for(said)


def test_a_proxy_that_never_answers_costs_the_connect_timeout(
    bundle: str, tmp_path: Path, front: TlsFront
) -> None:
    file = tmp_path / "routes.yaml"
    write(file, route("a", "/a", f"https://{HOST}", timeouts={"connect": "300ms"}))
    with (
        ConnectProxy({HOST: front.port}, mute=True) as proxy,
        up_with(bundle, "-f", str(file), HTTPS_PROXY=proxy.url) as up,
    ):
        assert code_of(get(up, "/a/models")) == (504, "upstream_connect_timeout")


def test_the_upstreams_certificate_is_checked_inside_of_the_tunnel(
    bundle: str, authority: trustme.CA, openai_upstream: OpenAIUpstream
) -> None:
    context = server_context(authority, "elsewhere.test")
    with (
        TlsFront(openai_upstream.port, context) as front,
        ConnectProxy({HOST: front.port}) as proxy,
        up_with(bundle, HTTPS_PROXY=proxy.url) as up,
    ):
        assert code_of(get(up))[0] == 502
        assert set(proxy.tunnels) == {f"{HOST}:443"}


# The login


def folder_of(up: ThruwayUp) -> Path:
    (envoy,) = up.children()["envoy"]
    command = Path(f"/proc/{envoy}/cmdline").read_bytes().split(b"\0")
    return Path(os.fsdecode(command[command.index(b"--config-path") + 1])).parent


def admin(folder: Path, path: str) -> str:
    connection = http.client.HTTPConnection("envoy")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(folder / "admin.sock"))
        connection.request("GET", path)
        return connection.getresponse().read().decode(errors="replace")
    finally:
        connection.close()


def test_the_login_is_at_the_proxy_and_nowhere_else(bundle: str, front: TlsFront) -> None:
    with ConnectProxy({HOST: front.port}, login=LOGIN) as proxy:
        url = proxy.url.replace("//", f"//{quote(LOGIN, safe=':')}@")
        with up_with(bundle, "--log-level", "debug", HTTPS_PROXY=url) as up:
            lock_steps(up)
            assert {request.values("proxy-authorization")[0] for request in proxy.requests} == {
                BASIC
            }
            proxy.login = "somebody:else"
            proxy.refuse = 403
            folder = folder_of(up)
            places = {
                f"{what} of {kind}": Path(f"/proc/{pid}/{what}").read_bytes().decode("latin-1")
                for kind, pids in up.children().items()
                for pid in pids
                for what in ("cmdline", "environ")
            }
            for path in ("/config_dump?include_eds", "/clusters", "/stats", "/certs"):
                places[path] = admin(folder, path)
            for file in folder.iterdir():
                if file.is_file():
                    places[file.name] = file.read_bytes().decode("latin-1")
        places |= {"stderr": up.text, "stdout": up.output}
        assert "thruway-tunnel" in places["/config_dump?include_eds"]
        _, password = LOGIN.split(":")
        for place, text in places.items():
            for form in (
                BASIC.removeprefix("Basic "),
                password,
                quote(password, safe=""),
                "canary-6",
            ):
                assert form not in text, f"the login is in {place}"


# `upstream.proxy`


def proxied(name: str, proxy: Any, **more: Any) -> dict[str, Any]:
    document = route(name, f"/{name}", f"https://{HOST}", credential=CREDENTIAL, **more)
    if proxy is not None:
        document["spec"]["upstream"]["proxy"] = proxy
    return document


def test_a_route_names_its_own_proxy_login_or_none(
    bundle: str, tmp_path: Path, front: TlsFront
) -> None:
    file = tmp_path / "routes.yaml"
    with ExitStack() as stack:
        default = stack.enter_context(ConnectProxy({HOST: front.port}))
        other = stack.enter_context(ConnectProxy({HOST: front.port}, login=LOGIN))
        ref = {"name": "proxy", "key": "login"}
        keys = [secret("openai", KEY=CANARY_KEY), secret("proxy", login=f"{LOGIN}\n")]
        routes = [
            proxied("plain", None),
            proxied("own", {"url": other.url, "secretKeyRef": ref}),
            proxied("direct", {"url": ""}),
            proxied("lost", {"url": other.url, "secretKeyRef": ref | {"key": "lost"}}),
        ]
        write(file, *keys, *routes)
        up = stack.enter_context(
            up_with(bundle, "-f", str(file), HTTPS_PROXY=default.url, NO_PROXY="other.test")
        )
        assert get(up, "/plain/models").status_code == 200
        assert (len(default.requests), len(other.requests)) == (1, 0)
        assert get(up, "/own/models").status_code == 200
        assert (len(default.requests), len(other.requests)) == (1, 1)
        assert code_of(get(up, "/direct/models")) == (502, "upstream_unresolved")
        assert code_of(get(up, "/lost/models")) == (503, "credential_missing")
        assert (len(default.requests), len(other.requests)) == (1, 1)


def test_routes_move_to_another_proxy_and_go_without_cutting_a_stream(
    bundle: str, tmp_path: Path, front: TlsFront, openai_upstream: OpenAIUpstream
) -> None:
    file = tmp_path / "routes.yaml"
    key = secret("openai", KEY=CANARY_KEY)
    ref = {"name": "proxy", "key": "login"}
    with ExitStack() as stack:
        hosts = {HOST: front.port}
        first = stack.enter_context(ConnectProxy(hosts, login="a:1"))
        second = stack.enter_context(ConnectProxy(hosts, login="b:2"))
        moving = proxied("a", {"url": first.url, "secretKeyRef": ref})
        write(file, key, secret("proxy", login="a:1"), moving)
        up = stack.enter_context(up_with(bundle, "-f", str(file)))
        client = stack.enter_context(httpx.Client(trust_env=False, timeout=10))
        path = f"/lockstep/{uuid.uuid4().hex}"
        response = stack.enter_context(
            client.stream("GET", f"{up.url}/a{path}", params={"events": 3})
        )
        steps = walk(response, client, f"{openai_upstream.url}/v1{path}")
        assert next(steps) == 0
        moved = proxied("a", {"url": second.url, "secretKeyRef": ref})
        write(file, key, secret("proxy", login="b:2"), moved)

        def moved_over() -> bool:
            assert get(up, "/a/models").status_code == 200
            return bool(second.requests)

        wait_until(moved_over, "the second proxy's first tunnel")
        logins = {request.values("proxy-authorization")[0] for request in second.requests}
        assert logins == {"Basic " + base64.b64encode(b"b:2").decode()}
        assert next(steps) == 1
        write(file, key, secret("proxy", login="b:2"), proxied("b", {"url": second.url}))
        wait_until(lambda: get(up, "/a/models").status_code == 404, "the route to go")
        wait_until(
            lambda: f"proxy/127.0.0.1:{first.port}" not in admin(folder_of(up), "/clusters"),
            "the first proxy's cluster to go",
        )
        assert list(steps) == [2]
