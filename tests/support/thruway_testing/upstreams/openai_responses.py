"""The Responses API: create, streamed or not, retrieve, cancel, delete, and list the input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import web

from thruway_testing.upstreams.openai_generation import answer_to, pieces_of, sse, text_of
from thruway_testing.upstreams.openai_store import (
    ApiError,
    Json,
    Shelf,
    json_body,
    new_id,
    now,
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
        response = self._responses.add(_new_response(body))
        self._inputs[response["id"]] = _input_items(body["input"])
        answer = answer_to(text_of(body["input"]))
        if body.get("stream"):
            return await sse(request, _events(response, answer))
        if response["background"]:
            response["status"] = "queued"
        else:
            _complete(response, _message(new_id("msg_"), answer))
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


def _new_response(body: Json) -> Json:
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now(),
        "status": "in_progress",
        "model": body["model"],
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


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


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(item_id: str, text: str) -> Json:
    head = {"id": item_id, "type": "message", "role": "assistant"}
    return head | {"status": "completed", "content": [_part(text)]}


def _complete(response: Json, message: Json) -> None:
    used = len(message["content"][0]["text"].split())
    usage = {
        "input_tokens": used,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": used,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2 * used,
    }
    response.update(status="completed", output=[message], usage=usage)


def _events(response: Json, answer: str) -> Iterator[str]:
    """Yield the events of a streamed response in the order that OpenAI documents."""
    sequence = iter(range(1_000_000))
    item_id = new_id("msg_")
    place: Json = {"item_id": item_id, "output_index": 0, "content_index": 0}

    def event(kind: str, fields: Json) -> str:
        payload = {"type": f"response.{kind}", "sequence_number": next(sequence), **fields}
        return f"event: response.{kind}\ndata: {json.dumps(payload)}\n\n"

    started = _message(item_id, "") | {"status": "in_progress", "content": []}
    yield event("created", {"response": response})
    yield event("in_progress", {"response": response})
    yield event("output_item.added", {"output_index": 0, "item": started})
    yield event("content_part.added", place | {"part": _part("")})
    for piece in pieces_of(answer):
        yield event("output_text.delta", place | {"delta": piece, "logprobs": []})
    yield event("output_text.done", place | {"text": answer, "logprobs": []})
    yield event("content_part.done", place | {"part": _part(answer)})
    message = _message(item_id, answer)
    yield event("output_item.done", {"output_index": 0, "item": message})
    _complete(response, message)
    yield event("completed", {"response": response})
