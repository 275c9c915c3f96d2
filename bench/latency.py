"""Measures the cost of a call through Thruway, compared to a direct call and to Envoy alone.

All three take turns in one run on one machine, so compare the ratios, not the milliseconds. Envoy
alone has the same listener and route without ext_proc; the difference is the cost of extproc.

    make bench
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from thruway_testing.plane.envoy import Envoy  # noqa: E402
from thruway_testing.product.up import thruway_up  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = int(os.environ.get("THRUWAY_BENCH_ROUNDS", "20"))
CALLS = 100
CONNECTIONS = 16
BODY = b'{"model": "gpt-4o-mini", "input": "hello"}'
ANSWER = b'{"object": "response", "output": []}'

UPSTREAM = f"""
import asyncio
answer = {ANSWER!r}
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
            await reader.readexactly(length)
            head = b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(answer)
            writer.write(head + answer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def upstream() -> Iterator[int]:
    """Run the upstream in its own process; yield its port."""
    command = [sys.executable, "-c", UPSTREAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def envoy_alone(port: int) -> dict[str, object]:
    """Return the bootstrap of an Envoy that rewrites the path itself."""
    kind = "type.googleapis.com/envoy.extensions.filters"
    route = {
        "match": {"path_separated_prefix": "/openai_passthrough"},
        "route": {
            "cluster": "upstream",
            "timeout": "0s",
            "host_rewrite_literal": f"127.0.0.1:{port}",
            "regex_rewrite": {
                "pattern": {"regex": "^/openai_passthrough"},
                "substitution": "",
            },
        },
    }
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "alone",
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
        ],
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoint = {"endpoint": {"address": address}}
    cluster = {
        "name": "upstream",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    listener = {
        "name": "edge",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


class Client:
    """Keep-alive connections to one target."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._request = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-anything\r\n"
            f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    async def calls(self, count: int) -> list[float]:
        """Make calls one after the other on one connection; return the seconds of each."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        times = []
        for _ in range(count):
            begun = time.perf_counter()
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head.split(b"\r\n", 1)[0], head
            await reader.readexactly(len(ANSWER))
            times.append(time.perf_counter() - begun)
        writer.close()
        return times

    async def rate(self, count: int) -> float:
        """Make calls on many connections concurrently; return the calls per second."""
        begun = time.perf_counter()
        await asyncio.gather(*(self.calls(count) for _ in range(CONNECTIONS)))
        return CONNECTIONS * count / (time.perf_counter() - begun)


async def measure(clients: dict[str, Client]) -> None:
    """Take turns, and print the table."""
    times: dict[str, list[float]] = {name: [] for name in clients}
    rates: dict[str, list[float]] = {name: [] for name in clients}
    for client in clients.values():
        await client.calls(CALLS)
    for number in range(ROUNDS):
        for name, client in clients.items():
            times[name] += await client.calls(CALLS)
            rates[name].append(await client.rate(CALLS // 4))
        sys.stderr.write(f"\rround {number + 1} of {ROUNDS}")
    sys.stderr.write("\n")
    base = statistics.median(times["direct"])
    print("| | p50 ms | p99 ms | x direct | calls/s, 16 connections |\n|---|---|---|---|---|")
    for name in clients:
        p50 = statistics.median(times[name])
        p99 = statistics.quantiles(times[name], n=100)[98]
        rate = statistics.median(rates[name])
        print(f"| {name} | {p50 * 1e3:.2f} | {p99 * 1e3:.2f} | {p50 / base:.1f} | {rate:.0f} |")
    alone, thruway = (statistics.median(times[name]) for name in ("Envoy alone", "Thruway"))
    print(f"\nthruway_over_envoy_p50={thruway / alone:.2f}")


def main() -> None:
    """Start everything and measure."""
    with (
        upstream() as port,
        Envoy(envoy_alone(port)) as alone,
        thruway_up(environment={"THRUWAY_UPSTREAM_URL": f"http://127.0.0.1:{port}"}) as up,
    ):
        alone.wait_ready()
        path = "/openai_passthrough/v1/responses"
        clients = {
            "direct": Client(port, "/v1/responses"),
            "Envoy alone": Client(alone.address("edge")[1], path),
            "Thruway": Client(up.port, path),
        }
        asyncio.run(measure(clients))


if __name__ == "__main__":
    main()
