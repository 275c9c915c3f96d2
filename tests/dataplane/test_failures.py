"""The failure tables of docs/errors.md, executed: each row is a test of its name.

For all failures and for every way in which a client can run into them: the answer is OpenAI's error
shape with the documented status and code, its sentence gives nothing away, the log has the code,
and nothing has gone out unprocessed or with a key that is not the route's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import httpx
import openai
import pytest

from thruway_operator.envoy.replies import CODE_HEADER, REPLIES
from thruway_testing.plane.envoy import wait_until
from thruway_testing.product.failures import (
    CLIENTS_KEY,
    EARLY,
    FAILURES,
    REAL_KEY,
    Ask,
    Benches,
    Raw,
)
from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.markdown import table
from thruway_testing.product.proxy_bench import ProxyBench
from thruway_testing.product.sdk import open_client
from thruway_testing.product.up import thruway_up
from thruway_testing.upstreams.rude_upstream import (
    RudeUpstream,
    answer,
    refusing_port,
    say,
    say_and_wait,
    wait,
)
from thruway_testing.wire.h2_handshake import shake_hands
from thruway_testing.wire.rawhttp import (
    Framing,
    Headers,
    Request,
    Version,
    WireError,
    values,
)
from thruway_testing.wire.rawhttp_client import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text("utf-8")
EXCEPTIONS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    500: openai.InternalServerError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}
"""What SDKs raise; `APIStatusError` itself for the rest."""

# Whatever would tell of machines, files and the software inside.
TELLTALE = re.compile(
    r"sk-|vk-|\.sock|\.py\b|/(tmp|run|var|etc|home)\b|\d+(\.\d+){3}:|\[[\da-f:]+\]|Traceback|[{}]|"
    r"\b(envoy|ext_?proc|grpc|rbac|cel|cluster|listener|filter|xds|sds|rds|TLS_error|DPE|UF|UC)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Row:
    status: int
    code: str


@dataclass(frozen=True)
class Explained:
    status: int
    helps: bool
    """Whether trying again can help."""


def bare(cell: str) -> str:
    return cell.strip("`")


ROWS = {name: Row(int(status), bare(code)) for name, status, code in table(DOCS, "Every failure")}
CODES = {
    bare(code): Explained(int(status), again == "yes")
    for heading in (
        "Errors in the request",
        "Errors in Thruway or its configuration",
        "Errors at the upstream or on the way to it",
    )
    for status, code, _, _, again in table(DOCS, heading)
}
CODES_IN_LOG = {bare(code) for code, _ in table(DOCS, "Calls that ended early")}


@dataclass(frozen=True)
class Got:
    """What a client got; `body` is None for an answer to HEAD."""

    status: int
    headers: Headers
    body: bytes | None


@pytest.fixture(scope="module")
def benches() -> Iterator[Benches]:
    with Benches() as found:
        yield found


# The docs


def test_every_row_has_its_failure() -> None:
    assert set(ROWS) == set(FAILURES)


def test_every_code_is_explained_and_produced() -> None:
    assert set(CODES) == {row.code for row in ROWS.values()}
    for row in ROWS.values():
        assert CODES[row.code].status == row.status
    assert {reply.code for reply in REPLIES if not reply.code.startswith("%")} <= set(CODES)


def test_the_example_of_the_docs_is_what_a_client_gets(benches: Benches) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
    got = ask(benches.get("main").port, Ask("/nobody"), "HTTP/1.1", "example")
    shown, real = json.loads(example)["error"], json.loads(got.body or b"")["error"]
    assert real | {"message": ""} == shown | {"message": ""}
    assert real["message"].startswith(shown["message"].removesuffix("…").strip())


# What clients get


def ways() -> Iterator[Any]:
    for name, failure in FAILURES.items():
        for way in failure.ways if isinstance(failure, Ask) else ["bytes"]:
            yield pytest.param(name, way, id=f"{name}-{way}")


@pytest.mark.parametrize(("name", "way"), list(ways()))
def test_failure(name: str, way: str, benches: Benches) -> None:
    failure, row = FAILURES[name], ROWS[name]
    bench = benches.get(failure.bench)
    benches.forget()
    known = len(bench.calls())
    mark = f"req-{uuid.uuid4().hex}"
    if isinstance(failure, Raw):
        got = send(bench.port, failure.data)
        call = bench.wait_for_call(known)
    else:
        sdk = way == "SDK"
        got = by_sdk(bench.url, failure, mark) if sdk else ask(bench.port, failure, way, mark)
        # Of headers that were too many or too large the log has none.
        call = bench.wait_for_call(known, **{} if row.status == 431 else {"request_id": mark})
    if way.startswith("gRPC") and got.status == 200:
        check_grpc(got, row)
    else:
        check(got, row, bench)
        check_headers(got, row)
    assert (call["status"], call["code"]) == (got.status, row.code)
    check_upstreams(benches, got)


def check_grpc(got: Got, row: Row) -> None:
    """Envoy's own replies to gRPC are a 200 with a gRPC status; the code is told all the same."""
    assert got.body == b""
    assert values(got.headers, CODE_HEADER.encode()) == [row.code.encode()]
    (status,) = values(got.headers, b"grpc-status")
    assert int(status) > 0
    (message,) = values(got.headers, b"grpc-message")
    assert not TELLTALE.search(json.loads(unquote_to_bytes(message))["error"]["message"])


def check(got: Got, row: Row, bench: ProxyBench) -> None:
    assert got.status == row.status, got.body
    if got.body is None:
        return
    answered = json.loads(got.body)
    assert answered.keys() == {"error"}
    error = answered["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == row.code
    assert error["param"] is None
    assert error["type"] == ("thruway_error" if row.status >= 500 else "invalid_request_error")
    message = error["message"]
    assert message.endswith((".", "`"))
    assert not TELLTALE.search(message), message
    assert str(bench.folder).encode() not in got.body


def check_headers(got: Got, row: Row) -> None:
    assert values(got.headers, b"content-type") == [b"application/json"]
    assert values(got.headers, CODE_HEADER.encode()) == [row.code.encode()]
    hopeless = row.status >= 500 and not CODES[row.code].helps
    assert values(got.headers, b"x-should-retry") == ([b"false"] if hopeless else [])
    assert bool(values(got.headers, b"allow")) == (row.status == 405)
    assert not any(CLIENTS_KEY.encode() in value for _, value in got.headers)


def check_upstreams(benches: Benches, got: Got) -> None:
    for head in benches.received():
        assert CLIENTS_KEY.encode() not in head
        if b" HTTP/1." in head:
            assert head.split(b" ")[1].startswith(b"/v1/"), head  # extproc has rewritten it
            assert re.findall(rb"(?i)\r\nauthorization: (.*?)\r\n", head) == [
                f"Bearer {REAL_KEY}".encode()
            ]
    if b"nothing was sent" in (got.body or b""):
        assert not [head for head in benches.received() if b" HTTP/" in head]


def ask(port: int, failure: Ask, way: str, mark: str) -> Got:
    """Send the request in one of the ways, over a connection of its own."""
    given = {name for name, _ in failure.headers}
    headers: Headers = (*failure.headers, (b"x-request-id", mark.encode()))
    if b"authorization" not in given:
        headers = (*headers, (b"authorization", f"Bearer {CLIENTS_KEY}".encode()))
    else:
        headers = tuple(pair for pair in headers if pair[0] != b"authorization")
    if way == "WebSocket":
        headers = (
            *headers,
            (b"connection", b"Upgrade"),
            (b"upgrade", b"websocket"),
            (b"sec-websocket-version", b"13"),
            (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        )
    if way.startswith("gRPC"):
        headers = (*headers, (b"content-type", b"application/" + way.lower().encode()))
    if way == "WebSocket by HTTP/2":
        reply = shake_hands(port, failure.path, headers)
        return Got(reply.status, reply.headers, reply.body)
    method = "HEAD" if way == "HEAD" else failure.method
    version = {"HTTP/1.0": Version.HTTP10, "HTTP/2": Version.HTTP2}.get(way, Version.HTTP11)
    request = Request(method.encode(), failure.path.encode(), headers, version=version)
    with RawClient(port, host=failure.host) as client:
        reply = client.exchange(request)
    if way == "HEAD":
        assert reply.body == b""
    return Got(reply.status, reply.headers, None if way == "HEAD" else reply.body)


def send(port: int, data: bytes) -> Got:
    with RawClient(port) as client:
        (reply,) = client.send_raw(data, b"GET")
    return Got(reply.status, reply.headers, reply.body)


def by_sdk(url: str, failure: Ask, mark: str) -> Got:
    """Ask by OpenAI's SDK and check what it raises."""
    with open_client(url, api_key=CLIENTS_KEY) as client:
        error = raised_by(client, failure, mark)
    assert type(error) is EXCEPTIONS.get(error.status_code, openai.APIStatusError)
    assert error.body == error.response.json()["error"]
    assert error.code == error.response.json()["error"]["code"]
    headers = tuple((key.lower(), value) for key, value in error.response.headers.raw)
    return Got(error.status_code, headers, error.response.content)


def raised_by(client: openai.OpenAI, failure: Ask, mark: str) -> openai.APIStatusError:
    headers: dict[str, Any] = {"X-Request-Id": mark, "Host": failure.host}
    for name, value in failure.headers:
        # The SDK always sends its key; it is taken out again where there is to be none.
        headers["Authorization" if name == b"authorization" else name.decode()] = (
            value.decode() or openai.Omit()
        )
    with pytest.raises(openai.APIStatusError) as caught:
        client.request(
            cast_to=object,
            options=openai._models.FinalRequestOptions.construct(
                method=failure.method.lower(), url=failure.path, headers=headers
            ),
        )
    return caught.value


# Trying again


ONE_OF_EACH = {
    row.code: name
    for name, row in reversed(ROWS.items())
    if row.status >= 500 and isinstance(failure := FAILURES[name], Ask) and len(failure.ways) > 2
}


@pytest.mark.parametrize("code", ONE_OF_EACH)
def test_the_sdk_tries_again_where_that_can_help(code: str, benches: Benches) -> None:
    failure = FAILURES[ONE_OF_EACH[code]]
    assert isinstance(failure, Ask)
    bench = benches.get(failure.bench)
    known = len(bench.calls())
    with openai.OpenAI(
        base_url=bench.url,
        api_key=CLIENTS_KEY,
        max_retries=1,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as client:
        raised_by(client, failure, "again")
    tries = 2 if CODES[code].helps else 1
    wait_until(lambda: len(bench.calls()) >= known + tries, "the calls")
    assert len(bench.calls()) == known + tries


# Answers that end early


@pytest.mark.parametrize("version", [Version.HTTP11, Version.HTTP2])
@pytest.mark.parametrize("name", EARLY)
def test_an_answer_that_does_not_end(name: str, version: Version, benches: Benches) -> None:
    """It is never taken for a whole one, and the log says why."""
    code, failure = EARLY[name]
    bench = benches.get("main")
    known = len(bench.calls())
    release(benches, name)
    with RawClient(bench.port) as client, pytest.raises((WireError, OSError)):
        client.exchange(Request(target=failure.path.encode(), version=version))
    call = bench.wait_for_call(known)
    assert (call["status"], call["code"]) == (200, code)
    assert code in CODES_IN_LOG


@pytest.mark.parametrize("name", EARLY)
def test_the_sdk_sees_that_an_answer_does_not_end(name: str, benches: Benches) -> None:
    failure = EARLY[name][1]
    release(benches, name)
    with (
        open_client(benches.get("main").url) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.get(failure.path, cast_to=object)


def release(benches: Benches, name: str) -> None:
    if name in benches.upstreams:
        benches.upstreams[name].release.set()


def test_a_body_that_the_client_cuts_short(benches: Benches) -> None:
    """The upstream's connection ends too, so that it never takes the half for the whole."""
    bench = benches.get("main")
    benches.forget()
    known = len(bench.calls())
    upstream = benches.upstreams["waits"]
    with RawClient(bench.port) as client, contextlib.closing(client.connect()) as wire:
        wire.send(
            b"POST /waits/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"
        )
        wait_until(lambda: upstream.received, "the request at the upstream")
    call = bench.wait_for_call(known)
    assert (call["status"], call["code"]) == (0, "client_closed")
    wait_until(lambda: not upstream.connections, "the end of the upstream's connection")


def test_a_client_that_closes_its_side_gets_nothing(benches: Benches) -> None:
    """Envoy takes a half-closed connection for a closed one: a limit of docs/fidelity.md."""
    bench = benches.get("main")
    known = len(bench.calls())
    with socket.create_connection(("127.0.0.1", bench.port), timeout=20) as sock:
        sock.sendall(b"GET /waits/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""
    assert bench.wait_for_call(known)["code"] == "client_closed"


def test_a_malformed_body_whose_answer_has_begun(benches: Benches) -> None:
    bench = benches.get("main")
    known = len(bench.calls())
    with RawClient(bench.port) as client, contextlib.closing(client.connect()) as wire:
        wire.send(
            b"POST /begins/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert wire.line() == b"HTTP/1.1 200 OK"
        wire.send(b"zz\r\n")
        wire.rest()
    call = bench.wait_for_call(known)
    assert (call["status"], call["code"]) == (200, "malformed_request")


TOO_MUCH_FOR_HTTP2 = {
    "one header that is too large": "request_headers_too_large",
    "too many headers": "request_headers_too_large",
    "a first line that is too long": "request_headers_too_large",
}


@pytest.mark.parametrize("name", TOO_MUCH_FOR_HTTP2)
def test_what_http2_answers_by_a_reset(name: str, benches: Benches) -> None:
    bench, failure = benches.get("main"), FAILURES[name]
    assert isinstance(failure, Ask)
    benches.forget()
    known = len(bench.calls())
    with pytest.raises((WireError, OSError)):
        ask(bench.port, failure, "HTTP/2", "too-much")
    assert bench.wait_for_call(known)["code"] == TOO_MUCH_FOR_HTTP2[name]
    assert benches.received() == []


def test_a_malformed_request_by_http2(benches: Benches) -> None:
    bench = benches.get("main")
    benches.forget()
    known = len(bench.calls())
    with pytest.raises((WireError, OSError)):
        ask(bench.port, Ask(headers=((b"x-a", b"a\0b"),)), "HTTP/2", "malformed")
    assert bench.wait_for_call(known)["code"] == "malformed_request"
    assert benches.received() == []


def test_the_codes_of_answers_that_end_early_are_all_here() -> None:
    found = {code for code, _ in EARLY.values()} | set(TOO_MUCH_FOR_HTTP2.values())
    assert found | {"client_closed", "malformed_request"} == CODES_IN_LOG


# What an upstream says in our name


FORGED = b"X-Thruway-Code: credential_missing\r\nContent-Length: 9\r\n\r\n"
OF_THE_UPSTREAM = {
    "a 503": (say(b"HTTP/1.1 503 No\r\n" + FORGED + b"forged..."), 503, "", {}),
    "a 200": (say(b"HTTP/1.1 200 OK\r\n" + FORGED + b"forged..."), 200, "", {}),
    "a 503 that is cut off": (say(b"HTTP/1.1 503 No\r\n" + FORGED), 503, "upstream_cut_off", {}),
    "a 503 that does not go on": (
        say_and_wait(b"HTTP/1.1 503 No\r\n" + FORGED),
        503,
        "idle_timeout",
        {"idle": "300ms"},
    ),
    "a 503 that does not end in time": (
        say_and_wait(b"HTTP/1.1 503 No\r\n" + FORGED),
        503,
        "upstream_timeout",
        {"request": "300ms"},
    ),
}


@pytest.mark.parametrize("name", OF_THE_UPSTREAM)
def test_the_log_does_not_believe_an_upstreams_code(name: str) -> None:
    behave, status, code, timeouts = OF_THE_UPSTREAM[name]
    with (
        RudeUpstream(behave) as upstream,
        ProxyBench([route("a", "/a", upstream.url, timeouts=timeouts)]) as bench,
        RawClient(bench.port) as client,
    ):
        with contextlib.suppress(WireError, OSError):
            client.exchange(Request(target=b"/a/models"))
        call = bench.wait_for_call()
        assert (call["status"], call["code"]) == (status, code)


# What is no failure


LIBERTIES = {
    "an upgrade to h2c": (
        (b"connection", b"Upgrade, HTTP2-Settings"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b"AAMAAABkAARAAAAAAAIAAAAA"),
    ),
    "an upgrade to something else": ((b"connection", b"Upgrade"), (b"upgrade", b"irc/6.9")),
    "another expectation": ((b"expect", b"a-miracle"),),
}


@pytest.mark.parametrize("name", LIBERTIES)
def test_what_a_server_may_ignore(name: str, benches: Benches) -> None:
    """RFC 9110, 7.8 and 10.1.1: an upgrade that is not wanted does not happen, and that is all."""
    benches.forget()
    request = Request(target=b"/answers/models", headers=LIBERTIES[name], framing=Framing.NONE)
    with RawClient(benches.get("main").port) as client:
        assert client.exchange(request).status == 200
    (head,) = benches.upstreams["answers"].received
    assert b"upgrade" not in head.lower()


# No answer at all


def test_connection_refused_before_there_is_any_configuration() -> None:
    """A client's retry, and a readiness check by TCP, are right about a port that is not open."""
    with ProxyBench(None) as bench:
        wait_until(lambda: answers(bench, "/ready"), "the admin interface")
        assert bench.envoy.request("GET", "/ready")[0] == 503
        host, port = bench.envoy.address("thruway")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), timeout=5)
        with (
            open_client(f"http://{host}:{port}/answers") as client,
            pytest.raises(openai.APIConnectionError),
        ):
            client.models.list()


def answers(bench: ProxyBench, path: str) -> bool:
    with contextlib.suppress(OSError):
        bench.envoy.request("GET", path)
        return True
    return False


def test_connection_closed_at_once_when_there_are_too_many() -> None:
    with (
        RudeUpstream(answer) as upstream,
        ProxyBench([route("a", "/a", upstream.url)], connection_limit=1) as bench,
        RawClient(bench.port) as first,
    ):
        request = Request(target=b"/a/models")
        assert first.exchange(request).status == 200
        with open_client(f"{bench.url}/a") as client, pytest.raises(openai.APIConnectionError):
            client.models.list()
        assert first.exchange(request).status == 200  # those that are there go on
        assert len(upstream.received) == 2


# The whole product


def test_thruway_up_says_the_code_of_each_call(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    with RudeUpstream(wait) as upstream, refusing_port() as nobody:
        write(
            file,
            secret("real", KEY=REAL_KEY),
            route("gone", "/gone", f"http://127.0.0.1:{nobody}"),
            route("silent", "/silent", upstream.url, timeouts={"request": "300ms"}),
            route("bare", "/bare", upstream.url, credential=credential("missing")),
        )
        with thruway_up("-f", str(file)) as up:
            expected = {
                "/gone/models": ("upstream_unreachable", 502),
                "/silent/models": ("upstream_timeout", 504),
                "/bare/models": ("credential_missing", 503),
                "/nobody/models": ("route_not_found", 404),
            }
            for path, (code, status) in expected.items():
                mark = uuid.uuid4().hex
                got = httpx.get(up.url + path, headers={"X-Request-Id": mark}, trust_env=False)
                assert (got.status_code, got.json()["error"]["code"]) == (status, code)
                call = up.wait_for_call(request_id=mark)
                assert (call["code"], call["status"], call["upstream_status"]) == (
                    code,
                    status,
                    None,
                )
                assert call["details"]
                reached = {"/gone/models": nobody, "/silent/models": upstream.port}.get(path)
                assert call["upstream"] == (f"127.0.0.1:{reached}" if reached else None)
                assert call["address"] == call["upstream"]  # it is one already

                mark = uuid.uuid4().hex
                headers = {"X-Request-Id": mark, "Content-Type": "application/grpc"}
                got = httpx.get(up.url + path, headers=headers, trust_env=False)
                assert (got.status_code, got.headers[CODE_HEADER]) == (200, code)
                call = up.wait_for_call(request_id=mark)
                assert (call["code"], call["status"], call["upstream_status"]) == (code, 200, None)


def credential(name: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": "KEY"}}


def test_thruway_up_with_hanging_workers_sends_nothing(tmp_path: Path) -> None:
    """And goes on as soon as they do."""
    file = tmp_path / "routes.yaml"
    with RudeUpstream(answer) as upstream:
        write(file, secret("real", KEY=REAL_KEY), route("a", "/a", upstream.url))
        with thruway_up("-f", str(file)) as up:
            workers = up.children()["extproc"]
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)
            try:
                got = httpx.get(f"{up.url}/a/models", trust_env=False, timeout=20)
            finally:
                for pid in workers:
                    os.kill(pid, signal.SIGCONT)
            assert got.status_code == 503
            assert got.json()["error"]["code"] == "processor_unavailable"
            assert upstream.received == []
            assert up.wait_for_call(code="processor_unavailable")["status"] == 503
            assert httpx.get(f"{up.url}/a/models", trust_env=False).status_code == 200
