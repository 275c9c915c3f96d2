"""An upstream's error must look the same with and without Thruway, to the last header."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import openai
import pytest

from thruway_testing.product.sdk import ADDRESSES, KINDS, base_url, open_client
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai import OpenAI

    from thruway_testing.product.sdk import Address
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

INCOMPARABLE_HEADERS = {
    "date",  # each answer has its own
    "connection",  # the rest are hop-by-hop: RFC 9110, 7.6.1
    "keep-alive",
    "transfer-encoding",
}


@dataclass
class Raised:
    """All that a caller can see of an exception of the SDK."""

    kind: type[openai.APIStatusError]
    status_code: int
    message: str
    body: object
    code: str | None
    param: str | None
    type: str | None
    request_id: str | None
    reason: str
    headers: list[tuple[str, str]]


def error_of(call: Callable[[], object]) -> Raised:
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    error = caught.value
    headers = sorted(error.response.headers.multi_items())
    return Raised(
        kind=type(error),
        status_code=error.status_code,
        message=error.message,
        body=error.body,
        code=error.code,
        param=error.param,
        type=error.type,
        request_id=error.request_id,
        reason=error.response.reason_phrase,
        headers=[item for item in headers if item[0] not in INCOMPARABLE_HEADERS],
    )


def chat(client: OpenAI, model: str, call_id: str, *, stream: bool = False) -> object:
    return client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Hello"}],
        stream=stream,
        extra_headers={"X-Client-Request-Id": call_id},
    )


EXPECTED = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", EXPECTED)
def test_an_error_is_the_same_with_and_without_thruway(
    status: int, kind: str, stream: bool, thruway: Address, openai_upstream: OpenAIUpstream
) -> None:
    call_id = uuid.uuid4().hex
    with open_client(f"{openai_upstream.url}/v1", kind, api_key=CANARY_KEY) as client:
        direct = error_of(lambda: chat(client, f"error-{status}", call_id, stream=stream))
    with open_client(f"{thruway.url}/openai_passthrough/v1", kind) as client:
        through = error_of(lambda: chat(client, f"error-{status}", call_id, stream=stream))

    assert through.kind is EXPECTED[status]
    assert through == direct
    # One call, one request each: nobody between the client and the upstream tried again.
    assert len(openai_upstream.requests_with("X-Client-Request-Id", call_id)) == 2


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address_shows_the_upstreams_error(address: str, thruway: Address) -> None:
    with (
        open_client(base_url(address, thruway)) as client,
        pytest.raises(openai.NotFoundError) as caught,
    ):
        client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"
    assert caught.value.response.headers["x-upstream"] == "openai"


@pytest.mark.parametrize("kind", KINDS)
def test_the_time_to_wait_is_visible(kind: str, thruway: Address) -> None:
    with (
        open_client(f"{thruway.url}/openai_passthrough/v1", kind) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        chat(client, "error-429", uuid.uuid4().hex)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_the_upstream_refuses_a_wrong_key(openai_upstream: OpenAIUpstream) -> None:
    """The upstream of these tests does check keys; else they would prove little about injection."""
    with (
        open_client(f"{openai_upstream.url}/v1", api_key="sk-not-the-real-one") as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "invalid_api_key"
