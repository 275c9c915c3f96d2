"""A call's line tells what happened, never a query's value, and nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from thruway_operator.envoy.listener import ACCESS_LOG
from thruway_operator.laptop.up.calls import (
    CallPrinter,
    _size,
    parse_call,
    render_json,
    render_text,
)
from thruway_operator.text.safe import Redactor

ENTRY: dict[str, Any] = {
    "event": "call",
    "client": None,
    "time": "2026-01-02T03:04:05.678Z",
    "method": "POST",
    "path": "/openai_passthrough/v1/files?limit=10&after=file-1&bare",
    "protocol": "HTTP/1.1",
    "route": "local/openai",
    "status": 200,
    "details": "via_upstream",
    "flags": "-",
    "duration_ms": 1234,
    "upstream_ms": 1200,
    "bytes_in": 512,
    "bytes_out": 34567,
    "address": "162.159.140.245:443",
    "upstream": "api.openai.com:443/0123456789ab",
    "request_id": "req-1",
    "upstream_request_id": "req_abc",
    "code": None,
    "user_agent": "OpenAI/Python",
}
SGR = ("\x1b[2m", "\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[35m", "\x1b[36m")


def printed(line: bytes, *, color: bool = False, json: bool = False, **more: Any) -> str:
    stream = io.StringIO()
    CallPrinter(stream, color=color, json=json, zone=UTC, **more)(line)
    return stream.getvalue()


def entry(**changes: Any) -> bytes:
    return json.dumps(ENTRY | changes).encode()


def test_a_call_that_the_upstream_answered() -> None:
    assert printed(entry()) == (
        "03:04:05.678  POST /openai_passthrough/v1/files?limit=…&after=…&…  local/openai  200  "
        "upstream 200  1234 ms  in 512 B  out 34.6 kB  req-1\n"
    )


def test_a_call_that_thruway_answered() -> None:
    line = entry(
        status=503,
        details="ext_proc_error",
        code="rule_missing",
        flags="UAEX",
        upstream="-",
    )
    assert "  503  upstream — (rule_missing UAEX)  " in printed(line)
    assert "upstream — (answered by Thruway)" in printed(
        entry(status=404, details="direct_response")
    )


def test_a_call_that_failed_names_the_upstream() -> None:
    line = entry(status=502, details="x", code="upstream_unreachable", flags="UF")
    assert "  502  upstream api.openai.com:443 — (upstream_unreachable UF)  " in printed(line)
    six = entry(code="x", upstream="::1:4100/0123456789ab")
    assert "  upstream [::1]:4100 200 (x)  " in printed(six)
    tunnel = entry(address="envoy://thruway-tunnel/x")
    assert json.loads(printed(tunnel, json=True))["address"] is None


def test_an_answer_that_was_cut_off_has_the_upstreams_status_and_our_code() -> None:
    details = "upstream_reset_after_response_started{protocol_error}"
    line = entry(details=details, code="upstream_cut_off", flags="UPE")
    assert "  200  upstream api.openai.com:443 200 (upstream_cut_off UPE)  " in printed(line)
    assert json.loads(printed(line, json=True))["details"] == details
    idle = entry(details="stream_idle_timeout", code="idle_timeout", flags="SI")
    assert "  200  upstream api.openai.com:443 200 (idle_timeout SI)  " in printed(idle)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"details": "missing_api_key", "code": "missing_api_key"}, None),  # to gRPC: a 200
        ({"details": "direct_response", "code": "route_not_found"}, None),
        ({"details": "websocket_handshake_unsuccessful", "upstream_ms": 3}, None),
        ({"details": "response_timeout"}, None),
        ({"details": "response_timeout", "upstream_ms": 3}, 200),
        ({"details": "stream_idle_timeout"}, None),
        ({"details": "http1.codec_error", "upstream_ms": 3}, 200),
        ({"details": "http1.codec_error"}, None),
        ({"details": "downstream_remote_disconnect", "upstream_ms": 3}, 200),
        ({"details": "upstream_reset_after_response_started{x}", "upstream_ms": 3}, 200),
        ({"details": "upstream_reset_before_response_started{x}", "upstream_ms": 3}, None),
        ({"details": None}, None),
        ({}, 200),
    ],
)
@pytest.mark.parametrize("status", [200, 404, 503])
def test_the_upstreams_status_is_only_what_the_upstream_sent(
    changes: dict[str, Any], expected: int | None, status: int
) -> None:
    own = {"upstream_ms": None} if changes.get("details", "via_upstream") != "via_upstream" else {}
    call = parse_call(entry(status=status, **own | changes))
    assert call
    assert call.upstream_status == (expected and status)


def test_a_client_that_left_has_no_status() -> None:
    line = printed(entry(status=0, details="downstream_remote_disconnect", flags="DC"), color=True)
    assert "\x1b[35m—\x1b[0m  upstream — (DC)" in line


def test_json_has_the_same_and_the_time_in_utc() -> None:
    line = printed(entry(time="2026-01-02T04:04:05.678+01:00"), json=True)
    assert json.loads(line) == {
        "event": "call",
        "time": "2026-01-02T03:04:05.678Z",
        "method": "POST",
        "path": "/openai_passthrough/v1/files?limit=…&after=…&…",
        "protocol": "HTTP/1.1",
        "route": "local/openai",
        "client": None,
        "status": 200,
        "upstream": "api.openai.com:443",
        "address": "162.159.140.245:443",
        "upstream_status": 200,
        "duration_ms": 1234,
        "upstream_ms": 1200,
        "bytes_in": 512,
        "bytes_out": 34567,
        "request_id": "req-1",
        "upstream_request_id": "req_abc",
        "code": None,
        "flags": None,
        "details": None,
        "user_agent": "OpenAI/Python",
    }


def test_laptop_and_cluster_have_the_same_fields() -> None:
    of_envoy = {*ACCESS_LOG, "upstream_status"}
    assert json.loads(printed(entry(), json=True)).keys() == of_envoy == {*ENTRY, "upstream_status"}


def test_the_time_on_a_terminal_is_the_local_one() -> None:
    call = parse_call(entry())
    assert call
    assert render_text(call, zone=timezone(timedelta(hours=2))).startswith("05:04:05.678 ")


@pytest.mark.parametrize(
    ("status", "color"), [(101, 36), (204, 32), (307, 36), (404, 33), (500, 31)]
)
def test_the_status_has_its_colour(status: int, color: int) -> None:
    assert f"  \x1b[{color}m{status}\x1b[0m  " in printed(entry(status=status), color=True)


def test_everything_may_be_missing() -> None:
    nothing = b'{"status": null}'
    assert printed(nothing).split() == [
        "—",
        "—",
        "—",
        "—",
        "—",
        "upstream",
        "—",
        "(answered",
        "by",
        "Thruway)",
        "—",
        "in",
        "—",
        "out",
        "—",
        "—",
    ]
    assert set(json.loads(printed(nothing, json=True)).values()) == {"call", None}


def test_what_is_no_call_is_shown_as_a_log_line() -> None:
    line = b"[warning] upstream reset /v1/x?key=sk-12345 \x1b]0;title\x07"
    shown = r"[warning] upstream reset /v1/x?… \x1b]0;title\x07"
    assert printed(line) == shown + "\n"
    assert printed(line, color=True) == f"\x1b[2m{shown}\x1b[0m\n"
    assert json.loads(printed(line, json=True)) == {"event": "log", "text": shown}


def test_a_broken_access_log_line_is_not_shown() -> None:
    line = entry()[:140]
    assert b"file-1" in line or b"limit=10" in line
    assert printed(line) == "an access log line of 140 bytes that cannot be read\n"


def test_registered_secrets_are_redacted() -> None:
    redactor = Redactor()
    redactor.register("sk-very-secret")
    line = entry(path="/v1/sk-very-secret/x?sk-very-secret=1", request_id="a sk-very-secret")
    for shown in (printed(line, redactor=redactor), printed(line, json=True, redactor=redactor)):
        assert "secret" not in shown
        assert shown.count("[redacted]") == 3
    assert "secret" not in printed(b"log sk-very-secret", redactor=redactor)


def test_a_long_path_is_cut() -> None:
    line = printed(entry(path="/" + "x" * 60_000))
    assert len(line) < 500
    assert "x…  " in line


def test_printing_ends_quietly_when_nobody_reads() -> None:
    stream = io.StringIO()
    printer = CallPrinter(stream, color=False, json=False)
    printer(entry())
    assert not printer.closed
    stream.close()
    printer(entry())
    assert printer.closed


def test_a_stream_without_the_characters_gets_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    CallPrinter(stream, color=False, json=False)(entry(status=0))
    assert rb"limit=\u2026" in raw.getvalue()


def test_sizes() -> None:
    sizes = [0, 999, 1000, 999_949, 999_950, 10**6, 10**18]
    assert [_size(n) for n in sizes] == [
        "0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "1.0 MB", "1000000.0 TB",
    ]  # fmt: skip


# Two shared cores may be slow; what matters here is the result.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
HOSTILE = st.fixed_dictionaries({}, optional=dict.fromkeys(ENTRY, ANYTHING | st.text(min_size=1)))


def fit_for_a_terminal(output: str) -> bool:
    for sequence in SGR:
        output = output.replace(sequence, "")
    return output.endswith("\n") and output[:-1].isprintable()


@UNHURRIED
@given(HOSTILE, st.booleans(), st.booleans())
@example(ENTRY | {"path": "/\x1b[2J\u202e\r\n\x00\x9b\ud800", "route": "\x07"}, True, False)
@example(ENTRY | {"status": 10**400, "duration_ms": float("inf"), "bytes_out": "1e5"}, True, False)
@example(ENTRY | {"time": "9999-12-31T23:59:59-23:00"}, False, True)
@example(ENTRY | {"time": "0001-01-01T00:00:00Z"}, False, False)
def test_only_printable_characters_reach_the_terminal(
    hostile: dict[str, Any], color: bool, as_json: bool
) -> None:
    """Invariant: one line of printable text for whatever JSON the log line holds."""
    output = printed(json.dumps(hostile).encode(), color=color and not as_json, json=as_json)
    assert fit_for_a_terminal(output)
    assert not as_json or isinstance(json.loads(output), dict)


@UNHURRIED
@given(st.binary(), st.booleans(), st.booleans())
@example(b"[" * 100_000, False, False)
@example(b"9" * 5000, False, False)
def test_any_bytes_are_shown_safely(line: bytes, color: bool, as_json: bool) -> None:
    assert fit_for_a_terminal(printed(line, color=color and not as_json, json=as_json))


NAMES = st.text("abc[]%.é\x1b?", max_size=6)
VALUES = st.text("xyz/%=?#;:\x1b\u202e é", max_size=12).map(lambda rest: "VALUE" + rest)


@UNHURRIED
@given(
    st.lists(st.tuples(NAMES, VALUES, st.booleans()), min_size=1),
    st.booleans(),
)
def test_no_value_of_a_query_ever_appears(
    query: list[tuple[str, str, bool]], as_json: bool
) -> None:
    """Invariant: of a query only the names of parameters that have an `=` are shown."""
    parts = [f"{name}={value}" if equals else value for name, value, equals in query]
    path = "/v1/x?" + "&".join(parts)
    # A bare value that itself has an `=` is a name and a value: the name is the client's choice.
    path = path.replace("?VALUE", "?=VALUE").replace("&VALUE", "&=VALUE")
    for line in (entry(path=path), entry(path=path)[:-5], f"log {path}".replace(" é", "").encode()):
        if line.startswith(b"log") and len(line.split()) > 2:
            continue  # free text with spaces in the query, which HTTP forbids
        assert "VALUE" not in printed(line, json=as_json)


@UNHURRIED
@given(st.text("VALUE-_.~/?:", min_size=1).map(lambda bare: "VALUE" + bare))
def test_a_parameter_without_an_equals_sign_is_replaced_whole(bare: str) -> None:
    assert "VALUE" not in printed(entry(path=f"/v1/x?{bare}&a=1&{bare}"))


def test_a_rendered_call_is_json_again() -> None:
    call = parse_call(entry())
    assert call
    assert json.loads(render_json(call))["event"] == "call"
