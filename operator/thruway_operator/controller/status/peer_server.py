"""The server side of `peers`: reports to other replicas what our proxies hold, as it changes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import grpc

from thruway_operator.controller.status.peers import METHOD, SERVICE
from thruway_operator.controller.status.tally import encode
from thruway_operator.resources.identity import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from thruway_operator.controller.status.tally import GroupTally
    from thruway_operator.xds.server import Authenticate

__all__ = ["PeerServer"]

_HEARTBEAT: Final = 1.0


class PeerServer:
    """Serves the tally only to replicas with the same namespace and ServiceAccount."""

    def __init__(
        self,
        authenticate: Authenticate,
        namespace: str,
        service_account: str,
        tallies: Mapping[str, GroupTally],
    ) -> None:
        self._authenticate = authenticate
        self._allowed = (namespace, service_account)
        self._tallies = tallies
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """Wake the streams after a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler for a gRPC server."""
        method: Any = grpc.unary_stream_rpc_method_handler(self._watch)
        return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})

    async def _watch(
        self, _: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        try:
            identity = await self._authenticate(context)
        except PermissionError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except Unavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        if identity is None or (identity.namespace, identity.service_account) != self._allowed:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "only replicas of the operator may read tallies"
            )
        told: dict[str, GroupTally] = {}
        while True:
            # Set both before sending: a change during the send is reported next.
            changed, now = self._changed, dict(self._tallies)
            if now != told or not told:
                yield encode(told, now)
                told = now
            else:
                yield b""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT):
                    await changed.wait()
