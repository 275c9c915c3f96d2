"""Decides which peers may have a stream, and for how long.

Envoy keeps the token with which it opened a stream (observed with 1.40). So a stream is closed
shortly before its token expires; Envoy reconnects within a second with the token then in its file.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from thruway_operator.resources.identity import Identity, Unavailable
from thruway_operator.xds.ratelimit import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import NoReturn

    from envoy.service.discovery.v3 import discovery_pb2

__all__ = ["FIRST_REQUEST", "REVIEW", "Admission", "Authenticate", "Context"]

Context = grpc.aio.ServicerContext[Any, Any]
Authenticate = Callable[[Context], Awaitable[Identity | None]]
"""Takes a stream's context and returns the peer's identity, or None if peers need no identity.

PermissionError rejects the peer; Unavailable asks it to try again. The peer receives the message.
"""

REVIEW: Final = 60.0
"""Seconds after which an open stream's token is reviewed again."""
FIRST_REQUEST: Final = 5.0
"""Seconds within which a peer must send its first request."""
_STREAMS_OF_A_POD: Final = 8
"""Streams allowed per pod. An Envoy has one, and for some seconds a dead one beside it."""
_HASTE: Final = 2.0
"""A token that expires within this many seconds is used until it expires."""


class Admission:
    """Admits streams, and decides when they must end."""

    def __init__(
        self, authenticate: Authenticate, review_every: float, first_within: float
    ) -> None:
        self._authenticate = authenticate
        self._review_every = review_every
        self._first_within = first_within
        self._streams: dict[str, int] = {}
        self._log = RateLimitedLog("thruway.xds")

    async def identify(self, context: Context) -> Identity | None:
        """Return the peer's identity; abort the stream if it cannot be determined.

        It reads only the stream's metadata, never a request of an unauthenticated peer.
        """
        try:
            identity = await self._authenticate(context)
        except PermissionError as error:
            await self.refuse(context, grpc.StatusCode.UNAUTHENTICATED, str(error))
        except Unavailable as error:
            await self.refuse(context, grpc.StatusCode.UNAVAILABLE, str(error))
        return identity

    async def first_request(
        self, context: Context, requests: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest]
    ) -> discovery_pb2.DeltaDiscoveryRequest | None:
        """Return a stream's first request, or None if the peer closed it; abort it on a timeout."""
        try:
            async with asyncio.timeout(self._first_within):
                return await anext(aiter(requests), None)
        except TimeoutError:
            why = f"no request arrived within {self._first_within:g} s"
            await self.refuse(context, grpc.StatusCode.DEADLINE_EXCEEDED, why)

    @asynccontextmanager
    async def counted(self, context: Context, identity: Identity | None) -> AsyncIterator[None]:
        """Count a pod's stream while the context lasts; abort it if the pod has too many."""
        pod = identity.pod_uid if identity else ""
        streams = self._streams.get(pod, 0)
        if identity and streams >= _STREAMS_OF_A_POD:
            why = f"pod {identity.node_id} already has {streams} streams"
            await self.refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, why)
        self._streams[pod] = streams + 1
        try:
            yield
        finally:
            self._streams[pod] -= 1
            if not self._streams[pod]:
                del self._streams[pod]

    async def refuse(self, context: Context, code: grpc.StatusCode, why: str) -> NoReturn:
        """Abort a stream and log it."""
        self._log.warning("rejected a stream from %s: %s", context.peer(), why)
        await context.abort(code, why)

    async def outlived(self, context: Context, identity: Identity | None) -> str:
        """Wait until a stream must end; return the reason. A stream without identity never must.

        A stream goes on if its token cannot be reviewed because the API server is unavailable. It
        ends when the token expires, even then: the proxy loses nothing, because without an API
        server the configuration does not change.
        """
        if identity is None:
            await asyncio.Event().wait()
        until = _leave_at(identity.expires if identity else None, time.time())
        while True:
            pause = self._review_every * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
            left = until - time.time()
            await asyncio.sleep(min(pause, max(left, 0.0)))
            if left <= pause:
                return "the token is about to expire: reconnect with a new one"
            try:
                await self._authenticate(context)
            except PermissionError as error:
                return str(error)
            except Unavailable:
                continue


def _leave_at(expires: float | None, now: float) -> float:
    """Return when a stream must end, in the clock of `now`.

    kubelet replaces a token at 80 % of its lifetime (Kubernetes: "Service account token volume
    projection"), so a new token exists in the last 1 to 6 %. The time is random, because the tokens
    of proxies that started together expire together.
    """
    if expires is None:
        return float("inf")
    left = expires - now
    return expires if left < _HASTE else expires - left * random.uniform(0.01, 0.06)  # noqa: S311
