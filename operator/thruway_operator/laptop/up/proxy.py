"""The two kinds of child processes of `thruway up`: Envoy, and extproc's workers."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from thruway_operator.envoy.bootstrap import ProxyOptions, render_bootstrap
from thruway_operator.envoy.program import envoy_program
from thruway_operator.envoy.wire import serialized

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = [
    "calls_under_way",
    "envoy_command",
    "extproc_command",
    "is_ready",
    "until_ready",
    "write_bootstrap",
]

# At debug level these components print the headers of requests, credentials included.
_TALKATIVE = (
    "http",
    "http2",
    "router",
    "ext_proc",
    "filter",
    "rbac",
    "credential_injector",
)


def write_bootstrap(
    folder: Path, addresses: list[tuple[str, int]], workers: int
) -> tuple[Path, ProxyOptions]:
    """Write Envoy's bootstrap into the run folder; it holds no secret."""
    options = ProxyOptions(
        node_id="laptop",
        addresses=tuple(addresses),
        admin_socket=str(folder / "admin.sock"),
        xds_socket=str(folder / "xds.sock"),
        extproc_sockets=tuple(str(folder / f"extproc-{number}.sock") for number in range(workers)),
    )
    path = folder / "bootstrap.pb"
    path.write_bytes(serialized(render_bootstrap(options)))
    return path, options


def envoy_command(bootstrap: Path, log_level: str) -> list[str]:
    """Return Envoy's command line."""
    # Envoy's own informational lines are not useful to users of Thruway.
    level = {"info": "warning"}.get(log_level, log_level)
    # misc: at each change, it warns about every filter whose API Envoy has not declared stable.
    quiet = "misc:error"
    if level == "debug":
        quiet += "".join(f",{component}:info" for component in _TALKATIVE)
    return [
        str(envoy_program()),
        "--config-path",
        str(bootstrap),
        "--disable-hot-restart",
        # Envoy treats access logs as files, which it flushes every ten seconds by default.
        "--file-flush-interval-msec",
        "50",
        "--concurrency",
        str(min(os.cpu_count() or 1, 4)),
        "--log-level",
        level,
        "--component-log-level",
        quiet,
    ]


def extproc_command(socket: str, log_level: str) -> list[str]:
    """Return the command line of one extproc worker."""
    level = {"info": "warning"}.get(log_level, log_level)
    module = ["-I", "-m", "thruway_extproc"]
    return [sys.executable, *module, "--listen", f"unix:{socket}", "--log-level", level]


async def is_ready(admin_socket: str) -> bool:
    """Ask Envoy whether it is live, that is, has its routes and accepts connections."""
    return await _get(admin_socket, "/ready") is not None


async def calls_under_way(admin_socket: str) -> int:
    """Ask Envoy how many calls are in flight; return 0 if it does not respond."""
    name = "http.thruway.downstream_rq_active"
    stats = await _get(admin_socket, f"/stats?filter=^{name.replace('.', '%5C.')}$")
    found = re.search(rf"^{re.escape(name)}: (\d+)$", stats or "", re.MULTILINE)
    return int(found[1]) if found else 0


async def _get(admin_socket: str, path: str) -> str | None:
    """Return the body of Envoy's response, or None without a response of status 200."""
    connector = aiohttp.UnixConnector(admin_socket)
    url = URL(f"http://envoy{path}", encoded=True)
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, timeout=aiohttp.ClientTimeout(2)) as answer,
        ):
            return await answer.text() if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


async def until_ready(admin_socket: str, alive: Callable[[], bool], *, every: float = 0.02) -> bool:
    """Wait until Envoy is live; return False if it is no longer `alive`."""
    while alive():
        if await is_ready(admin_socket):
            return True
        await asyncio.sleep(every)
    return False
