"""Why a tunnel failed, in a sentence; and only once in a while."""

from __future__ import annotations

import json

import pytest

from thruway_operator.laptop.up.tunnels import TunnelTroubles, trouble


def line(**fields: object) -> bytes:
    entry = {
        "tunnel": "api.test:443",
        "cluster": "proxy/[::1]:3128/0123456789ab",
        "status": 503,
        "details": "upstream_reset_before_response_started{remote_connection_failure}",
        "reason": None,
    }
    return json.dumps(entry | fields).encode()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": 407, "details": "via_upstream"}, "returned 407 to CONNECT api.test:443: it r"),
        ({"status": 418, "details": "via_upstream"}, "returned 418 to CONNECT api.test:443: ask"),
        ({"details": "no_healthy_upstream"}, "has a name that does not resolve"),
        ({"reason": "delayed_connect_error:_Connection_refused"}, "reached (Connection refused)"),
        ({"reason": "TLS_error:|1:SSL:CERTIFICATE_VERIFY_FAILED:x"}, "is not trusted"),
        ({"reason": "TLS_error:|1:SSL:WRONG_VERSION_NUMBER"}, "does not use TLS there"),
        ({}, "reached (remote connection failure)"),
    ],
)
def test_each_failure_has_its_sentence(fields: dict[str, object], said: str) -> None:
    sentence = trouble(line(**fields))
    assert sentence is not None
    assert sentence.startswith("The proxy [::1]:3128")
    assert said in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "other", [b"", b"text", b'{"method": "GET"}', b'{"tunnel": broken', b'["tunnel"]', b'{"tunnel"']
)
def test_other_lines_are_left_alone(other: bytes) -> None:
    said: list[str] = []
    assert not TunnelTroubles(said.append)(other)
    assert said == []


def test_the_same_is_not_said_again_and_again() -> None:
    said: list[str] = []
    troubles = TunnelTroubles(said.append)
    for _ in range(3):
        assert troubles(line())
        assert troubles(line(status=403, details="via_upstream"))
    assert len(said) == 2
