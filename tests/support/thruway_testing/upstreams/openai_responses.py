"""The Responses API: create, streamed or not, retrieve, cancel, delete, and list the input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import web

from thruway_operator.laptop.demo import shapes
from thruway_testing.upstreams.openai_generation import reply_to, sse, text_of
from thruway_testing.upstreams.openai_store import (
    ApiError,
    Json,
    Shelf,
    json_body,
    new_id,
    page_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Responses"]


class Responses:
    """Responses are complete when they are created; those in the background stay queued."""

    def __init__(self) -> None:
        self._responses = Shelf("response")
        self._inputs: dict[str, list[Json]] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this part of the API."""
        return [
            web.post("/v1/responses", self._create),
            web.get("/v1/responses/{id}", self._retrieve),
            web.delete("/v1/responses/{id}", self._delete),
            web.post("/v1/responses/{id}/cancel", self._cancel),
            web.get("/v1/responses/{id}/input_items", self._input_items),
        ]

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await json_body(request)
        reply = reply_to(body, text_of(body["input"]))
        own = _fields_of(body)
        response = self._responses.add(shapes.response(reply, done=False) | own)
        self._inputs[response["id"]] = _input_items(body["input"])
        if body.get("stream"):
            sent = await sse(request, _events(reply, own))
            response.update(shapes.response(reply) | own)
            return sent
        if own["background"]:
            response["status"] = "queued"
        else:
            response.update(shapes.response(reply) | own)
        return web.json_response(response)

    async def _retrieve(self, request: web.Request) -> web.Response:
        return web.json_response(self._responses.get(request.match_info["id"]))

    async def _delete(self, request: web.Request) -> web.Response:
        notice = self._responses.remove(request.match_info["id"])
        return web.json_response({**notice, "object": "response"})

    async def _cancel(self, request: web.Request) -> web.Response:
        response = self._responses.get(request.match_info["id"])
        if not response["background"]:
            raise ApiError(400, "Cannot cancel a synchronous response.")
        response["status"] = "cancelled"
        return web.json_response(response)

    async def _input_items(self, request: web.Request) -> web.Response:
        response = self._responses.get(request.match_info["id"])
        return web.json_response(page_of(self._inputs[response["id"]], request))


def _fields_of(body: Json) -> Json:
    """Return what a response repeats of its request."""
    return {
        "background": bool(body.get("background")),
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
    }


def _events(reply: shapes.Reply, own: Json) -> Iterator[str]:
    for event in shapes.response_events(reply):
        if "response" in event:
            event["response"] = event["response"] | own
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _input_items(given: str | list[Json]) -> list[Json]:
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return [
        {
            "id": new_id("msg_"),
            "type": "message",
            "role": message["role"],
            "status": "completed",
            "content": [{"type": "input_text", "text": text_of(message["content"])}],
        }
        for message in messages
    ]
