"""The hard cases by name, and what docs/fidelity.md says: what may differ, what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from thruway_testing.product.markdown import table
from thruway_testing.wire.fidelity import ALLOWED, JOINED
from thruway_testing.wire.fidelity_bench import KEY, FidelityBench, fidelity_bench
from thruway_testing.wire.fidelity_corpus import CASES
from thruway_testing.wire.rawhttp import Answer, Framing, Reply, Request, Version, values

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fidelity.md").read_text("utf-8")
HOST = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FidelityBench]:
    with fidelity_bench(tmp_path_factory.mktemp("corpus")) as bench:
        yield bench


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_differs(bench: FidelityBench, name: str) -> None:
    case = CASES[name]
    found = bench.compare(case.way, case.request, case.answer)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.shows])
def test_an_allowed_difference_is_a_real_one(bench: FidelityBench, name: str) -> None:
    """What is no difference any more has to leave the list."""
    case = CASES[name]
    assert bench.compare(case.way, case.request, case.answer, without=case.shows)


def test_the_page_shows_the_list_and_each_entry_has_a_case() -> None:
    sides = {"request": "request", "answer": "response", "both": "both"}
    listed = [(sides[allowed.side], allowed.what, allowed.why) for allowed in ALLOWED]
    assert [tuple(row) for row in table(PAGE, "What may differ")] == listed
    assert {case.shows for case in CASES.values()} - {""} >= {allowed.name for allowed in ALLOWED}


def test_the_page_lists_the_headers_that_are_joined() -> None:
    shown = dict(re.findall(r"^\*\*Joined in a (request|response)\*\*: (.+)$", PAGE, re.MULTILINE))
    sides = {"request": "request", "answer": "response"}
    assert {side: re.findall(r"`([^`]+)`", text) for side, text in shown.items()} == {
        sides[side]: [name.decode() for name in names] for side, names in JOINED.items()
    }


def test_only_the_routes_own_credential_arrives(bench: FidelityBench) -> None:
    request = CASES["credentials"].request
    received = bench.exchange("credential", request, Answer()).received
    assert received is not None
    headers = [(name.lower(), value) for name, value in received.headers]
    assert headers == [(b"x-a", b"1"), (b"authorization", f"Bearer {KEY}".encode())]


def test_nothing_is_added_to_a_request_without_headers(bench: FidelityBench) -> None:
    received = bench.exchange("http1", Request(), Answer()).received
    assert received is not None
    assert received.headers == ()


def test_the_case_of_names_stays_from_http1_to_http1(bench: FidelityBench) -> None:
    headers = ((b"X-cAsE", b"1"), (b"OpenAI-Beta", b"2"))
    exchange = bench.exchange("http1", Request(headers=headers), Answer(headers=headers))
    assert exchange.received is not None
    assert exchange.reply is not None
    assert exchange.received.headers == headers
    assert exchange.reply.headers[:2] == headers


def test_pipelined_requests_are_answered_in_order(bench: FidelityBench) -> None:
    bench.upstream.answer_with(*(Answer(body=(name,)) for name in (b"a", b"b", b"c")))
    sent = (
        b"GET /http1/v1/a HTTP/1.1\r\n" + HOST + b"\r\n"
        b"POST /http1/v1/b HTTP/1.1\r\nContent-Length: 3\r\n" + HOST + b"\r\nabc"
        b"GET /http1/v1/c HTTP/1.1\r\n" + HOST + b"\r\n"
    )
    replies = bench.client("http1").send_raw(sent, b"GET", b"POST", b"GET")
    assert [reply.body for reply in replies] == [b"a", b"b", b"c"]
    received = bench.upstream.take(3)
    assert [item.target for item in received] == [b"/v1/a", b"/v1/b", b"/v1/c"]
    assert received[1].body == b"abc"


def test_bytes_that_come_one_by_one_are_the_same_request(bench: FidelityBench) -> None:
    bench.upstream.answer_with(Answer(body=(b"ok",)))
    sent = b"POST /http1/v1/a?b HTTP/1.1\r\n" + HOST + b"X-A: b\r\nContent-Length: 2\r\n\r\nhi"
    wire = bench.client("http1").connect()
    for byte in sent:
        wire.send(bytes([byte]))
    assert wire.line() == b"HTTP/1.1 200 OK"
    wire.close()
    (received,) = bench.upstream.take()
    assert (received.target, received.body) == (b"/v1/a?b", b"hi")
    assert received.headers == ((b"X-A", b"b"), (b"Content-Length", b"2"))


def test_an_early_answer_larger_than_the_clients_http2_window_is_cut(bench: FidelityBench) -> None:
    """Envoy's limit: it drops what it still holds when the answer ends before the request does."""
    expect = ((b"expect", b"100-continue"),)
    request = Request(
        b"POST", headers=expect, framing=Framing.LENGTH, body=(b"x",), version=Version.HTTP2
    )
    whole = bench.exchange("http1", request, Answer(413, body=(b"x" * 60_000,)))
    assert whole.reply is not None
    assert whole.reply.body == b"x" * 60_000
    cut = bench.exchange("http1", request, Answer(413, body=(b"x" * 100_000,)))
    assert cut.reply is None
    assert "reset" in cut.problem


REFUSED: dict[str, tuple[bytes, int]] = {
    "a target with a fragment": (b"GET /http1/v1/a#b HTTP/1.1\r\n" + HOST, 400),
    "a target with a byte beyond ASCII": (b"GET /http1/v1/\xe4 HTTP/1.1\r\n" + HOST, 400),
    "a target with a space": (b"GET /http1/v1/a b HTTP/1.1\r\n" + HOST, 400),
    "`QUERY` without `Content-Type`": (b"QUERY /http1/v1/a HTTP/1.1\r\n" + HOST, 400),
    "`CONNECT`": (b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST, 405),
    "`OPTIONS *`": (b"OPTIONS * HTTP/1.1\r\n" + HOST, 404),
    "HTTP/1.1 without `Host`": (b"GET /http1/v1/a HTTP/1.1\r\n", 400),
    "a space between a header's name and its colon": (
        b"GET /http1/v1/a HTTP/1.1\r\n" + HOST + b"X : a\r\n", 400),
    "a control character in a header": (
        b"GET /http1/v1/a HTTP/1.1\r\n" + HOST + b"X: a\x01b\r\n", 400),
    "a header name that is not a token": (
        b"GET /http1/v1/a HTTP/1.1\r\n" + HOST + b"X(y): a\r\n", 400),
    "`Content-Length` twice": (
        b"POST /http1/v1/a HTTP/1.1\r\n" + HOST
        + b"Content-Length: 1\r\nContent-Length: 1\r\n", 400),
    "`Content-Length` with `Transfer-Encoding`": (
        b"POST /http1/v1/a HTTP/1.1\r\n" + HOST
        + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
    "a `Transfer-Encoding` other than `chunked`": (
        b"POST /http1/v1/a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n", 400),
    "more than 60 KiB of headers": (
        b"GET /http1/v1/a HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 62_000 + b"\r\n", 431),
    "more than 200 headers": (
        b"GET /http1/v1/a HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 201, 431),
}  # fmt: skip


@pytest.mark.parametrize("headers", [b"X: a\r\n" * 197, b"X: " + b"a" * 61_380 + b"\r\n"])
def test_headers_just_below_a_limit_are_refused_as_those_beyond(
    bench: FidelityBench, headers: bytes
) -> None:
    """Envoy counts what it adds itself only when extproc has answered."""
    bench.upstream.answer_with()
    sent = b"GET /http1/v1/a HTTP/1.1\r\n" + HOST + headers + b"\r\n"
    (reply,) = bench.client("http1").send_raw(sent, b"GET")
    assert reply.status == 431
    assert b"request_headers_too_large" in reply.body
    assert bench.upstream.received_nothing()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(bench: FidelityBench, name: str) -> None:
    head, status = REFUSED[name]
    bench.upstream.answer_with()
    (reply,) = bench.client("http1").send_raw(head + b"\r\n", b"GET")
    assert reply.status == status
    assert b'"error"' in reply.body
    assert bench.upstream.received_nothing()


def test_the_page_shows_what_is_refused() -> None:
    listed = [[name, str(status)] for name, (_, status) in REFUSED.items()]
    assert table(PAGE, "What is refused") == listed


def test_a_folded_line_is_one_line(bench: FidelityBench) -> None:
    bench.upstream.answer_with(Answer())
    sent = b"GET /http1/v1/a HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\nY:   c\t \r\n\r\n"
    replies: list[Reply] = bench.client("http1").send_raw(sent, b"GET")
    assert [reply.status for reply in replies] == [200]
    (received,) = bench.upstream.take()
    assert values(received.headers, b"x") == [b"a b"]
    assert values(received.headers, b"y") == [b"c"]
