"""The Realtime API: frames of any size in both directions, and how a conversation ends."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosedError

from thruway_testing.product.sdk import ADDRESSES, CLIENT_KEY, KINDS, base_url, open_client
from thruway_testing.upstreams.openai_generation import answer_to
from thruway_testing.upstreams.openai_realtime import CLOSE_REQUEST
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from openai.resources.realtime.realtime import RealtimeConnection
    from openai.types.websocket_connection_options import SyncWebSocketConnectionOptions

    from thruway_testing.product.journal import RecordedRequest
    from thruway_testing.product.sdk import Address
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

LARGE = 3 * 1024 * 1024 + 17
"""Bytes of a large frame: over 1 MiB, where many implementations stop, and no round number."""

NO_PROXY = cast("SyncWebSocketConnectionOptions", {"proxy": None})
"""Passed on to `websockets`, which else asks the environment for a proxy."""

KEY_SUBPROTOCOL = f"openai-insecure-api-key.{CLIENT_KEY}"


def new_model() -> str:
    """Return a model's name that no other test uses, by which its request is found again."""
    return f"gpt-realtime-{uuid.uuid4().hex}"


@contextmanager
def conversation(url: str, kind: str, model: str) -> Iterator[RealtimeConnection]:
    """Open a conversation with the SDK; its first event, `session.created`, has been read."""
    with (
        open_client(url, kind) as client,
        client.realtime.connect(model=model, websocket_connection_options=NO_PROXY) as connection,
    ):
        assert connection.recv().type == "session.created"
        yield connection


def say(connection: RealtimeConnection, text: str) -> None:
    connection.conversation.item.create(
        item={
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": text}],
        }
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_conversation(
    address: str, kind: str, thruway: Address, openai_upstream: OpenAIUpstream
) -> None:
    model = new_model()
    with conversation(base_url(address, thruway), kind, model) as connection:
        connection.session.update(session={"type": "realtime", "instructions": "Be kind."})
        updated = connection.recv()
        assert updated.type == "session.updated"
        assert getattr(updated.session, "instructions", None) == "Be kind."

        say(connection, "Hello there")
        assert connection.recv().type == "conversation.item.added"
        assert connection.recv().type == "conversation.item.done"

        connection.response.create()
        said = ""
        while (event := connection.recv()).type != "response.done":
            if event.type == "response.output_text.delta":
                said += event.delta
        assert said == answer_to("Hello there")

    handshake = openai_upstream.wait_for_request(model)
    assert handshake.raw_path == f"/v1/realtime?model={model}".encode()
    assert handshake.values("Authorization") == [f"Bearer {CANARY_KEY}"]
    assert CLIENT_KEY not in str(handshake.headers)


@pytest.mark.parametrize("kind", KINDS)
def test_large_frames_pass_both_ways(kind: str, thruway: Address) -> None:
    text = "x" * LARGE
    with conversation(f"{thruway.url}/openai_passthrough/v1", kind, new_model()) as connection:
        say(connection, text)
        added: Any = connection.recv()
        assert added.type == "conversation.item.added"
        assert added.item.content[0].text == text


@pytest.mark.parametrize("kind", KINDS)
def test_the_upstream_closes_with_its_code_and_reason(kind: str, thruway: Address) -> None:
    with conversation(f"{thruway.url}/openai_passthrough/v1", kind, new_model()) as connection:
        reason = "session expired: dört"
        connection.send_raw(json.dumps({"type": CLOSE_REQUEST, "code": 4001, "reason": reason}))
        with pytest.raises(ConnectionClosedError) as caught:
            connection.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, reason)


@pytest.mark.parametrize("kind", KINDS)
def test_the_client_closes_with_its_code_and_reason(
    kind: str, thruway: Address, openai_upstream: OpenAIUpstream
) -> None:
    model = new_model()
    with conversation(f"{thruway.url}/openai_passthrough/v1", kind, model) as connection:
        connection.close(code=4002, reason="had enough")
    ended = wait_until_closed(openai_upstream, model)
    assert (ended.close_code, ended.close_reason) == (4002, "had enough")


def wait_until_closed(upstream: OpenAIUpstream, model: str) -> RecordedRequest:
    handshake = upstream.wait_for_request(model)
    upstream.wait_for(lambda: handshake.close_code is not None)
    return handshake


# A browser cannot set headers on a WebSocket, so OpenAI takes the key as a subprotocol.


@asynccontextmanager
async def browser(thruway: Address, model: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    url = f"{thruway.url}/openai_passthrough/v1/realtime?model={model}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            url,
            protocols=["realtime", KEY_SUBPROTOCOL],
            origin="http://localhost:3000",
            max_msg_size=0,
        ) as socket,
    ):
        assert (await socket.receive_json())["type"] == "session.created"
        yield socket


def test_a_browsers_key_never_reaches_the_upstream(
    thruway: Address, openai_upstream: OpenAIUpstream
) -> None:
    model = new_model()

    async def connect() -> str | None:
        async with browser(thruway, model) as socket:
            return socket.protocol

    assert asyncio.run(connect()) == "realtime"
    handshake = openai_upstream.wait_for_request(model)
    assert handshake.subprotocols == ["realtime"]
    assert handshake.values("Authorization") == [f"Bearer {CANARY_KEY}"]
    assert handshake.values("Origin") == ["http://localhost:3000"]
    assert CLIENT_KEY not in str(handshake.headers)


def test_a_browsers_binary_frames_pass_both_ways(thruway: Address) -> None:
    frame = bytes(range(256)) * (LARGE // 256)

    async def exchange() -> bytes:
        async with browser(thruway, new_model()) as socket:
            await socket.send_bytes(frame)
            return await socket.receive_bytes()

    assert asyncio.run(exchange()) == frame
