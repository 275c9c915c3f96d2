"""An upstream for quantities: it counts what it is sent and makes up what it sends.

No byte is kept, so that what grows is the proxy's memory alone. Runs in a process of its own:
`python -m thruway_testing.plane.bulk [PORT]`; its first line on stdout is its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["bulk_upstream"]

_BLOCK = b"x" * (1 << 16)


async def _upload(request: web.Request) -> web.Response:
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
    return web.json_response({"received": size})


async def _download(request: web.Request) -> web.StreamResponse:
    size = int(request.query["size"])
    response = web.StreamResponse(headers={"Content-Length": str(size)})
    await response.prepare(request)
    for _ in range(size // len(_BLOCK)):
        await response.write(_BLOCK)
    return response


async def _idle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: first\n\n")
    await asyncio.Event().wait()
    return response


def main() -> None:
    """Serve until killed."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0

    async def run() -> None:
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/up", _upload),
                web.get("/v1/down", _download),
                web.get("/v1/idle", _idle),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        sys.stdout.write(f"{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    asyncio.run(run())


@contextlib.contextmanager
def bulk_upstream(port: int = 0) -> Iterator[str]:
    """Run the upstream; gives its URL."""
    support = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "thruway_testing.plane.bulk", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=support) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    main()
