"""Requests to the API server. Every failure is an exception whose text is one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import TracebackType

    from thruway_operator.kube.access import Access

__all__ = ["ApiError", "KubeClient", "KubeError", "Unreachable"]

_REQUEST_TIMEOUT: Final = 15.0
"""Seconds for a request and its response; watches have no such limit."""

_CONNECT_TIMEOUT: Final = 2.0


class KubeError(Exception):
    """A request failed; the message is a sentence without a final full stop."""


class Unreachable(KubeError):  # noqa: N818 - describes the API server
    """No response arrived; the request may be retried."""


class ApiError(KubeError):
    """The API server rejected a request.

    `status` is the HTTP status. `reason` (`NotFound`, `Forbidden`, …) and `details` come from the
    Status object.
    """

    def __init__(
        self, status: int, reason: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.details = details or {}


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    params: Mapping[str, str] | None
    headers: dict[str, str]
    data: str | None
    timeout: aiohttp.ClientTimeout


class KubeClient:
    """One API server, over one pool of connections. Used within one event loop."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        within: float = _REQUEST_TIMEOUT,
    ) -> dict[str, Any]:
        """Return the object in the response to one request; `within` is the time limit in seconds.

        Raises:
            ApiError: the request was rejected.
            Unreachable: no complete response arrived.
        """
        call = _Call(
            method,
            path,
            params,
            {"Accept": accept},
            None if body is None else json.dumps(body),
            aiohttp.ClientTimeout(total=within, sock_connect=_CONNECT_TIMEOUT),
        )
        if body is not None:
            call.headers["Content-Type"] = content_type
        async with self._sending(call) as response:
            return self._read(await response.read())

    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """Return an object or a list; raises as `request` does."""
        return await self.request("GET", path, params=params, accept=accept)

    async def text(self, path: str, *, within: float = _REQUEST_TIMEOUT) -> tuple[int, str]:
        """Return the status and body of a response through one of the API server's proxies.

        Raises:
            ApiError: the API server itself rejected the request.
            Unreachable: no complete response arrived.
        """
        timeout = aiohttp.ClientTimeout(total=within, sock_connect=_CONNECT_TIMEOUT)
        call = _Call("GET", path, None, {"Accept": "*/*"}, None, timeout)
        async with self._sending(call, refused=_is_status) as response:
            return response.status, (await response.read()).decode(errors="replace")

    @contextlib.asynccontextmanager
    async def lines(
        self, path: str, *, params: Mapping[str, str], accept: str, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the lines of an endless response; raise Unreachable after `silence` seconds."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=silence
        )
        call = _Call("GET", path, params, {"Accept": accept}, None, timeout)
        async with self._sending(call) as response:
            yield _lines(response)

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body) if body.strip() else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):  # from a load balancer or a proxy before the API server
            server = self.access.server
            raise Unreachable(f"the response of the API server at {server} cannot be read")
        return found

    @contextlib.asynccontextmanager
    async def _sending(
        self, call: _Call, *, refused: Callable[[bytes], bool] = lambda _: True
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the response; status 300 or above raises ApiError if `refused` returns true."""
        access = self.access
        if authorization := access.authorization():
            call.headers["Authorization"] = authorization
        try:
            async with self._pool().request(
                call.method,
                access.server + call.path,
                params=call.params,
                headers=call.headers,
                data=call.data,
                timeout=call.timeout,
                allow_redirects=False,
                server_hostname=access.server_name,
            ) as response:
                if response.status >= 300 and refused(await response.read()):
                    raise _refusal(response.status, await response.read())
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = "did not respond in time" if isinstance(error, TimeoutError) else _why(error)
            raise Unreachable(f"the API server at {access.server} {what}") from error

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self.access.tls, limit=64)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=True)
        return self._session


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield lines of any length; aiohttp's own iterator rejects lines above 128 KiB.

    Raises:
        Unreachable: the last line is unfinished, as when something else responds instead.
    """
    rest = bytearray()
    async for data in response.content.iter_any():
        rest += data
        if b"\n" not in data:
            continue
        *whole, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in whole:
            if line:
                yield line
        await asyncio.sleep(0)  # a flood of events must not starve the rest of the program
    if rest.strip():
        raise Unreachable("the API server's response to a watch breaks off")


def _why(error: Exception) -> str:
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(cause, TimeoutError):
        text = "no response in time"
    elif isinstance(cause, socket.gaierror):
        text = cause.strerror or str(cause)
    elif isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
        text = os.strerror(cause.errno)  # asyncio's own text is always "Connect call failed"
    else:
        text = (str(cause).splitlines() or [""])[0] or type(error).__name__
    return f"cannot be reached: {text}"


def _is_status(body: bytes) -> bool:
    """Whether the response comes from the API server itself, not from a server behind its proxy."""
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("kind") == "Status"


def _refusal(status: int, body: bytes) -> ApiError:
    try:
        said = json.loads(body)
        reason, message = str(said.get("reason", "")), str(said.get("message", ""))
        details = said.get("details")
    except (ValueError, AttributeError):
        reason, message, details = "", "", None
    message = message or f"the API server responded with {status}"
    return ApiError(status, reason, message, details if isinstance(details, dict) else None)
