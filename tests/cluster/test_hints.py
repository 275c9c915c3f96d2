"""kopf's hints come, and when they cannot, the log says so."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.kube import load_access
from thruway_operator.kube.kopf_thread import KopfThread
from thruway_operator.sources.kubernetes.hints import Hints
from thruway_testing.plane.cluster_user import User

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.kube.access import Access
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane


@pytest.fixture
def access(control_plane: ControlPlane) -> Access:
    return load_access({}, kubeconfig=str(control_plane.admin_kubeconfig))


@pytest.mark.timeout(60)
def test_they_come_to_a_user_without_a_name(
    control_plane: ControlPlane,
    namespace: str,
    access: Access,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pod's user is a number; kopf ended at once, and routes waited for the next whole list."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", nameless)
    User(control_plane.api, namespace).apply("here", "http://127.0.0.1:9")

    async def first() -> str:
        found: asyncio.Queue[str] = asyncio.Queue()

        def on_event(_: str | None, item: Mapping[str, Any]) -> None:
            found.put_nowait(item["metadata"]["name"])

        hints = asyncio.create_task(Hints(access, [namespace], on_event).run())
        try:
            return await found.get()
        finally:
            hints.cancel()
            await asyncio.gather(hints, return_exceptions=True)

    assert asyncio.run(first()) == "here"


def test_that_kopf_cannot_run_is_said_once(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    starts = 0

    async def until_it_has_failed_twice() -> None:
        again = asyncio.Event()
        loop = asyncio.get_running_loop()

        def register(*_: object) -> None:
            nonlocal starts
            starts += 1
            if starts > 2:
                loop.call_soon_threadsafe(again.set)
            raise RuntimeError("no")

        running = asyncio.create_task(KopfThread(access, [], register).run())
        await again.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(until_it_has_failed_twice())
    said = [item.getMessage() for item in caplog.records if item.name == "thruway.kopf"]
    assert [text for text in said if "RuntimeError: no" in text] == said[:1]
