"""Bodies pass through, they do not pile up: memory stays where it is, whatever passes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from thruway_testing.plane.bulk import bulk_upstream
from thruway_testing.product.up import ThruwayUp, thruway_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

GIB = 1 << 30
LIMIT = 32 << 20
BLOCK = b"x" * (1 << 16)
IDLE = float(os.environ.get("THRUWAY_IDLE_SECONDS", "1"))
"""How long the streams idle; `make soak` takes the minute that shows slow growth."""


@pytest.fixture(scope="module")
def up() -> Iterator[ThruwayUp]:
    with bulk_upstream() as url, thruway_up(environment={"THRUWAY_UPSTREAM_URL": url}) as up:
        yield up


def memory(up: ThruwayUp) -> dict[str, int]:
    """Resident bytes of Envoy and of all extproc workers."""
    return {
        kind: sum(_resident(pid) for pid in pids)
        for kind, pids in up.children().items()
        if kind != "reaper"
    }


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def growth(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {kind: after[kind] - before[kind] for kind in before}


async def body(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // len(BLOCK)):
        yield BLOCK


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    )


async def upload(url: str, size: int) -> int:
    async with session() as client, client.post(f"{url}/up", data=body(size)) as answer:
        return int((await answer.json())["received"])


async def download(url: str, size: int) -> int:
    async with session() as client, client.get(f"{url}/down?size={size}") as answer:
        received = 0
        async for part in answer.content.iter_any():
            received += len(part)
        return received


@pytest.mark.parametrize("move", [upload, download])
@pytest.mark.timeout(600)
def test_a_gibibyte_leaves_memory_where_it_was(up: ThruwayUp, move: object) -> None:
    assert callable(move)
    url = f"{up.url}/openai_passthrough/v1"
    asyncio.run(move(url, 64 << 20))  # whatever is allocated once
    before = memory(up)
    assert asyncio.run(move(url, GIB)) == GIB
    grown = growth(before, memory(up))
    assert max(grown.values()) < LIMIT, grown


@pytest.mark.timeout(600)
def test_500_idle_streams_leave_memory_where_it_was(up: ThruwayUp) -> None:
    async def hold(count: int, seconds: float) -> dict[str, int]:
        async with session() as client:
            answers = [
                await client.get(f"{up.url}/openai_passthrough/v1/idle") for _ in range(count)
            ]
            for answer in answers:
                assert await answer.content.readline() == b"data: first\n"
            await asyncio.sleep(seconds)  # the test is that nothing happens
            held = memory(up)
            for answer in answers:
                answer.close()
            return held

    asyncio.run(hold(10, 0))
    before = memory(up)
    grown = growth(before, asyncio.run(hold(500, IDLE)))
    assert max(grown.values()) < LIMIT, grown
