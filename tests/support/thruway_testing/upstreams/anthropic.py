"""Anthropic's API, as far as its SDK's main calls need it. https://docs.anthropic.com/en/api"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from thruway_testing.upstreams.served import Served

__all__ = ["anthropic_upstream"]

MODEL = {
    "type": "model",
    "id": "claude-test",
    "display_name": "Claude Test",
    "created_at": "2026-01-01T00:00:00Z",
}
BATCH = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-02T00:00:00Z",
    "ended_at": None,
    "archived_at": None,
    "cancel_initiated_at": None,
    "results_url": None,
}


def anthropic_upstream(key: str) -> Served:
    """Return an upstream that lets in this key alone."""
    return _Anthropic(key).served()


class _Anthropic:
    def __init__(self, key: str) -> None:
        self._key = key
        self._files: dict[str, tuple[str, bytes]] = {}

    def served(self) -> Served:
        routes = {
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/messages"): self._messages,
            ("POST", "/v1/messages/batches"): self._batch,
            ("GET", "/v1/messages/batches/{id}"): self._batch,
            ("POST", "/v1/files"): self._upload,
            ("GET", "/v1/files/{id}"): self._metadata,
            ("GET", "/v1/files/{id}/content"): self._download,
        }
        return Served(
            *(
                web.route(method, path, self._authorized(do))
                for (method, path), do in routes.items()
            )
        )

    def _authorized(self, handler: Any) -> Any:
        async def checked(request: web.Request) -> web.StreamResponse:
            if request.headers.getall("x-api-key", []) != [self._key]:
                error = {"type": "authentication_error", "message": "invalid x-api-key"}
                return web.json_response({"type": "error", "error": error}, status=401)
            found: web.StreamResponse = await handler(request)
            return found

        return checked

    async def _models(self, _: web.Request) -> web.Response:
        page = {"data": [MODEL], "has_more": False, "first_id": MODEL["id"], "last_id": MODEL["id"]}
        return web.json_response(page)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        text = f"You said: {asked['messages'][-1]['content']}"
        message = _message(text)
        if not asked.get("stream"):
            return web.json_response(message)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for kind, data in _events(text, message):
            event = f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"
            await response.write(event.encode())
        await response.write_eof()
        return response

    async def _batch(self, _: web.Request) -> web.Response:
        return web.json_response(BATCH)

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        field = form["file"]
        assert isinstance(field, web.FileField)
        id_ = f"file_{len(self._files)}"
        self._files[id_] = (field.filename, field.file.read())
        return web.json_response(self._described(id_))

    async def _metadata(self, request: web.Request) -> web.Response:
        return web.json_response(self._described(request.match_info["id"]))

    async def _download(self, request: web.Request) -> web.Response:
        return web.Response(body=self._files[request.match_info["id"]][1])

    def _described(self, id_: str) -> dict[str, Any]:
        name, content = self._files[id_]
        return {
            "id": id_,
            "type": "file",
            "filename": name,
            "mime_type": "application/octet-stream",
            "size_bytes": len(content),
            "created_at": "2026-01-01T00:00:00Z",
            "downloadable": True,
        }


def _message(text: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL["id"],
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5},
    }


def _events(text: str, message: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    words = text.split(" ")
    pieces = [words[0], *(f" {word}" for word in words[1:])]
    return [
        ("message_start", {"message": {**message, "content": [], "stop_reason": None}}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(
            ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}})
            for piece in pieces
        ),
        ("content_block_stop", {"index": 0}),
        (
            "message_delta",
            {
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 5},
            },
        ),
        ("message_stop", {}),
    ]
