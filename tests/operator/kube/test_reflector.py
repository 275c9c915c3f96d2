"""Invariant: after any order of lists, events and hints, the newest state of each object counts."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.kube.client import ApiError, Unreachable
from thruway_operator.kube.reflector import Reflector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


KEY = ("shop", "a")


def item(version: int, name: str = "a", value: str = "") -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": name, "resourceVersion": str(version)},
        "value": value or f"v{version}",
    }


def page(version: int, *items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


class FakeServer:
    """Plays one list or refusal after another, and watches that end when they are told to."""

    def __init__(self, *lists: dict[str, Any] | Exception) -> None:
        self._lists = list(lists)
        self.events: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()
        self.watching = asyncio.Queue[str]()

    async def get(self, _path: str, **_: object) -> dict[str, Any]:
        found = self._lists.pop(0) if len(self._lists) > 1 else self._lists[0]
        if isinstance(found, Exception):
            raise found
        return found

    @asynccontextmanager
    async def lines(
        self, _path: str, *, params: dict[str, str], **_: object
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.watching.put_nowait(params["resourceVersion"])
        yield self._lines()

    async def _lines(self) -> AsyncIterator[bytes]:
        while (event := await self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield json.dumps(event).encode()

    def send(self, kind: str, thing: dict[str, Any]) -> None:
        self.events.put_nowait({"type": kind, "object": thing})


class Mirror:
    """A reflector of a fake server, and a way to wait until it has reached a state."""

    def __init__(self, server: FakeServer) -> None:
        self._changed = asyncio.Event()
        self.problems: list[str | None] = []
        client: Any = server
        self.reflector: Reflector[str] = Reflector(
            client,
            "/things",
            lambda _key, thing: thing["value"] or None,
            lambda _: self._changed.set(),
            on_problem=self._note,
        )

    def _note(self) -> None:
        self.problems.append(self.reflector.problem)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def becomes(self, **items: str) -> None:
        wanted = {("shop", name): value for name, value in items.items()}
        await self.until(lambda: self.reflector.items == wanted)


def run(server: FakeServer, check: Callable[[Mirror], Awaitable[None]]) -> None:
    async def main() -> None:
        mirror = Mirror(server)
        running = asyncio.create_task(mirror.reflector.run())
        try:
            await check(mirror)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_lists_then_follows_the_watch() -> None:
    server = FakeServer(page(10, item(3), item(4, "b")))

    async def check(mirror: Mirror) -> None:
        await mirror.becomes(a="v3", b="v4")
        assert await server.watching.get() == "10"
        server.send("MODIFIED", item(11))
        server.send("DELETED", item(12, "b"))
        server.send("ADDED", item(13, "c"))
        await mirror.becomes(a="v11", c="v13")

    run(server, check)


def test_a_watch_that_ends_resumes_after_its_last_event() -> None:
    server = FakeServer(page(10))

    async def check(mirror: Mirror) -> None:
        assert await server.watching.get() == "10"
        server.send("BOOKMARK", item(20))
        server.events.put_nowait(None)
        assert await server.watching.get() == "20"
        assert mirror.reflector.lists == 1

    run(server, check)


@pytest.mark.parametrize("gone", ["event", "response"])
def test_410_lists_again_and_drops_what_vanished(gone: str) -> None:
    server = FakeServer(page(10, item(3), item(4, "b")), page(30, item(25)))

    async def check(mirror: Mirror) -> None:
        await mirror.becomes(a="v3", b="v4")
        if gone == "event":
            server.events.put_nowait({"type": "ERROR", "object": {"code": 410}})
        else:
            server.events.put_nowait(ApiError(410, "Expired", "too old"))
        await mirror.becomes(a="v25")

    run(server, check)


def test_an_unreachable_server_takes_nothing_away() -> None:
    server = FakeServer(page(10, item(3)))

    async def check(mirror: Mirror) -> None:
        await mirror.becomes(a="v3")
        server.events.put_nowait(Unreachable("the API server cannot be reached"))
        await mirror.until(lambda: mirror.problems[-1:] == ["the API server cannot be reached"])
        assert mirror.reflector.items == {KEY: "v3"}
        server.send("MODIFIED", item(11))
        await mirror.becomes(a="v11")
        assert mirror.problems == ["the API server cannot be reached", None]
        assert mirror.reflector.lists == 1

    run(server, check)


def test_a_refusal_is_reported_until_a_list_succeeds() -> None:
    server = FakeServer(ApiError(403, "Forbidden", "no"), page(10, item(3)))

    async def check(mirror: Mirror) -> None:
        await mirror.becomes(a="v3")
        assert mirror.problems == ["no", None]

    run(server, check)


def hinted(*steps: dict[str, Any] | int) -> dict[tuple[str, str], str]:
    """Put these objects, or drop KEY at these versions, in this order."""
    reflector = Mirror(FakeServer(page(1))).reflector
    for step in steps:
        if isinstance(step, int):
            reflector.drop(KEY, step)
        else:
            reflector.put(step)
    return reflector.items


def test_an_older_state_never_replaces_a_newer_one() -> None:
    assert hinted(item(5), item(4)) == {KEY: "v5"}
    assert hinted(item(5), 4) == {KEY: "v5"}
    assert hinted(5, item(4)) == {}
    assert hinted(item(4), 5, item(4)) == {}
    assert hinted(5, item(6)) == {KEY: "v6"}
    assert hinted(5, 3, item(4)) == {}


def test_what_is_not_kept_may_be_kept_later() -> None:
    wanted = False
    client: Any = FakeServer(page(1))
    reflector: Reflector[str] = Reflector(
        client, "/things", lambda _k, thing: thing["value"] if wanted else None, lambda _: None
    )
    reflector.put(item(5))
    assert reflector.items == {}
    wanted = True
    reflector.put(item(5))
    assert reflector.items == {KEY: "v5"}
    reflector.forget(KEY)
    reflector.put(item(5))
    assert reflector.items == {KEY: "v5"}


def test_a_cluster_that_was_restored_from_a_backup_counts() -> None:
    server = FakeServer(page(100, item(90), item(95, "b")), page(50, item(40)))

    async def check(mirror: Mirror) -> None:
        await mirror.becomes(a="v90", b="v95")
        server.events.put_nowait({"type": "ERROR", "object": {"code": 410}})
        await mirror.becomes(a="v40")

    run(server, check)


def test_deletions_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thruway_operator.kube.reflector._GRAVES", 2)
    client: Any = FakeServer(page(1))
    reflector: Reflector[str] = Reflector(
        client, "/things", lambda _k, thing: thing["value"], lambda _: None
    )
    for number, name in enumerate("abc", 10):
        reflector.drop(("shop", name), number)
    for name in "abc":
        reflector.put(item(9, name))
    assert reflector.items == {KEY: "v9"}
