"""Who may have a stream, and for how long.

Envoy holds on to the token that a stream began with (seen with 1.40), so a stream is ended shortly
before its token expires; Envoy is back within a second, with what is in its file by then.
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
from thruway_operator.xds.sparing import SparingLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import NoReturn

    from envoy.service.discovery.v3 import discovery_pb2

__all__ = ["FIRST_REQUEST", "REVIEW", "Admission", "Authenticate", "Context"]

Context = grpc.aio.ServicerContext[Any, Any]
Authenticate = Callable[[Context], Awaitable[Identity | None]]
"""Takes a stream's context, returns the peer's identity; None: peers need none.

PermissionError turns it away, Unavailable bids it come back. Both end in what the peer is told.
"""

REVIEW: Final = 60.0
"""Seconds after which a live stream's token is looked at again."""
FIRST_REQUEST: Final = 5.0
"""Seconds that a peer has for its first request."""
_STREAMS_OF_A_POD: Final = 8
"""An Envoy has one, and for some seconds a dead one beside it."""
_HASTE: Final = 2.0
"""A token that lives for less seconds than this is used to its end."""


class Admission:
    """Lets streams in, and says when they have to go."""

    def __init__(
        self, authenticate: Authenticate, review_every: float, first_within: float
    ) -> None:
        self._authenticate = authenticate
        self._review_every = review_every
        self._first_within = first_within
        self._streams: dict[str, int] = {}
        self._log = SparingLog("thruway.xds")

    async def identify(self, context: Context) -> Identity | None:
        """Return who the peer is; abort the stream if that cannot be told.

        It looks at the stream's metadata alone: of strangers not a single request is read.
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
        """Return a stream's first request, None if there is none; abort it if none comes."""
        try:
            async with asyncio.timeout(self._first_within):
                return await anext(aiter(requests), None)
        except TimeoutError:
            why = f"no request came within {self._first_within:g} s"
            await self.refuse(context, grpc.StatusCode.DEADLINE_EXCEEDED, why)

    @asynccontextmanager
    async def counted(self, context: Context, identity: Identity | None) -> AsyncIterator[None]:
        """Count a pod's stream while the context lasts; abort it if the pod has too many."""
        pod = identity.pod_uid if identity else ""
        streams = self._streams.get(pod, 0)
        if identity and streams >= _STREAMS_OF_A_POD:
            why = f"pod {identity.node_id} has {streams} streams already"
            await self.refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, why)
        self._streams[pod] = streams + 1
        try:
            yield
        finally:
            self._streams[pod] -= 1
            if not self._streams[pod]:
                del self._streams[pod]

    async def refuse(self, context: Context, code: grpc.StatusCode, why: str) -> NoReturn:
        """Abort a stream, and log that."""
        self._log.warning("refused a stream of %s: %s", context.peer(), why)
        await context.abort(code, why)

    async def outlived(self, context: Context, identity: Identity | None) -> str:
        """Wait until a stream has to end; return why. A stream of nobody never has to.

        That a token cannot be looked at, because the API server is away, is no reason. That it
        expires then is one: the proxy loses nothing, for without an API server there is no news.
        """
        if identity is None:
            await asyncio.Event().wait()
        until = _leave_at(identity.expires if identity else None, time.time())
        while True:
            pause = self._review_every * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
            left = until - time.time()
            await asyncio.sleep(min(pause, max(left, 0.0)))
            if left <= pause:
                return "the token is about to expire: come back with the next one"
            try:
                await self._authenticate(context)
            except PermissionError as error:
                return str(error)
            except Unavailable:
                continue


def _leave_at(expires: float | None, now: float) -> float:
    """Return when a stream has to end, in the clock of `now`.

    kubelet replaces a token at 80 % of its life (Kubernetes: "Service account token volume
    projection"), so the last 1 to 6 % find a new one; spread, as proxies that were started together
    have tokens that expire together.
    """
    if expires is None:
        return float("inf")
    left = expires - now
    return expires if left < _HASTE else expires - left * random.uniform(0.01, 0.06)  # noqa: S311
