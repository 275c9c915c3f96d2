"""Files of `thruway up` that change."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from typing import TYPE_CHECKING

from thruway_operator.laptop.up.console import Notice
from thruway_operator.laptop.up.feed import Feed
from thruway_operator.sources.files.network import Setting
from thruway_operator.sources.files.watch import FileSource
from thruway_operator.text.safe import Redactor
from thruway_testing.product.manifests import route, write

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_has_changed_since_it_was_read_is_noticed_however_long_the_start_took(
    tmp_path: Path,
) -> None:
    """Bug: what changed between the first reading and `follow` was not."""
    file, said = tmp_path / "routes.yaml", io.StringIO()
    source = FileSource([file_of(file, "/a")], {})

    async def run() -> None:
        redactor = Redactor()
        feed = Feed(Setting((("127.0.0.1", 4000),)), "", Notice(said, color=False), redactor)
        feed.publish(feed.translate(source.read().resources))
        file_of(file, "/b")
        following = asyncio.create_task(feed.follow(source))
        async with asyncio.timeout(20):
            while "Reloaded" not in said.getvalue():
                await asyncio.sleep(0.01)
        following.cancel()

    asyncio.run(run())
    assert [item.spec.path for item in source.read().resources.routes] == ["/b"]


def test_a_change_is_translated_once_while_the_event_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a slow DNS server stopped xDS, and one change was translated three times."""
    file, said = tmp_path / "routes.yaml", io.StringIO()
    source = FileSource([file_of(file, "/a")], {})
    asked, resolved = threading.Event(), threading.Event()

    def resolve(name: str, _: object) -> list[tuple[object, ...]]:
        asked.set()
        assert resolved.wait(60)
        return [(0, 0, 0, "", (name, 0))]

    async def run() -> int:
        feed = Feed(
            Setting((("127.0.0.1", 4000),)), "", Notice(said, color=False), redactor=Redactor()
        )
        feed.publish(feed.translate(source.read().resources))
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        write(file, route("a", "/b", "https://api.example.com:4000"))
        following = asyncio.create_task(feed.follow(source))
        async with asyncio.timeout(20):
            while not asked.is_set():
                await asyncio.sleep(0.01)
            resolved.set()
            while "Reloaded" not in said.getvalue():
                await asyncio.sleep(0.01)
        following.cancel()
        return feed._translator.translated

    assert asyncio.run(run()) == 2  # at the start, and for the change


def file_of(file: Path, path: str) -> Path:
    write(file, route("a", path, "https://api.example.com"))
    return file
