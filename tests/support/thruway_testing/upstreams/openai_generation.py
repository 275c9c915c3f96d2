"""The endpoints that make something from what they are sent: text, vectors, sound, pictures.

Every answer follows from its request, so that a test can tell that all of it arrived.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from itertools import chain
from typing import TYPE_CHECKING, Any

from aiohttp import web

from thruway_operator.laptop.demo import shapes
from thruway_testing.upstreams.openai_store import (
    ApiError,
    Json,
    json_body,
    multipart_body,
    new_id,
    now,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "MODELS",
    "Generation",
    "answer_to",
    "picture_of",
    "reply_to",
    "speech_of",
    "sse",
    "text_of",
]

MODELS = ("gpt-5", "gpt-4o-mini", "text-embedding-3-small")


def answer_to(text: str) -> str:
    """Return what the models of this upstream say to `text`."""
    return f"You said: {text}"


def speech_of(text: str) -> bytes:
    """Return `text` as "sound": about 256 KiB with every byte value, so not UTF-8."""
    return b"\xff\xfb" + bytes(range(256)) * 1024 + text.encode()


def picture_of(prompt: str) -> bytes:
    """Return a "picture": the signature of PNG, then the digest of the prompt."""
    return b"\x89PNG\r\n\x1a\n" + hashlib.sha256(prompt.encode()).digest()


def text_of(content: Any) -> str:
    """Return the text of a message's content or a response's input, whichever form it has."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return text_of(content.get("text", content.get("content", "")))
    return " ".join(text_of(part) for part in content)


async def sse(request: web.Request, events: Iterable[str]) -> web.StreamResponse:
    """Answer with server-sent events, each in a write of its own."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    for event in events:
        await response.write(event.encode())
        await asyncio.sleep(0)
    await response.write_eof()
    return response


class Generation:
    """Models, chat and plain completions, embeddings, moderations, audio, images."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this part of the API."""
        return [
            web.get("/v1/models", _models),
            web.get("/v1/models/{id}", _model),
            web.post("/v1/chat/completions", _chat),
            web.post("/v1/completions", _completions),
            web.post("/v1/embeddings", _embeddings),
            web.post("/v1/moderations", _moderations),
            web.post("/v1/audio/transcriptions", _transcription),
            web.post("/v1/audio/speech", _speech),
            web.post("/v1/images/generations", _image),
            web.post("/v1/images/edits", _image_edit),
        ]


async def _models(_request: web.Request) -> web.Response:
    models = [shapes.model_body(name) for name in MODELS]
    return web.json_response({"object": "list", "data": models})


async def _model(request: web.Request) -> web.Response:
    name = request.match_info["id"]
    if name not in MODELS:
        raise ApiError(404, f"The model '{name}' does not exist", code="model_not_found")
    return web.json_response(shapes.model_body(name))


def reply_to(body: Json, asked: str) -> shapes.Reply:
    """Return the reply of the requested model to this text."""
    words = len(shapes.words(asked))
    return shapes.Reply(new_id(""), body["model"], answer_to(asked), words, now())


async def _chat(request: web.Request) -> web.StreamResponse:
    body = await json_body(request)
    reply = reply_to(body, text_of(body["messages"][-1]["content"]))
    if not body.get("stream"):
        return web.json_response(shapes.chat_completion(reply))
    include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    chunks = shapes.chat_chunks(reply, include_usage=include_usage)
    frames = (f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return await sse(request, chain(frames, ["data: [DONE]\n\n"]))


async def _completions(request: web.Request) -> web.Response:
    body = await json_body(request)
    reply = reply_to(body, text_of(body["prompt"]))
    choice = {"index": 0, "text": reply.text, "finish_reason": "stop", "logprobs": None}
    return web.json_response(
        {
            "id": new_id("cmpl-"),
            "object": "text_completion",
            "created": now(),
            "model": body["model"],
            "choices": [choice],
            "usage": shapes.chat_completion(reply)["usage"],
        }
    )


async def _embeddings(request: web.Request) -> web.Response:
    body = await json_body(request)
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    as_base64 = body.get("encoding_format") == "base64"
    return web.json_response(shapes.embeddings(body["model"], texts, as_base64=as_base64))


async def _moderations(request: web.Request) -> web.Response:
    body = await json_body(request)
    violent = "kill" in text_of(body["input"])
    result = {
        "flagged": violent,
        "categories": {"violence": violent, "harassment": False},
        "category_scores": {"violence": float(violent), "harassment": 0.0},
        "category_applied_input_types": {"violence": ["text"], "harassment": []},
    }
    model = body.get("model", "omni-moderation-latest")
    return web.json_response({"id": new_id("modr-"), "model": model, "results": [result]})


async def _transcription(request: web.Request) -> web.Response:
    form = await multipart_body(request)
    file = form["file"]
    text = f"{file.filename}: {hashlib.sha256(file.content).hexdigest()}"
    if "response_format" in form and form["response_format"].text == "text":
        return web.Response(text=text + "\n")
    return web.json_response({"text": text})


async def _speech(request: web.Request) -> web.StreamResponse:
    body = await json_body(request)
    sound = speech_of(body["input"])
    response = web.StreamResponse(headers={"Content-Type": "audio/mpeg"})
    await response.prepare(request)
    for start in range(0, len(sound), 16384):
        await response.write(sound[start : start + 16384])
    await response.write_eof()
    return response


async def _image(request: web.Request) -> web.Response:
    body = await json_body(request)
    return web.json_response(_image_answer(picture_of(body["prompt"])))


async def _image_edit(request: web.Request) -> web.Response:
    """Return the very picture that was sent."""
    form = await multipart_body(request)
    return web.json_response(_image_answer(form["image"].content))


def _image_answer(picture: bytes) -> Json:
    return {"created": now(), "data": [{"b64_json": base64.b64encode(picture).decode()}]}
