"""OpenAI's formats for models, chat, responses and embeddings: pure functions to plain data.

The demonstration upstream and the tests' upstream use them. Source: the API reference of OpenAI
(platform.openai.com/docs/api-reference) and the models of its Python SDK, with which the tests
parse the responses. Token counts are counts of words.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MODELS",
    "Reply",
    "answer_text",
    "chat_chunks",
    "chat_completion",
    "embedding_of",
    "embeddings",
    "error_body",
    "last_user_text",
    "model_body",
    "model_list",
    "response",
    "response_events",
    "words",
]

Json: TypeAlias = dict[str, Any]

MODELS = ("gpt-4o-mini", "thruway-demo")
_DIMENSIONS = 16
_ECHO_LIMIT = 2000  # characters


@dataclass(frozen=True)
class Reply:
    """The content of one response: `created` in Unix seconds, `ident` unique, prompt in words."""

    ident: str
    model: str
    text: str
    prompt_words: int
    created: int


def answer_text(message: str) -> str:
    """Return the demonstration's reply to this message."""
    echo = message if len(message) <= _ECHO_LIMIT else message[:_ECHO_LIMIT] + "…"
    said = f'You said: "{echo}"' if echo else "You said nothing."
    return (
        "This is the demonstration upstream of Thruway, not a model: no key was found, so nothing "
        f"left this machine. {said} "
        "To talk to OpenAI, run `export OPENAI_API_KEY=sk-...` with your key in the shell that "
        "starts Thruway, and start it again."
    )


def words(text: str) -> list[str]:
    """Split the text into pieces of one word each, which joined give the text again."""
    return re.findall(r"\s*\S+|\s+$", text)


def last_user_text(messages: object) -> str:
    """The text of the last user message of a chat's `messages` or a response's `input`."""
    if isinstance(messages, str):
        return messages
    for item in reversed(messages) if isinstance(messages, list) else ():
        if isinstance(item, dict) and item.get("role", "user") == "user" and "content" in item:
            return _content_text(item["content"])
    return ""


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return " ".join(text for text in texts if isinstance(text, str))


def error_body(message: str, kind: str, *, param: str | None = None, code: str) -> Json:
    """An error as OpenAI sends it, so that SDKs raise their usual exceptions."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def model_body(ident: str) -> Json:
    """One model."""
    return {"id": ident, "object": "model", "created": 1_700_000_000, "owned_by": "thruway"}


def model_list() -> Json:
    """GET /v1/models."""
    return {"object": "list", "data": [model_body(ident) for ident in MODELS]}


# ----------------------------------------------------------------------------- chat completions


def _chat_usage(reply: Reply) -> Json:
    out = len(words(reply.text))
    return {
        "prompt_tokens": reply.prompt_words,
        "completion_tokens": out,
        "total_tokens": reply.prompt_words + out,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def chat_completion(reply: Reply) -> Json:
    """POST /v1/chat/completions in one piece."""
    message: Json = {"role": "assistant", "content": reply.text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": f"chatcmpl-{reply.ident}",
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [choice],
        "usage": _chat_usage(reply),
        "system_fingerprint": None,
    }


def chat_chunks(reply: Reply, *, include_usage: bool) -> Iterator[Json]:
    """The same as `stream: true` sends it; `stream_options.include_usage` adds one chunk."""

    def chunk(choices: list[Json], usage: Json | None) -> Json:
        body = {
            "id": f"chatcmpl-{reply.ident}",
            "object": "chat.completion.chunk",
            "created": reply.created,
            "model": reply.model,
            "system_fingerprint": None,
            "choices": choices,
        }
        return body | {"usage": usage} if include_usage else body

    def choice(delta: Json, finish: str | None = None) -> list[Json]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    yield chunk(choice({"role": "assistant", "content": "", "refusal": None}), None)
    for word in words(reply.text):
        yield chunk(choice({"content": word}), None)
    yield chunk(choice({}, "stop"), None)
    if include_usage:
        yield chunk([], _chat_usage(reply))


# ------------------------------------------------------------------------------------- responses


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(reply: Reply, *, done: bool) -> Json:
    return {
        "id": f"msg_{reply.ident}",
        "type": "message",
        "role": "assistant",
        "status": "completed" if done else "in_progress",
        "content": [_part(reply.text)] if done else [],
    }


def response(reply: Reply, *, done: bool = True) -> Json:
    """POST /v1/responses in one piece; not `done`: as in the first events of a stream."""
    out = len(words(reply.text))
    usage = {
        "input_tokens": reply.prompt_words,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.prompt_words + out,
    }
    return {
        "id": f"resp_{reply.ident}",
        "object": "response",
        "created_at": reply.created,
        "status": "completed" if done else "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": reply.model,
        "output": [_message(reply, done=True)] if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if done else None,
        "user": None,
        "metadata": {},
    }


def response_events(reply: Reply) -> Iterator[Json]:
    """The typed events of a streamed response, in order and numbered."""
    for number, event in enumerate(_events(reply)):
        yield {**event, "sequence_number": number}


def _events(reply: Reply) -> Iterator[Json]:
    in_part = {"item_id": f"msg_{reply.ident}", "output_index": 0, "content_index": 0}
    started, text = response(reply, done=False), reply.text
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    item = _message(reply, done=False)
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield {"type": "response.content_part.added", **in_part, "part": _part("")}
    for word in words(text):
        yield {"type": "response.output_text.delta", **in_part, "delta": word, "logprobs": []}
    yield {"type": "response.output_text.done", **in_part, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **in_part, "part": _part(text)}
    item = _message(reply, done=True)
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": response(reply)}


# ------------------------------------------------------------------------------------ embeddings


def embedding_of(text: str) -> list[float]:
    """16 numbers from -1 to 1 that float32 holds exactly: a hash, without meaning."""
    digest = hashlib.sha256(text.encode(errors="replace")).digest()[:_DIMENSIONS]
    return [byte / 128 - 1.0 for byte in digest]


def embeddings(model: str, texts: list[str], *, as_base64: bool) -> Json:
    """POST /v1/embeddings."""
    data: list[Json] = []
    for index, text in enumerate(texts):
        vector = embedding_of(text)
        # Little-endian float32, which SDKs request by default and decode.
        packed = base64.b64encode(struct.pack(f"<{_DIMENSIONS}f", *vector)).decode()
        embedding = packed if as_base64 else vector
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    count = sum(len(words(text)) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": model, "usage": usage}
