"""One running Thruway between a raw client and a raw upstream, and the comparison of two ways."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up
from thruway_testing.upstreams.rawhttp_upstream import RawUpstream
from thruway_testing.wire.fidelity import difference, lengths_differ
from thruway_testing.wire.rawhttp import Answer, Received, Reply, Request, Version, WireError
from thruway_testing.wire.rawhttp_client import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["KEY", "Exchange", "FidelityBench", "fidelity_bench"]

KEY = "sk-the-route's-own"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, as both ends saw them. `None`: nothing has arrived."""

    received: Received | None
    reply: Reply | None
    problem: str = ""
    """Why there is no reply."""


class FidelityBench:
    """Sends a request both ways. Connections are kept until something goes wrong."""

    def __init__(self, up: ThruwayUp, upstream: RawUpstream) -> None:
        self.up, self.upstream = up, upstream
        self._host = f"127.0.0.1:{up.port}"
        self._clients: dict[str, RawClient] = {}

    def client(self, way: str) -> RawClient:
        """Return the client of a way: `direct`, or the name of a route."""
        if way not in self._clients:
            direct = way == "direct"
            self._clients[way] = RawClient(
                self.upstream.port if direct else self.up.port, "" if direct else f"/{way}"
            )
        return self._clients[way]

    def close(self) -> None:
        """Close the clients' connections."""
        for client in self._clients.values():
            client.close()

    def exchange(self, way: str, request: Request, answer: Answer) -> Exchange:
        """Send the request on this way, to be answered so."""
        self.upstream.answer_with(answer)
        problem = ""
        try:
            reply = self.client(way).exchange(request)
        except (WireError, OSError) as error:
            reply, problem = None, repr(error)
        received = None if self.upstream.received_nothing() else self.upstream.take()[0]
        return Exchange(received, reply, problem)

    def compare(self, way: str, request: Request, answer: Answer, without: str = "") -> list[str]:
        """Return what differs between the direct way and this one, beyond what may."""
        upstream = Version.HTTP2 if way == "http2" else Version.HTTP11
        direct = self.exchange("direct", request, answer)
        through = self.exchange(way, request, answer)
        pairs = [(direct.received, through.received), (direct.reply, through.reply)]
        found = []
        for before, after in pairs:
            assert before is not None, f"not even directly: {direct} {request} {answer}"
            if after is None:
                found.append(f"lost: {before}\ngot: {through.reply} {through.problem}")
                continue
            rest = difference(
                request,
                before,
                after,
                credential=way == "credential",
                upstream=upstream,
                without=without,
            )
            if rest:
                found.append(f"directly: {rest[0]}\nthrough:  {rest[1]}")
            status = before.status if isinstance(before, Reply) else 0
            if status != 204 and lengths_differ(before.headers, after.headers):
                found.append(f"the length has changed: {before.headers} {after.headers}")
        found += self._wrong_host(through.received)
        if found:
            self.close()
        return found

    def _wrong_host(self, received: Received | None) -> list[str]:
        host = f"127.0.0.1:{self.upstream.port}".encode()
        return [f"Host is {received.host!r}"] if received and received.host != host else []


@contextlib.contextmanager
def fidelity_bench(folder: Path) -> Iterator[FidelityBench]:
    """Run an upstream and a Thruway with a route for each way."""
    with RawUpstream() as upstream:
        file = folder / "fidelity.yaml"
        http2 = {"url": upstream.url, "protocol": "HTTP2", "versionPrefix": "/v1"}
        credential = {"secretKeyRef": {"name": "fidelity", "key": "KEY"}}
        write(
            file,
            secret("fidelity", KEY=KEY),
            route("http1", "/http1", upstream.url),
            route("http2", "/http2", upstream.url, upstream=http2),
            route("credential", "/credential", upstream.url, credential=credential),
        )
        with thruway_up("-f", str(file)) as up:
            bench = FidelityBench(up, upstream)
            try:
                yield bench
            finally:
                bench.close()
