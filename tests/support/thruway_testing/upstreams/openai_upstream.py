"""An upstream that speaks OpenAI's API over real HTTP, from a thread of its own.

    with OpenAIUpstream(accepted_keys=[CANARY_KEY]) as upstream:
        client = OpenAI(base_url=f"{upstream.url}/v1", api_key=CANARY_KEY)
        client.models.list()
        [request] = upstream.requests

Asking for the model `error-429` (any status) gets that error, in OpenAI's shape, from any endpoint.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import threading
import uuid
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from aiohttp import WSCloseCode, web

from thruway_testing.product.journal import Journal, RecordedRequest
from thruway_testing.upstreams.openai_generation import Generation
from thruway_testing.upstreams.openai_objects import Assistants, Files
from thruway_testing.upstreams.openai_realtime import CLOSE_REASON, WEBSOCKET, Realtime
from thruway_testing.upstreams.openai_responses import Responses
from thruway_testing.upstreams.openai_store import ApiError
from thruway_testing.wire.lockstep import LockStep

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

    from aiohttp.typedefs import Handler

__all__ = ["CANARY_KEY", "NEXT_KEY", "OpenAIUpstream"]

T = TypeVar("T")

CANARY_KEY = "sk-canary-q7Zt0WfJ3mXc9LrVbN5hKd2yGs8PuEaT"
"""The "real" key of the tests. Wherever it shows up but at the upstream, it has leaked."""

NEXT_KEY = f"{CANARY_KEY}-next"
"""What it is rotated to."""

KEY_SUBPROTOCOL = "openai-insecure-api-key."


class OpenAIUpstream:
    """The server. A context manager; or `start()` and `stop()`.

    `accepted_keys`: the Bearer keys that it lets in; None lets in whoever brings any.
    `address`: where it listens; by default on a free port of 127.0.0.1.
    `name`: what the header `x-upstream` of every answer says, to tell upstreams apart.
    """

    def __init__(
        self,
        name: str = "openai",
        *,
        accepted_keys: Collection[str] | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._address = address
        self.name = name
        self.accepted_keys = accepted_keys
        self._journal = Journal()
        self._port: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"upstream-{name}", daemon=True)

    # What tests ask

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        assert self._port is not None, "the upstream is not running"
        return self._port

    @property
    def url(self) -> str:
        """Scheme and authority, without `/v1` and without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request so far, oldest first, those that were refused included."""
        return self._journal.requests

    def requests_with(self, header: str, value: str) -> list[RecordedRequest]:
        """Return the requests that carry exactly this one value of this header."""
        return [request for request in self.requests if request.values(header) == [value]]

    def wait_for_request(self, path_part: str, timeout: float = 5.0) -> RecordedRequest:
        """Return the first request whose path and query contain `path_part`, once it is there."""
        wanted = path_part.encode()

        def find() -> RecordedRequest | None:
            return next((r for r in self.requests if wanted in r.raw_path), None)

        return self.wait_for(find, timeout)

    def wait_for(self, condition: Callable[[], T | None], timeout: float = 5.0) -> T:
        """Return the first true value of `condition`, asked again whenever a request changes.

        Raises TimeoutError after `timeout` seconds.
        """
        return self._journal.wait_for(condition, timeout)

    # Running

    def start(self) -> None:
        """Serve; returns when the port is open."""
        self._thread.start()
        self._ready.wait()
        if self._port is None:
            raise RuntimeError(f"the upstream {self.name} did not start; its thread says why")

    def stop(self) -> None:
        """Close every connection and end the thread."""
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        # handler_cancellation: a handler learns at once, even in silence, that its peer has gone.
        runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, *self._address).start()
            self._port = runner.addresses[0][1]
            self._ready.set()
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._middleware], client_max_size=0)
        app.on_response_prepare.append(self._stamp)
        parts = (Assistants(), Files(), Generation(), Responses(), Realtime(), LockStep())
        for part in parts:
            app.add_routes(part.routes())
        return app

    # What happens to every request

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        recorded = _record_of(request)
        self._journal.record(recorded)
        aborted = True
        try:
            recorded.body = await request.read()
            recorded.body_complete = True
            response = await self._answer(request, handler)
            aborted = False
        finally:
            self._journal.update(lambda: _finish(recorded, request, aborted=aborted))
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_key(request)
            _raise_requested_error(request, await request.read())
            return await handler(request)
        except web.HTTPNotFound:
            return _error(ApiError(404, f"Invalid URL ({request.method} {request.path})"))
        except web.HTTPMethodNotAllowed as refused:
            return _error(ApiError(405, f"Not allowed: {refused.method} {request.path}"))
        except ApiError as error:
            return _error(error)

    async def _stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["x-upstream"] = self.name
        response.headers["x-request-id"] = _request_id(request)
        response.headers["openai-processing-ms"] = "42"
        response.headers["openai-version"] = "2020-10-01"

    def _check_key(self, request: web.Request) -> None:
        key = _key_of(request)
        if not key:
            raise ApiError(401, "You didn't provide an API key.")
        if self.accepted_keys is not None and key not in self.accepted_keys:
            masked = f"{key[:8]}***{key[-4:]}"
            message = f"Incorrect API key provided: {masked}."
            raise ApiError(401, message, code="invalid_api_key")


def _record_of(request: web.Request) -> RecordedRequest:
    return RecordedRequest(
        method=request.method,
        raw_path=request.raw_path.encode("utf-8", "surrogateescape"),
        headers=[
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers
        ],
        subprotocols=_subprotocols(request),
    )


def _finish(recorded: RecordedRequest, request: web.Request, *, aborted: bool) -> None:
    recorded.finished = True
    recorded.aborted = aborted
    socket = request.get(WEBSOCKET)
    if socket is not None:
        recorded.close_code = int(socket.close_code or WSCloseCode.ABNORMAL_CLOSURE)
        recorded.close_reason = request.get(CLOSE_REASON)


def _subprotocols(request: web.Request) -> list[str]:
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
    return [name.strip() for name in offered.split(",") if name.strip()]


def _key_of(request: web.Request) -> str:
    """Return the client's key, from where OpenAI accepts it; browsers have only a subprotocol."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key
    named = [name for name in _subprotocols(request) if name.startswith(KEY_SUBPROTOCOL)]
    return named[0].removeprefix(KEY_SUBPROTOCOL) if named else ""


def _request_id(request: web.Request) -> str:
    """Return an id that follows from X-Client-Request-Id, so that two calls can be compared."""
    named = request.headers.get("X-Client-Request-Id")
    if named is None:
        return f"req_{uuid.uuid4().hex}"
    return f"req_{hashlib.sha256(named.encode()).hexdigest()[:32]}"


_ERRORS: dict[int, dict[str, Any]] = {
    400: {"message": "Invalid value: 'x'.", "code": "invalid_value", "param": "messages[0].role"},
    401: {"message": "Incorrect API key provided: sk-wrong.", "code": "invalid_api_key"},
    404: {"message": "The model `error-404` does not exist.", "code": "model_not_found"},
    429: {
        "message": "Rate limit reached for requests.",
        "type_": "requests",
        "code": "rate_limit_exceeded",
        "headers": {
            "retry-after": "7",
            "retry-after-ms": "7000",
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-remaining-requests": "0",
        },
    },
    500: {"message": "The server had an error.", "type_": "server_error"},
}


def _raise_requested_error(request: web.Request, body: bytes) -> None:
    model = request.match_info.get("id", "")
    if request.content_type == "application/json":
        model = str(_json_field(body, "model") or model)
    if found := re.fullmatch(r"error-([45]\d\d)", model):
        _raise_error(int(found[1]))


def _json_field(body: bytes, name: str) -> object:
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    return parsed.get(name) if isinstance(parsed, dict) else None


def _raise_error(status: int) -> NoReturn:
    raise ApiError(status, **_ERRORS.get(status, {"message": f"Error {status}."}))


def _error(error: ApiError) -> web.Response:
    return web.json_response(error.body, status=error.status, headers=error.headers)


def main() -> None:
    """Serve on port 8080 of all addresses until SIGTERM: `python -m thruway_testing…`, in a pod."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with OpenAIUpstream(accepted_keys=[CANARY_KEY, NEXT_KEY], address=("0.0.0.0", 8080)):
        ended.wait()


if __name__ == "__main__":
    main()
