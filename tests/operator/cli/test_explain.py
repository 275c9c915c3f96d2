"""`thruway explain`: what is printed for one request."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from thruway_operator.diagnose.offline.requests import AskError, read_request
from thruway_testing.product.command import thruway

KEY = "sk-canary-explain-0123456789"
DOCS = Path(__file__).resolve().parents[3] / "docs" / "cli.md"
ENVIRONMENT = {"OPENAI_API_KEY": KEY, "THRUWAY_NATIVE_URL": "http://localhost:4100"}


def test_as_text() -> None:
    result = thruway(
        "explain",
        "get",
        "/openai_passthrough/models?limit=5&sk-secret-in-the-query",
        *("-H", f"Authorization: Bearer {KEY}", "-H", "X-Trace: 1"),
        environment=ENVIRONMENT,
    )
    assert result.exit_code == 0
    lines = [line.split(maxsplit=1) for line in result.output.splitlines()]
    assert lines == [
        ["request", "GET /openai_passthrough/models?limit=…&… to host localhost:4000"],
        ["route", "default/openai-passthrough"],
        ["because", "the path is /openai_passthrough, or below it"],
        ["not", "default/openai: the path is not /openai and below"],
        ["upstream", "GET https://api.openai.com/v1/models?limit=…&…"],
        [
            "path",
            "/openai_passthrough is removed, and /v1 is inserted, because the path names no "
            "version",
        ],
        ["host", "api.openai.com"],
        ["credential", "authorization: Bearer [redacted] (Secret openai, key OPENAI_API_KEY)"],
        ["removed", "authorization, api-key, x-api-key, x-goog-api-key, x-litellm-api-key"],
        ["passed", "x-trace"],
    ]


def test_an_override() -> None:
    result = thruway(
        "explain", "POST", "http://localhost:4000/openai/responses", environment=ENVIRONMENT
    )
    assert "route       default/openai, override /v1/responses\n" in result.output
    assert "not         default/openai: an override of it comes first\n" in result.output
    assert "upstream    POST http://localhost:4100/v1/responses\n" in result.output
    assert "credential  the client's own is forwarded\n" in result.output


def test_what_thruway_answers_itself() -> None:
    result = thruway("explain", "GET", "/nothing", environment=ENVIRONMENT)
    assert result.exit_code == 1
    assert "route       none\n" in result.output
    assert "answer      404 route_not_found: No PassthroughRoute serves this path." in result.output
    # No example: this answer is the same for everybody, on whatever port and with whatever routes.
    assert "4000" not in result.output.partition("answer")[2]


def test_as_json(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(
        "apiVersion: thruway.dev/v1alpha1\n"
        "kind: PassthroughRoute\n"
        "metadata: {name: azure}\n"
        "spec:\n"
        "  path: /azure\n"
        "  upstream: {url: 'https://x.example/openai'}\n"
        "  request: {query: {set: [{name: api-version, value: '2024'}]}, methods: [POST]}\n"
    )
    arguments = ["explain", "POST", "/azure/x?api-version=1&k=v", "-f", str(file), "-o", "json"]
    data = json.loads(thruway(*arguments).output)
    assert data["outcome"] == "forwarded"
    assert data["because"] == ["the path is /azure, or below it", "the method is one of POST"]
    assert data["upstream"]["url"] == "https://x.example/openai/x?k=…&api-version=2024"
    assert data["upstream"]["address"] == {"host": "x.example", "port": 443}
    data = json.loads(thruway(*[*arguments[:1], "GET", *arguments[2:]]).output)
    assert data["outcome"] == "refused"
    assert data["answer"]["code"] == "method_not_allowed"
    assert data["because"][1] == "the method is not one of POST"


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text("kind: PassthroughRoute\n")
    result = thruway("explain", "GET", "/x", "-f", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"thruway explain: {file}:1: error: apiVersion: ")


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("/x?y#z", "localhost:4000", "/x?y"),
        ("http://a.example", "a.example", "/"),
        ("HTTP://a.example?x=1", "a.example", "/?x=1"),
        ("https://[::1]:4000//x;y/%2F?#", "[::1]:4000", "//x;y/%2F?"),
        ("wss://a.example/v1/realtime", "a.example", "/v1/realtime"),
    ],
)
def test_urls(url: str, host: str, target: str) -> None:
    request = read_request("GET", url, [], 4000)
    assert (request.host, request.target) == (host, target)


def test_why_no_version_is_inserted(tmp_path: Path) -> None:
    result = thruway("explain", "GET", "/openai/v1/models", environment=ENVIRONMENT)
    assert "and no version is inserted, because the path begins with v1\n" in result.output
    file = tmp_path / "routes.yaml"
    file.write_text(
        "apiVersion: thruway.dev/v1alpha1\nkind: PassthroughRoute\nmetadata: {name: a}\n"
        "spec: {path: /a, upstream: {url: 'https://x.example'}}\n"
    )
    result = thruway("explain", "GET", "/a/models", "-f", str(file))
    assert "no version is inserted, because the route inserts none\n" in result.output


def test_the_demonstration_is_called_that() -> None:
    result = thruway("explain", "GET", "/openai/models")
    assert "/v1/models (the demonstration's made-up responses)\n" in result.output
    assert "credential  demonstration, no key\n" in result.output


def test_a_clients_key_that_is_thruways_does_not_pass_on() -> None:
    environment = {"THRUWAY_API_KEY": "tw-0123456789", "THRUWAY_UPSTREAM_URL": "http://x.example"}
    result = thruway("explain", "GET", "/openai/models", environment=environment)
    assert "credential  none (clients send Thruway's key)\n" in result.output


def test_a_fragment_is_told(tmp_path: Path) -> None:
    result = thruway("explain", "GET", "/openai/m?q=/?#", environment=ENVIRONMENT)
    assert "because     clients do not send what follows a #" in result.output


@pytest.mark.parametrize(("method", "sent"), [("FOO", "FOO"), ("foo", "foo"), ("get", "GET")])
def test_methods_of_ones_own_pass(method: str, sent: str) -> None:
    result = thruway("explain", method, "/openai_passthrough/x", environment=ENVIRONMENT)
    assert f"upstream    {sent} https://api.openai.com/v1/x\n" in result.output
    assert result.exit_code == 0


def test_connect_does_not_pass() -> None:
    result = thruway("explain", "CONNECT", "/openai_passthrough/x", environment=ENVIRONMENT)
    assert "answer      405 connect_not_supported: " in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("A B", "/", []), "METHOD is not one that Thruway forwards: give a word such as GET"),
        (("", "/", []), "METHOD is not one that Thruway forwards: give a word such as GET"),
        (("/x", "GET", []), "METHOD is not one that Thruway forwards: first METHOD, then URL"),
        (("GET", "", []), "URL is empty"),
        (("GET", "ftp://x/", []), "URL must begin with http://, https:// or /"),
        (("GET", "x", []), "URL must begin with"),
        (("GET", "http:///x", []), "URL has no valid host and port"),
        (("GET", "http://[x]/", []), "URL has no valid host"),
        (("GET", "http://a:x/", []), "URL has no valid host and port"),
        (("GET", f"http://u:{KEY}@a/", []), "URL contains a user or password"),
        (("GET", "/a b", []), "URL contains a space"),
        (("GET", "/ä", []), "URL contains a space or a character that is not printable ASCII"),
        (("GET", "/" + "x" * 70_000, []), "URL is longer than 60 KiB"),
        (("GET", "/", [KEY]), "-H number 1 is not a header: write it as -H 'Name: value'"),
        (("GET", "/", ["A: b", "C: \x01"]), "-H number 2 contains a control character"),
        (("GET", "/", ["Host: a", "host: b"]), "-H gives Host twice"),
        (("GET", "/", ["Host: a b"]), "-H gives an invalid Host"),
        (("GET", "/", ["a: \udcff"]), "-H number 1 is not UTF-8 text"),
        (("GET", "/", ["a: b"] * 201), "-H is given more than 200 times"),
    ],
)
def test_what_is_no_request(arguments: tuple[str, str, list[str]], said: str) -> None:
    with pytest.raises(AskError) as error:
        read_request(*arguments, 4000)
    assert str(error.value).startswith(said)
    assert KEY not in str(error.value)


def test_the_example_in_the_docs_is_what_is_printed() -> None:
    example = r"^\$ thruway (explain .*)\n((?:.*\n)*?)```$"
    found = re.search(example, DOCS.read_text("utf-8"), re.MULTILINE)
    assert found
    result = thruway(*shlex.split(found[1]), environment=ENVIRONMENT)
    assert result.output == found[2]
