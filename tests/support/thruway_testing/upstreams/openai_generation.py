"""The endpoints that make something from what they are sent: text, vectors, sound, pictures.

Every answer follows from its request, so that a test can tell that all of it arrived.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import struct
from typing import TYPE_CHECKING, Any

from aiohttp import web

from thruway_testing.upstreams.openai_store import (
    ApiError,
    Json,
    json_body,
    multipart_body,
    new_id,
    now,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MODELS",
    "Generation",
    "answer_to",
    "embedding_of",
    "picture_of",
    "pieces_of",
    "speech_of",
    "sse",
    "text_of",
]

MODELS = ("gpt-5", "gpt-4o-mini", "text-embedding-3-small")


def answer_to(text: str) -> str:
    """Return what the models of this upstream say to `text`."""
    return f"You said: {text}"


def pieces_of(answer: str) -> list[str]:
    """Return the words in which `answer` is streamed; joined they are `answer` again."""
    return re.split(r"(?<= )", answer)


def embedding_of(text: str) -> list[float]:
    """Return the vector of `text`: four numbers that float32 holds exactly."""
    return [byte / 256 for byte in hashlib.sha256(text.encode()).digest()[:4]]


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


async def sse(request: web.Request, events: Iterator[str]) -> web.StreamResponse:
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


def _describe_model(name: str) -> Json:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "test"}


async def _models(_request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [_describe_model(name) for name in MODELS]})


async def _model(request: web.Request) -> web.Response:
    name = request.match_info["id"]
    if name not in MODELS:
        raise ApiError(404, f"The model '{name}' does not exist", code="model_not_found")
    return web.json_response(_describe_model(name))


def _usage(asked: str, answer: str) -> Json:
    asked_for, answered = len(asked.split()), len(answer.split())
    return {
        "prompt_tokens": asked_for,
        "completion_tokens": answered,
        "total_tokens": asked_for + answered,
    }


async def _chat(request: web.Request) -> web.StreamResponse:
    body = await json_body(request)
    asked = text_of(body["messages"][-1]["content"])
    answer = answer_to(asked)
    head = {"id": new_id("chatcmpl-"), "created": now(), "model": body["model"]}
    if body.get("stream"):
        usage = None
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = _usage(asked, answer)
        return await sse(request, _chat_chunks(head, answer, usage))
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer, "refusal": None},
        "finish_reason": "stop",
        "logprobs": None,
    }
    completion = {"object": "chat.completion", "choices": [choice], "usage": _usage(asked, answer)}
    return web.json_response(head | completion)


def _chat_chunks(head: Json, answer: str, usage: Json | None) -> Iterator[str]:
    def chunk(delta: Json, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return data({"choices": [choice]})

    def data(fields: Json) -> str:
        return f"data: {json.dumps(head | {'object': 'chat.completion.chunk'} | fields)}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    for piece in pieces_of(answer):
        yield chunk({"content": piece})
    yield chunk({}, finish="stop")
    if usage is not None:
        yield data({"choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


async def _completions(request: web.Request) -> web.Response:
    body = await json_body(request)
    asked = text_of(body["prompt"])
    answer = answer_to(asked)
    choice = {"index": 0, "text": answer, "finish_reason": "stop", "logprobs": None}
    return web.json_response(
        {
            "id": new_id("cmpl-"),
            "object": "text_completion",
            "created": now(),
            "model": body["model"],
            "choices": [choice],
            "usage": _usage(asked, answer),
        }
    )


async def _embeddings(request: web.Request) -> web.Response:
    body = await json_body(request)
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    as_base64 = body.get("encoding_format") == "base64"
    vectors = [_encode(embedding_of(text), as_base64=as_base64) for text in texts]
    entries = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return web.json_response(
        {"object": "list", "data": entries, "model": body["model"], "usage": usage}
    )


def _encode(vector: list[float], *, as_base64: bool) -> list[float] | str:
    if not as_base64:
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


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
