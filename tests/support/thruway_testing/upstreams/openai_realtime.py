"""The Realtime API over WebSocket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from thruway_operator.laptop.demo.shapes import words
from thruway_testing.upstreams.openai_generation import answer_to, text_of
from thruway_testing.upstreams.openai_store import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from thruway_testing.upstreams.openai_store import Json

__all__ = [
    "CLOSE_REASON",
    "CLOSE_REQUEST",
    "WEBSOCKET",
    "Realtime",
    "accept_websocket",
    "messages_in",
]

WEBSOCKET = web.RequestKey("websocket", web.WebSocketResponse)
CLOSE_REASON = web.RequestKey("close_reason", str)

CLOSE_REQUEST = "test.close"
"""The event of ours that makes the upstream close: `{"type": ..., "code": 4001, "reason": ""}`."""


class Realtime:
    """One conversation per connection: items are said back, responses answer the last one.

    Binary frames, and text that is not a JSON object, come back as they are.
    """

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this part of the API."""
        return [web.get("/v1/realtime", self._converse)]

    async def _converse(self, request: web.Request) -> web.WebSocketResponse:
        socket = await accept_websocket(request, protocols=("realtime",))
        session: Json = {
            "id": new_id("sess_"),
            "object": "realtime.session",
            "type": "realtime",
            "model": request.query.get("model"),
        }
        await _send(socket, {"type": "session.created", "session": session})
        last_said = ""
        async for data in messages_in(request, socket):
            event = _event_in(data)
            if event is None:
                await _echo(socket, data)
            elif event["type"] == CLOSE_REQUEST:
                await socket.close(code=event["code"], message=event["reason"].encode())
            else:
                if event["type"] == "conversation.item.create":
                    last_said = text_of(event["item"]["content"])
                async for answer in _answers(event, session, last_said):
                    await _send(socket, answer)
        return socket


async def accept_websocket(
    request: web.Request, protocols: tuple[str, ...] = ()
) -> web.WebSocketResponse:
    """Answer the handshake; frames may have any size."""
    socket = web.WebSocketResponse(protocols=protocols, max_msg_size=0)
    await socket.prepare(request)
    request[WEBSOCKET] = socket
    return socket


async def messages_in(
    request: web.Request, socket: web.WebSocketResponse
) -> AsyncGenerator[str | bytes]:
    """Yield text and binary messages until the peer closes; keep the reason that it gave."""
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.CLOSE:
            request[CLOSE_REASON] = message.extra or ""
        if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
            return
        yield message.data


def _event_in(data: str | bytes) -> Json | None:
    if isinstance(data, bytes):
        return None
    try:
        event = json.loads(data)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


async def _send(socket: web.WebSocketResponse, event: Json) -> None:
    await socket.send_json({"event_id": new_id("event_"), **event})


async def _echo(socket: web.WebSocketResponse, data: str | bytes) -> None:
    if isinstance(data, bytes):
        await socket.send_bytes(data)
    else:
        await socket.send_str(data)


async def _answers(event: Json, session: Json, last_said: str) -> AsyncIterator[Json]:
    match event["type"]:
        case "session.update":
            session.update(event["session"])
            yield {"type": "session.updated", "session": session}
        case "conversation.item.create":
            item = {"id": new_id("item_"), "object": "realtime.item", **event["item"]}
            yield {"type": "conversation.item.added", "item": item}
            yield {"type": "conversation.item.done", "item": item}
        case "response.create":
            for answer in _response(answer_to(last_said)):
                yield answer
        case unknown:
            error = {"type": "invalid_request_error", "message": f"Unknown event '{unknown}'."}
            yield {"type": "error", "error": error}


def _response(text: str) -> list[Json]:
    response: Json = {"id": new_id("resp_"), "object": "realtime.response", "output": []}
    item_id = new_id("item_")
    place: Json = {"response_id": response["id"], "item_id": item_id}
    place |= {"output_index": 0, "content_index": 0}
    item: dict[str, Any] = {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text}],
    }
    deltas = [
        {"type": "response.output_text.delta", "delta": piece, **place} for piece in words(text)
    ]
    return [
        {"type": "response.created", "response": response | {"status": "in_progress"}},
        *deltas,
        {"type": "response.output_text.done", "text": text, **place},
        {"type": "response.done", "response": response | {"status": "completed", "output": [item]}},
    ]
