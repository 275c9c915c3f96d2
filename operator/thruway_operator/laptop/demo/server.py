"""The demonstration upstream, for users without a key: it responds in OpenAI's formats.

It runs in this process and listens on a free loopback port while the `with` lasts. It never calls
another server and never repeats a header, so a key that a client sends by mistake stays here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from thruway_operator.laptop.demo import shapes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

__all__ = ["demo_app", "demo_upstream"]

_WORD_DELAY = 0.03  # seconds between two words of a stream: visible, but not slow
_BODY_LIMIT = 32 * 1024 * 1024  # bytes
_KNOWN = "GET /v1/models, POST /v1/chat/completions, POST /v1/responses and POST /v1/embeddings"


class _BadRequestError(Exception):
    def __init__(self, message: str, param: str | None = None, code: str = "invalid_json") -> None:
        super().__init__(message)
        self.param, self.code = param, code


class _Demo:
    def __init__(self, word_delay: float, clock: Callable[[], float]) -> None:
        self._word_delay = word_delay
        self._clock = clock
        self._numbers = itertools.count(1)

    async def models(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(shapes.model_list())

    async def model(self, request: web.Request) -> web.StreamResponse:
        ident = request.match_info["model"]
        if ident not in shapes.MODELS:
            message = f"The model '{ident}' does not exist here."
            return _error(404, message, param="model", code="model_not_found")
        return web.json_response(shapes.model_body(ident))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        messages = _required(body, "messages", list)
        reply = self._reply(body, messages)
        if body.get("stream") is not True:
            return web.json_response(shapes.chat_completion(reply))
        options = body.get("stream_options")
        usage = isinstance(options, dict) and options.get("include_usage") is True
        chunks = shapes.chat_chunks(reply, include_usage=usage)
        frames = (f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
        return await self._stream(request, itertools.chain(frames, ["data: [DONE]\n\n"]))

    async def responses(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        reply = self._reply(body, _required(body, "input", str, list))
        if body.get("stream") is not True:
            return web.json_response(shapes.response(reply))
        events = shapes.response_events(reply)
        frames = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        return await self._stream(request, frames)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        given = _required(body, "input", str, list)
        one = isinstance(given, str) or all(isinstance(item, int) for item in given)  # tokens
        texts = [str(given)] if one else [str(item) for item in given]
        model, as_base64 = _model(body), body.get("encoding_format") == "base64"
        return web.json_response(shapes.embeddings(model, texts, as_base64=as_base64))

    def _reply(self, body: dict[str, Any], messages: object) -> shapes.Reply:
        said = shapes.last_user_text(messages)
        ident = f"demo{next(self._numbers):08d}"
        text, count = shapes.answer_text(said), len(shapes.words(said))
        return shapes.Reply(ident, _model(body), text, count, int(self._clock()))

    async def _stream(self, request: web.Request, frames: Iterable[str]) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        # A client that disconnects in mid-stream is not an error.
        with contextlib.suppress(ConnectionResetError):
            *words, last = frames
            for frame in words:
                await answer.write(frame.encode())
                await asyncio.sleep(self._word_delay)
            # Send it together with the body's end: SDKs disconnect after the last event.
            await answer.write_eof(last.encode())
        return answer


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise _BadRequestError("The body of your request is not valid JSON.") from None
    if not isinstance(body, dict):
        raise _BadRequestError("The body of your request must be a JSON object.")
    return body


def _required(
    body: dict[str, Any], name: str, *kinds: type[str] | type[list[Any]]
) -> str | list[Any]:
    value = body.get(name)
    if not isinstance(value, kinds) or not value:
        message = f"Missing or invalid parameter: '{name}'."
        raise _BadRequestError(message, name, "missing_required_parameter")
    return value


def _model(body: dict[str, Any]) -> str:
    return str(_required(body, "model", str))


def _error(status: int, message: str, *, param: str | None = None, code: str) -> web.Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = shapes.error_body(message, kind, param=param, code=code)
    return web.json_response(body, status=status)


async def _unknown(request: web.Request) -> web.StreamResponse:
    message = f"The demonstration upstream of Thruway knows only {_KNOWN}, not this."
    return _error(404, message, code="unknown_url")


@web.middleware
async def _in_shape(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Convert every error to OpenAI's format, including aiohttp's own."""
    try:
        return await handler(request)
    except _BadRequestError as error:
        return _error(400, str(error), param=error.param, code=error.code)
    except web.HTTPException as error:
        return _error(error.status, f"{error.reason}.", code="demonstration_error")


def demo_app(
    *, word_delay: float = _WORD_DELAY, clock: Callable[[], float] = time.time
) -> web.Application:
    """Return the application; `word_delay` in seconds, `clock` in Unix seconds."""
    demo = _Demo(word_delay, clock)
    app = web.Application(middlewares=[_in_shape], client_max_size=_BODY_LIMIT)
    app.router.add_get("/v1/models", demo.models)
    app.router.add_get("/v1/models/{model}", demo.model)
    app.router.add_post("/v1/chat/completions", demo.chat)
    app.router.add_post("/v1/responses", demo.responses)
    app.router.add_post("/v1/embeddings", demo.embeddings)
    app.router.add_route("*", "/{rest:.*}", _unknown)
    return app


@contextlib.asynccontextmanager
async def demo_upstream(*, word_delay: float = _WORD_DELAY) -> AsyncIterator[str]:
    """Run the demonstration on a free port of 127.0.0.1; yield `http://127.0.0.1:PORT`.

    At the end, streams in progress are cut. Raises OSError if no port is available.
    """
    runner = web.AppRunner(demo_app(word_delay=word_delay), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
