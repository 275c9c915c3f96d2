"""Finds the owner of a ServiceAccount token by the API server's TokenReview, with few requests.

The operator needs permission to `create` `tokenreviews` of `authentication.k8s.io`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.kube.claims import expiry, identity_of
from thruway_operator.kube.client import KubeError, Unreachable
from thruway_operator.resources.identity import Identity, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from thruway_operator.kube.client import KubeClient
    from thruway_operator.xds.admission import Context

__all__ = ["AUDIENCE", "TokenReviewer", "bearer_token"]

_log = logging.getLogger("thruway.kube")

AUDIENCE: Final = "thruway-xds"
"""The audience that a projected token must have."""

_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_WITHIN: Final = 4.0
_QUICK: Final = 0.5
_FRESH: Final = 5.0
_CACHED: Final = 8_192
_AT_ONCE: Final = 16
_WAITING: Final = 4_096
_AWAY: Final = 0.5


class TokenReviewer:
    """Asks the API server for the owner of a token.

    A thousand proxies that reconnect at the same time must not overload the API server. So a result
    is valid for `fresh` seconds, only a few reviews run concurrently, and after a review without a
    response none is sent for half a second. Only the hashes of tokens are remembered.
    """

    def __init__(
        self, client: KubeClient, audience: str = AUDIENCE, *, fresh: float = _FRESH
    ) -> None:
        self._client = client
        self._audience = audience
        self._fresh = fresh
        self._known: dict[bytes, tuple[float, Identity]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._trouble = ""
        self._away_until = 0.0

    async def authenticate(self, context: Context) -> Identity:
        """Return the identity of a gRPC peer, based on the token in its metadata.

        Raises:
            PermissionError: it has no token, or one that is not accepted.
            Unavailable: the API server cannot be reached.
        """
        token = bearer_token(context)
        try:
            return await self.review(token)
        except KubeError as error:
            # The peer is not authenticated: details about the API server go only to the log.
            raise Unavailable("tokens cannot be checked at the moment: try again") from error

    async def review(self, token: str) -> Identity:
        """Return the owner of a token.

        Raises:
            PermissionError: it is not accepted; the message says why, without quoting the token.
            KubeError: the API server cannot be reached.
        """
        expires = expiry(token, self._audience, time.time())
        digest = hashlib.sha256(token.encode()).digest()
        identity = self._recall(digest)
        if identity is None:
            async with self._slot():
                identity = self._recall(digest)
                if identity is None:
                    identity = identity_of(await self._ask(token), self._audience, expires)
                    self._remember(digest, identity)
        return identity

    def _recall(self, digest: bytes) -> Identity | None:
        until, identity = self._known.get(digest, (0.0, None))
        return identity if time.monotonic() < until else None

    def _remember(self, digest: bytes, identity: Identity) -> None:
        self._known.pop(digest, None)  # keep the oldest first
        if len(self._known) >= _CACHED:
            del self._known[next(iter(self._known))]
        self._known[digest] = time.monotonic() + self._fresh, identity

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= _WAITING:
            raise Unreachable("too many tokens are waiting to be checked")
        self._waiting += 1
        try:
            async with self._slots:
                yield
        finally:
            self._waiting -= 1

    async def _ask(self, token: str) -> dict[str, Any]:
        if time.monotonic() < self._away_until:
            raise Unreachable(self._trouble)
        try:
            review = await self._post(token)
        except KubeError as error:
            if not self._trouble:
                _log.warning("tokens of proxies cannot be checked: %s", error)
            self._trouble = str(error)
            self._away_until = time.monotonic() + _AWAY
            raise
        if self._trouble:
            _log.info("tokens of proxies can be checked again")
            self._trouble = ""
        return review

    async def _post(self, token: str) -> dict[str, Any]:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        started = time.monotonic()
        try:
            return await self._client.request("POST", _PATH, body=body, within=_WITHIN)
        except Unreachable:
            if time.monotonic() - started > _QUICK:
                raise
        # The usual cause is an idle connection that the API server had closed.
        return await self._client.request("POST", _PATH, body=body, within=_WITHIN)


def bearer_token(context: Context) -> str:
    """Return the token that a gRPC peer presents; raise PermissionError unless there is one."""
    found = [v for k, v in context.invocation_metadata() or () if k == "authorization"]
    scheme, _, token = str(found[0]).partition(" ") if len(found) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise PermissionError("no token: `authorization: Bearer <token>` is required")
    return token.strip()
