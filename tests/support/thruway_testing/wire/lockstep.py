"""Endpoints that move only when the peer has confirmed the last move, and one that never ends.

Not OpenAI's. They show what a proxy does to a stream in time: one that holds back even a single
event until more has come never reaches the end of a lock step.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

from aiohttp import web

from thruway_testing.upstreams.openai_realtime import accept_websocket, messages_in
from thruway_testing.upstreams.openai_store import ApiError, json_body

__all__ = ["LockStep"]


class LockStep:
    """`/v1/lockstep/{id}`: event n+1 goes out only after event n was confirmed.

    - `GET /v1/lockstep/{id}?events=5`: server-sent events `{"n": 0}`, `{"n": 1}`…; each waits for
      `POST /v1/lockstep/{id}/ack` with `{"n": 0}`… An answer to that POST says only that it came.
    - `GET /v1/lockstep/{id}/ws?events=5`: the same in text messages, confirmed by `{"ack": 0}`…;
      then the upstream closes with 1000 and `done`, or with 4400 at a wrong confirmation.
    - `GET /v1/forever/{id}`: an event every 10 ms until the peer is gone; `?silent=1`: one event,
      then silence. The request's record says when the peer has gone (`aborted`).
    """

    def __init__(self) -> None:
        self._acks: dict[str, asyncio.Queue[int]] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of these endpoints."""
        return [
            web.get("/v1/lockstep/{id}", self._stream),
            web.post("/v1/lockstep/{id}/ack", self._ack),
            web.get("/v1/lockstep/{id}/ws", _converse),
            web.get("/v1/forever/{id}", _stream_forever),
        ]

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        acks = self._acks[request.match_info["id"]] = asyncio.Queue()
        response = await _start_sse(request)
        for n in range(int(request.query["events"])):
            await response.write(_event(n))
            while await acks.get() != n:
                pass
        await response.write_eof()
        return response

    async def _ack(self, request: web.Request) -> web.Response:
        acks = self._acks.get(request.match_info["id"])
        if acks is None:
            raise ApiError(404, "There is no such lock step.")
        acks.put_nowait((await json_body(request))["n"])
        return web.json_response({"confirmed": True})


def _event(n: int) -> bytes:
    return f"data: {json.dumps({'n': n})}\n\n".encode()


async def _start_sse(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def _converse(request: web.Request) -> web.WebSocketResponse:
    socket = await accept_websocket(request)
    async with aclosing(messages_in(request, socket)) as messages:
        for n in range(int(request.query["events"])):
            await socket.send_json({"n": n})
            data = await anext(messages, None)
            if data is None:
                return socket
            if json.loads(data) != {"ack": n}:
                await socket.close(code=4400, message=b"wrong confirmation")
                return socket
    await socket.close(message=b"done")
    return socket


async def _stream_forever(request: web.Request) -> web.StreamResponse:
    response = await _start_sse(request)
    n = 0
    while True:
        await response.write(_event(n))
        n += 1
        if "silent" in request.query:
            await asyncio.Event().wait()
        await asyncio.sleep(0.01)
