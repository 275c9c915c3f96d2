"""A stream passes event by event, as it is sent; and a client that leaves ends it upstream."""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from typing import TYPE_CHECKING

import aiohttp
import httpx
import pytest

from thruway_testing.product.sdk import CLIENT_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.product.journal import RecordedRequest
    from thruway_testing.product.sdk import Address
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

EVENTS = 25


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {CLIENT_KEY}"}
    with httpx.Client(headers=headers, timeout=10, trust_env=False) as client:
        yield client


def steps_in(response: httpx.Response) -> Iterator[int]:
    """Yield the number of each event, as soon as it is complete."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))["n"]


def test_each_event_passes_before_the_next_is_sent(client: httpx.Client, thruway: Address) -> None:
    url = f"{thruway.url}/openai_passthrough/v1/lockstep/{uuid.uuid4().hex}"
    seen = []
    with client.stream("GET", url, params={"events": EVENTS}) as response:
        for n in steps_in(response):
            seen.append(n)
            assert client.post(f"{url}/ack", json={"n": n}).status_code == 200
    assert seen == list(range(EVENTS))


def test_each_websocket_message_passes_before_the_next_is_sent(thruway: Address) -> None:
    url = f"{thruway.url}/openai_passthrough/v1/lockstep/{uuid.uuid4().hex}/ws?events={EVENTS}"
    headers = {"Authorization": f"Bearer {CLIENT_KEY}"}

    async def walk() -> tuple[list[int], int | None]:
        seen = []
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.ws_connect(url) as ws,
        ):
            async for message in ws:
                seen.append(json.loads(message.data)["n"])
                await ws.send_json({"ack": seen[-1]})
            return seen, ws.close_code

    assert asyncio.run(walk()) == (list(range(EVENTS)), 1000)


def wait_until_left(upstream: OpenAIUpstream, stream_id: str) -> RecordedRequest:
    """Wait until the upstream has seen its peer close the connection: a second, usually far less.

    The bound here is generous, for busy machines.
    """
    request = upstream.wait_for_request(stream_id)
    upstream.wait_for(lambda: request.finished, timeout=5)
    return request


@pytest.mark.parametrize("manner", ["", "?silent=1"], ids=["talking", "silent"])
def test_a_client_that_leaves_a_stream_ends_it_upstream(
    manner: str, client: httpx.Client, thruway: Address, openai_upstream: OpenAIUpstream
) -> None:
    stream_id = uuid.uuid4().hex
    url = f"{thruway.url}/openai_passthrough/v1/forever/{stream_id}{manner}"
    with client.stream("GET", url) as response:
        steps = steps_in(response)  # kept: httpx closes the stream when it is collected
        assert next(steps) == 0
        assert not openai_upstream.wait_for_request(stream_id).finished
    assert wait_until_left(openai_upstream, stream_id).aborted


def test_a_websocket_client_that_vanishes_ends_it_upstream(
    thruway: Address, openai_upstream: OpenAIUpstream
) -> None:
    """The connection just ends, as when a pod is killed: there is no close frame."""
    stream_id = uuid.uuid4().hex
    path = f"/openai_passthrough/v1/lockstep/{stream_id}/ws?events=2"
    handshake = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{thruway.port}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {CLIENT_KEY}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", thruway.port), timeout=10) as connection:
        connection.sendall(handshake.encode())
        received = b""
        while b'{"n": 0}' not in received:
            piece = connection.recv(4096)
            assert piece, received
            received += piece
        assert received.startswith(b"HTTP/1.1 101 ")
        assert openai_upstream.wait_for_request(stream_id).close_code is None
    assert wait_until_left(openai_upstream, stream_id).close_code == 1006
