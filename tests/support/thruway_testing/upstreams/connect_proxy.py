"""A corporate proxy: CONNECT tunnels and absolute-form requests, from a thread of its own.

    with ConnectProxy(hosts={"api.corp.test": upstream.port}) as proxy:
        ...  # HTTPS_PROXY=proxy.url
        [asked] = proxy.requests

Only the names in `hosts` exist, all of them on 127.0.0.1; whatever else is asked for gets 502. So a
call that arrives proves that its name was resolved by the proxy and by nobody else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

__all__ = ["ConnectProxy", "ProxyRequest"]


@dataclass(frozen=True)
class ProxyRequest:
    """One request as the proxy got it; `target` is `host:port` for CONNECT, otherwise a URL."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """Return the values of a header; names are compared without case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class ConnectProxy:
    """The proxy. A context manager.

    `hosts`: the names (or addresses) that exist, each with the port on 127.0.0.1 that it leads to.
    `login`: `user:password` to ask for; others get 407. `refuse`: a status for every request.
    `mute`: takes connections and never answers. `tls`: the proxy itself is spoken to by TLS.
    """

    def __init__(
        self,
        hosts: Mapping[str, int],
        *,
        login: str | None = None,
        refuse: int | None = None,
        mute: bool = False,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.hosts = dict(hosts)
        self.login = login
        self.refuse = refuse
        self.mute = mute
        self._tls = tls
        self._address = address
        self._requests: list[ProxyRequest] = []
        self._port: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connect-proxy", daemon=True)

    # What tests ask

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._port is not None, "the proxy is not running"
        return self._port

    @property
    def url(self) -> str:
        """Scheme and authority, without a login."""
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def requests(self) -> list[ProxyRequest]:
        """Every request so far, oldest first, refused ones included."""
        return list(self._requests)

    @property
    def tunnels(self) -> list[str]:
        """The targets of the CONNECT requests so far."""
        return [request.target for request in self.requests if request.method == "CONNECT"]

    def wait_for_requests(self, count: int, timeout: float = 5.0) -> list[ProxyRequest]:
        """Return the requests as soon as there are so many."""
        end = time.monotonic() + timeout
        while len(self._requests) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"only {len(self._requests)} of {count} requests came")
            time.sleep(0.005)
        return self.requests

    # Running

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._port is None:
            raise RuntimeError("the proxy did not start; its thread says why")
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
        server = await asyncio.start_server(self._accepted, self._address, 0, ssl=self._tls)
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
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                await self._answer(reader, writer)
            finally:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        request = _parse(head)
        self._requests.append(request)
        if self.mute:
            await reader.read()
            return
        status = self._refusal(request)
        host, port = self._place(request)
        if status is None and port is None:
            status = 502
        if status is not None:
            await _refuse(writer, status, host)
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            if request.method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                # One request for each connection, as the simplest of proxies do.
                far_writer.write(_origin_form(head, request.target))
            await _both_ways((reader, writer), (far_reader, far_writer))
        finally:
            far_writer.close()

    def _refusal(self, request: ProxyRequest) -> int | None:
        if self.login is not None:
            expected = "Basic " + base64.b64encode(self.login.encode()).decode()
            if request.values("proxy-authorization") != [expected]:
                return 407
        return self.refuse

    def _place(self, request: ProxyRequest) -> tuple[str, int | None]:
        parts = urlsplit(f"//{request.target}" if request.method == "CONNECT" else request.target)
        host = parts.hostname or ""
        return host, self.hosts.get(host)


def _parse(head: bytes) -> ProxyRequest:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    pairs = (line.partition(":") for line in lines if line)
    return ProxyRequest(
        method, target, version, tuple((name, value.strip()) for name, _, value in pairs)
    )


async def _refuse(writer: asyncio.StreamWriter, status: int, host: str) -> None:
    ask = 'Proxy-Authenticate: Basic realm="corp"\r\n' if status == 407 else ""
    body = f"<html>the proxy says {status} to {host}</html>"
    writer.write(
        f"HTTP/1.1 {status} No\r\n{ask}Content-Type: text/html\r\nContent-Length: {len(body)}\r\n"
        f"\r\n{body}".encode()
    )
    await writer.drain()


def _origin_form(head: bytes, target: str) -> bytes:
    """Return the head as the upstream gets it: a path, and nothing that is meant for the proxy."""
    first, *lines = head.split(b"\r\n")
    method, _, version = first.split(b" ")
    parts = urlsplit(target)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [line for line in lines if line and not line.lower().startswith(b"proxy-")]
    first = b" ".join((method, path.encode("latin-1"), version))
    return b"\r\n".join([first, *kept, b"", b""])


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _both_ways(near: Stream, far: Stream) -> None:
    """Pass on whatever comes, until both sides have ended or one is gone."""
    tasks = [
        asyncio.ensure_future(_pump(near[0], far[1])),
        asyncio.ensure_future(_pump(far[0], near[1])),
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()  # a side that is done sending may still be reading
    else:
        writer.close()  # TLS has no half of an end
