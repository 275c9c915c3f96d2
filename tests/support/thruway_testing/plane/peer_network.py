"""gRPC between replicas of the operator, in the test's event loop: no sockets, no threads.

So it follows a fake clock, and a replica may be silent, refuse, or send whatever the test wants.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

__all__ = ["PeerNetwork", "Stream", "heartbeat", "refuses", "sends", "silent"]

Stream: TypeAlias = "Callable[[], AsyncIterator[bytes]]"


class PeerNetwork:
    """The replicas by address. One that is not among them cannot be reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replicas: dict[str, Stream] = {}
        self.calls: list[str] = []
        """The addresses of all calls, oldest first."""
        self.dead: set[str] = set()
        """The addresses from which nothing arrives any more, as after a power failure."""
        self.tokens: set[str] = set()
        """The credentials that were presented."""
        monkeypatch.setattr("grpc.aio.secure_channel", self._channel)

    def _channel(self, address: str, *_: object) -> _Channel:
        return _Channel(self, address)

    def open(self, address: str) -> AsyncIterator[bytes]:
        """Return the messages of a new call."""
        self.calls.append(address)
        return self.replicas.get(address, refuses(grpc.StatusCode.UNAVAILABLE))()


def sends(*messages: bytes, then: Stream | None = None) -> Stream:
    """Send these messages, then end the stream, or go on like `then`."""

    async def stream() -> AsyncIterator[bytes]:
        for message in messages:
            yield message
        if then:
            async for message in then():
                yield message

    return stream


async def silent() -> AsyncIterator[bytes]:
    """Accept the call, and send nothing."""
    await asyncio.Event().wait()
    yield b""


async def heartbeat() -> AsyncIterator[bytes]:
    """Send an empty message each second."""
    while True:
        yield b""
        await asyncio.sleep(1)


def refuses(code: grpc.StatusCode) -> Stream:
    """End the call with an error."""

    async def stream() -> AsyncIterator[bytes]:
        nothing = grpc.aio.Metadata()
        for error in [grpc.aio.AioRpcError(code, nothing, nothing, "made up\nsecond line")]:
            raise error
        yield b""

    return stream


class _Channel:
    """As much of a grpc.aio channel as replicas use."""

    def __init__(self, network: PeerNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self._messages: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._messages is not None:
            await self._messages.aclose()

    def unary_stream(self, method: str) -> Callable[..., Self]:
        assert method == "/thruway.operator.v1.Tallies/Watch"
        return self._call

    def _call(self, request: bytes, *, metadata: tuple[tuple[str, str], ...]) -> Self:
        assert request == b""
        self._network.tokens.add(dict(metadata)["authorization"])
        self._messages = self._network.open(self._address)
        return self

    async def read(self) -> Any:
        try:
            message = await anext(self._messages)
        except StopAsyncIteration:
            message = grpc.aio.EOF
        if self._address in self._network.dead:
            await asyncio.Event().wait()
        return message

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK
