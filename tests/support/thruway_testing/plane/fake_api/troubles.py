"""What may go wrong with a request to a fake API server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from thruway_testing.plane.fake_api.server import Seen

__all__ = [
    "Response",
    "Trouble",
    "cut",
    "event",
    "failures",
    "hang",
    "raw",
    "refusal",
    "status",
    "then_cut",
]

Response: TypeAlias = "Callable[[web.Request], Awaitable[web.StreamResponse]]"

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


@dataclass(slots=True)
class Trouble:
    """One kind of failure, for the requests that `concerns` chooses, until it `end`s."""

    concerns: Callable[[Seen], bool]
    respond: Response
    left: int | None
    """How many requests it still affects; None: all."""
    met: int = 0
    """How many requests it has affected."""

    def takes(self, seen: Seen) -> bool:
        """Whether it affects this request, which then counts."""
        if self.left == 0 or not self.concerns(seen):
            return False
        self.met += 1
        if self.left is not None:
            self.left -= 1
        return True

    def end(self) -> None:
        """Affect no more requests."""
        self.left = 0


def status(code: int, message: str = "") -> web.Response:
    """Return the API server's Status object as a response."""
    reason = _REASONS.get(code, "Unknown")
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message or f"made up: {reason}",
    }
    headers = {"Retry-After": "1"} if code == 429 else None
    return web.json_response(body, status=code, headers=headers)


def refusal(code: int, message: str = "") -> Response:
    """Respond with a status."""

    async def respond(_: web.Request) -> web.StreamResponse:
        return status(code, message)

    return respond


def raw(body: bytes, code: int = 200) -> Response:
    """Respond with these bytes."""

    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=code, content_type="application/json")

    return respond


def then_cut(body: bytes) -> Response:
    """Send these bytes as the start of a response, then close the connection."""

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(body)
        _close(request)
        return response

    return respond


async def hang(_: web.Request) -> web.StreamResponse:
    """Never respond."""
    await asyncio.Event().wait()
    raise AssertionError


async def cut(request: web.Request) -> web.StreamResponse:
    """Close the connection without a response."""
    _close(request)
    return web.Response()


def failures(*names: str) -> dict[str, Response]:
    """Return failures by name: a status such as "403", or `cut`, `garbage`, `hang`."""
    others = {"cut": cut, "garbage": raw(b"<html>"), "hang": hang}
    return {name: refusal(int(name)) if name.isdigit() else others[name] for name in names}


def event(kind: str, item: object) -> bytes:
    """Return one line of a watch."""
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def _close(request: web.Request) -> None:
    if request.transport:
        request.transport.close()
