"""The aiohttp session of an access: its TLS, and its credential, read for each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from thruway_operator.kube.access import Access

__all__ = ["open_session"]


def open_session(access: Access) -> aiohttp.ClientSession:
    """Return a session whose requests carry the access's current credential."""

    async def authorized(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if authorization := access.authorization():
            request.headers["Authorization"] = authorization
        return await handler(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=access.tls, limit=0),
        middlewares=(authorized,),
        trust_env=True,
    )
