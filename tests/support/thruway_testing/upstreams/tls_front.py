"""TLS in front of a plain upstream, with certificates made on the spot.

authority = trustme.CA()
with TlsFront(upstream.port, server_context(authority, "api.corp.test")) as front:
    ...  # https://api.corp.test leads to front.port
    [handshake] = front.handshakes
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    import trustme

__all__ = ["Handshake", "TlsFront", "server_context", "speak_only"]


@dataclass(frozen=True)
class Handshake:
    """What was agreed on one connection."""

    version: str | None
    alpn: str | None
    server_name: str | None
    client: str | None = None
    """The serial number of the client's certificate, in hexadecimal."""


def server_context(
    authority: trustme.CA,
    *names: str,
    alpn: Sequence[str] = ("http/1.1",),
    only: str = "",
    clients: trustme.CA | None = None,
) -> ssl.SSLContext:
    """Return the server's side, with a certificate for these names and IP addresses.

    `only`: the one version that it speaks, such as `TLSv1_1`. `clients`: the CA of the
    certificates that clients have to show.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(list(alpn))
    if clients:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    if only:
        speak_only(context, only)
    return context


def speak_only(context: ssl.SSLContext, version: str) -> None:
    """Restrict a context to one version of TLS, also to one that OpenSSL has given up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]


class TlsFront:
    """The server. A context manager; what arrives goes to `backend` on 127.0.0.1."""

    def __init__(
        self, backend: int, context: ssl.SSLContext, *, address: str = "127.0.0.1"
    ) -> None:
        self._backend = backend
        self._context = context
        self._address = address
        self.handshakes: list[Handshake] = []
        self._port: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tls-front", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._port is not None, "it is not running"
        return self._port

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._port is None:
            raise RuntimeError("it did not start; its thread says why")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._accepted, self._address, 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # One that is cancelled before its first step closes nothing by itself.
        task.add_done_callback(lambda _: writer.close())

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near = _Tls(self._context, reader, writer)
        with contextlib.suppress(OSError):  # of which ssl.SSLError is one
            try:
                self.handshakes.append(await near.shake_hands())
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._backend)
                try:
                    await _relay(near, far_reader, far_writer)
                finally:
                    far_writer.close()
            finally:
                writer.close()


class _Tls:
    """A server's TLS over a plain stream; unlike asyncio's own it sends the alert of a refusal."""

    def __init__(
        self,
        context: ssl.SSLContext,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._name: str | None = None
        context.sni_callback = self._named
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._reader, self._writer = reader, writer

    def _named(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self._name = name

    async def shake_hands(self) -> Handshake:
        """Return what was agreed on; raises ssl.SSLError if nothing was."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._more():
                    raise ConnectionError("the client left") from None
            else:
                await self._flush()
                shown = self._tls.getpeercert() or {}
                return Handshake(
                    self._tls.version(),
                    self._tls.selected_alpn_protocol(),
                    self._name,
                    str(shown["serialNumber"]) if shown else None,
                )
            finally:
                await self._flush()

    async def read(self) -> bytes:
        """Return some bytes, or none at the end."""
        while True:
            try:
                return self._tls.read(64 * 1024)
            except ssl.SSLWantReadError:
                if not await self._more():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        self._tls.write(data)
        await self._flush()

    async def end(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _more(self) -> bool:
        data = await self._reader.read(64 * 1024)
        self._in.write(data)
        return bool(data)

    async def _flush(self) -> None:
        if self._out.pending:
            self._writer.write(self._out.read())
            await self._writer.drain()


async def _relay(near: _Tls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def outwards() -> None:
        while data := await near.read():
            writer.write(data)
            await writer.drain()
        writer.close()

    sending = asyncio.create_task(outwards())
    try:
        while data := await reader.read(64 * 1024):
            await near.write(data)
        await near.end()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
