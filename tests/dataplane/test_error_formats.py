"""Thruway's own errors, as the SDK of the route's provider parses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors, types

from thruway_operator.envoy.errorformats import local_reply_config
from thruway_operator.ir import ErrorFormat
from thruway_testing.plane import fake_extproc
from thruway_testing.plane.fake_extproc import FakeExtProc
from thruway_testing.product.manifests import route, secret
from thruway_testing.product.proxy_bench import ProxyBench
from thruway_testing.upstreams.rude_upstream import (
    RudeUpstream,
    close_after_request,
    refusing_port,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REASON = "type.googleapis.com/google.rpc.ErrorInfo"
KEY = {"credential": {"secretKeyRef": {"name": "real", "key": "KEY"}}}
LOCKED = {**KEY, "clientAuth": {"type": "APIKey", "secretRef": {"name": "clients"}}}


@dataclass(frozen=True)
class Case:
    status: int
    code: str
    anthropic: str
    gemini: str


CASES = {
    "locked": Case(401, "invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
    "reads": Case(405, "method_not_allowed", "invalid_request_error", "INVALID_ARGUMENT"),
    "resets": Case(502, "upstream_reset", "api_error", "UNAVAILABLE"),
    "unreachable": Case(502, "upstream_unreachable", "api_error", "UNAVAILABLE"),
    "bare": Case(503, "credential_missing", "api_error", "UNAVAILABLE"),
    "slow": Case(504, "upstream_timeout", "timeout_error", "DEADLINE_EXCEEDED"),
    # An override, which has the format of its route.
    "override/v1/gone": Case(502, "upstream_unreachable", "api_error", "UNAVAILABLE"),
}
UNPROCESSED = Case(503, "not_processed", "overloaded_error", "UNAVAILABLE")


@pytest.fixture(scope="module")
def bench() -> Iterator[ProxyBench]:
    documents = [secret("real", KEY="sk-real"), secret("clients", shop="vk-1")]
    with (
        RudeUpstream(wait) as waits,
        RudeUpstream(close_after_request) as closes,
        refusing_port() as port,
    ):
        nobody = f"http://127.0.0.1:{port}"
        missing = {"credential": {"secretKeyRef": {"name": "missing", "key": "KEY"}}}
        gone = {"path": "/v1/gone", "upstream": {"url": nobody}}
        specs: dict[str, tuple[str, dict[str, Any]]] = {
            "locked": (waits.url, LOCKED),
            "reads": (waits.url, {"request": {"methods": ["GET"]}}),
            "resets": (closes.url, KEY),
            "unreachable": (nobody, KEY),
            "bare": (waits.url, missing),
            "slow": (waits.url, {"timeouts": {"request": "300ms"}}),
            "override": (waits.url, {"overrides": [gone]}),
        }
        for provider in ErrorFormat:
            for name, (url, spec) in specs.items():
                path = f"/{provider}/{name}"
                own = {"provider": str(provider), **spec}
                documents.append(route(f"{provider}-{name}", path, url, **own))
        with ProxyBench(documents) as found:
            yield found


def ask(bench: ProxyBench, path: str, **headers: str) -> tuple[httpx.Response, dict[str, Any]]:
    own = {"x-request-id": "req-1", "x-goog-api-key": "wrong"} | headers
    response = httpx.post(f"{bench.url}{path}", headers=own, trust_env=False)
    return response, response.json()


def check(response: httpx.Response, case: Case, provider: ErrorFormat) -> None:
    assert response.status_code == case.status
    assert response.headers["x-thruway-code"] == case.code
    body = response.json()
    message = body["error"].pop("message")
    assert message.endswith((".", "`"))
    info = {"@type": REASON, "reason": case.code, "domain": "thruway.dev"}
    kind = "thruway_error" if case.status >= 500 else "invalid_request_error"
    assert (
        body
        == {
            ErrorFormat.OPENAI: {"error": {"type": kind, "param": None, "code": case.code}},
            ErrorFormat.ANTHROPIC: {
                "type": "error",
                "error": {"type": case.anthropic, "code": case.code},
                "request_id": "req-1",
            },
            ErrorFormat.GEMINI: {
                "error": {"code": case.status, "status": case.gemini, "details": [info]}
            },
        }[provider]
    )


@pytest.mark.parametrize("provider", ErrorFormat)
@pytest.mark.parametrize("name", CASES)
def test_the_body_has_the_providers_format(
    name: str, provider: ErrorFormat, bench: ProxyBench
) -> None:
    response, _ = ask(bench, f"/{provider}/{name}")
    check(response, CASES[name], provider)


@pytest.mark.parametrize("provider", ErrorFormat)
def test_what_may_pass_soon_is_an_overload(provider: ErrorFormat, tmp_path: Path) -> None:
    socket = str(tmp_path / "extproc.sock")
    document = route("a", "/a", "http://127.0.0.1:1", provider=str(provider))
    with (
        FakeExtProc(socket, fake_extproc.close_without_answer),
        ProxyBench([document], extproc=[socket]) as bench,
    ):
        response, _ = ask(bench, "/a/models")
        check(response, UNPROCESSED, provider)


@pytest.mark.parametrize("path", ["/nobody/models", "/anthropic/locked/../x"])
def test_errors_outside_of_any_route_have_openais_format(path: str, bench: ProxyBench) -> None:
    url = httpx.URL(bench.url, raw_path=path.encode())
    error = httpx.get(url, trust_env=False).json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}


def test_a_request_without_an_id_has_none(bench: ProxyBench) -> None:
    response = httpx.get(f"{bench.url}/anthropic/locked/models", trust_env=False)
    assert response.json()["request_id"] is None


@pytest.mark.parametrize("name", CASES)
def test_anthropics_sdk_raises_its_usual_exceptions(name: str, bench: ProxyBench) -> None:
    case = CASES[name]
    with (
        anthropic.Anthropic(
            base_url=f"{bench.url}/anthropic/{name}",
            api_key="wrong",
            max_retries=0,
            http_client=anthropic.DefaultHttpxClient(trust_env=False),
        ) as client,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "a"}])
    assert caught.value.status_code == case.status
    if case.status == 401:
        assert isinstance(caught.value, anthropic.AuthenticationError)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == case.anthropic
    assert caught.value.body["error"]["message"] in str(caught.value)


def ask_google(client: genai.Client, *, stream: bool) -> None:
    if stream:
        list(client.models.generate_content_stream(model="m", contents="a"))
    else:
        client.models.generate_content(model="m", contents="a")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_googles_sdk_raises_its_usual_exceptions(
    name: str, stream: bool, bench: ProxyBench
) -> None:
    case = CASES[name]
    options = types.HttpOptions(
        base_url=f"{bench.url}/gemini/{name}", client_args={"trust_env": False}
    )
    client = genai.Client(api_key="wrong", http_options=options)
    kind = errors.ClientError if case.status < 500 else errors.ServerError
    with pytest.raises(kind) as caught:
        ask_google(client, stream=stream)
    assert (caught.value.code, caught.value.status) == (case.status, case.gemini)
    assert caught.value.message


def test_openais_sdk_is_served_as_before(bench: ProxyBench) -> None:
    with (
        openai.OpenAI(
            base_url=f"{bench.url}/openai/locked",
            api_key="wrong",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        ) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "invalid_api_key"


def test_every_reply_exists_in_every_format() -> None:
    """And OpenAI's, which asks for no metadata, comes last of each."""
    preflight, *mappers = local_reply_config().mappers
    assert not preflight.headers_to_add
    codes = [mapper.headers_to_add[0].header.value for mapper in mappers]
    count = len(ErrorFormat)
    assert all(len(set(codes[at : at + count])) == 1 for at in range(0, len(codes), count))
