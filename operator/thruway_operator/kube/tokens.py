"""Whose a ServiceAccount token is: the API server's TokenReview says it, sparingly asked.

The operator needs the right to `create` `tokenreviews` of `authentication.k8s.io`.
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
"""What a projected token has to be meant for."""

_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_WITHIN: Final = 4.0
_QUICK: Final = 0.5
_FRESH: Final = 5.0
_CACHED: Final = 8_192
_AT_ONCE: Final = 16
_WAITING: Final = 4_096
_AWAY: Final = 0.5


class TokenReviewer:
    """Asks the API server whose a token is.

    A thousand proxies that come back at once must not become a storm: what was found holds for
    `fresh` seconds, a few reviews run at once while others wait, and after the API server gave no
    answer nobody asks it for half a second. Tokens are remembered by their hashes alone.
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
        """Return who a gRPC peer is, by the token in its metadata.

        Raises:
            PermissionError: it has no token, or one that is not good for this.
            Unavailable: the API server cannot be asked.
        """
        token = bearer_token(context)
        try:
            return await self.review(token)
        except KubeError as error:
            # A stranger is not told about the API server; the log is.
            raise Unavailable("tokens cannot be checked at the moment: try again") from error

    async def review(self, token: str) -> Identity:
        """Return whose a token is.

        Raises:
            PermissionError: it is not good for this; the message says why, and holds nothing of it.
            KubeError: the API server cannot be asked.
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
        self._known.pop(digest, None)  # the oldest stay first
        if len(self._known) >= _CACHED:
            del self._known[next(iter(self._known))]
        self._known[digest] = time.monotonic() + self._fresh, identity

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= _WAITING:
            raise Unreachable("too many tokens wait to be checked")
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
        # That was a connection, mostly, which the API server had closed while it was idle.
        return await self._client.request("POST", _PATH, body=body, within=_WITHIN)


def bearer_token(context: Context) -> str:
    """Return the token that a gRPC peer presents; PermissionError if there is not just one."""
    found = [v for k, v in context.invocation_metadata() or () if k == "authorization"]
    scheme, _, token = str(found[0]).partition(" ") if len(found) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise PermissionError("no token: `authorization: Bearer <token>` is required")
    return token.strip()
