"""A child that ends unasked comes back at once; stopping ends everything, in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from thruway_operator.laptop.process.reaper import Reaper
from thruway_operator.laptop.process.supervisor import (
    Kind,
    ProcessError,
    ProcessEvent,
    Supervisor,
    minimal_env,
    restart_delay,
    status_in_words,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEADLINE = 20.0  # seconds; only makes a failure finite
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
print(os.getpid(), flush=True)
time.sleep(1000)
"""


class Seen:
    """The events so far, and a way to wait for the next of a kind."""

    def __init__(self) -> None:
        self.events: list[ProcessEvent] = []
        self._queue: asyncio.Queue[ProcessEvent] = asyncio.Queue()

    def __call__(self, event: ProcessEvent) -> None:
        self.events.append(event)
        self._queue.put_nowait(event)

    async def next(self, kind: Kind) -> ProcessEvent:
        while True:
            event = await asyncio.wait_for(self._queue.get(), DEADLINE)
            if event.kind is kind:
                return event

    def kinds(self, name: str) -> list[Kind]:
        return [event.kind for event in self.events if event.name == name]


@asynccontextmanager
async def supervising(attempts: int | None = None) -> AsyncIterator[tuple[Supervisor, Seen]]:
    seen = Seen()
    with Reaper() as reaper:
        async with Supervisor(reaper, on_event=seen, attempts=attempts) as supervisor:
            yield supervisor, seen


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_killed_child_is_started_again_at_once() -> None:
    async def run() -> None:
        async with supervising() as (supervisor, seen):
            await supervisor.start("sleep", ["sleep", "1000"], env=minimal_env())
            first = supervisor.pid("sleep")
            assert first
            os.kill(first, signal.SIGKILL)
            assert (await seen.next(Kind.EXITED)).status == "killed by SIGKILL"
            assert (await seen.next(Kind.RESTARTING)).delay == 0
            second = (await seen.next(Kind.STARTED)).pid
            assert second == supervisor.pid("sleep") != first
        assert seen.events[-1].expected
        assert seen.events[-1].status == "killed by SIGTERM"

    asyncio.run(run())


def test_a_child_that_never_runs_is_given_up_after_so_many_attempts() -> None:
    async def run() -> None:
        async with supervising(attempts=3) as (supervisor, seen):
            code = "import sys; print('no such option', file=sys.stderr, end=''); sys.exit(3)"
            await supervisor.start("bad", python(code), env=minimal_env())
            await seen.next(Kind.GAVE_UP)
            exits = [event for event in seen.events if event.kind is Kind.EXITED]
            assert {(event.status, event.stderr) for event in exits} == {
                ("exit code 3", ("no such option",))
            }
            pauses = [event.delay for event in seen.events if event.kind is Kind.RESTARTING]
            assert (len(exits), pauses) == (3, [0.0, 0.1])

    asyncio.run(run())


def test_no_line_is_lost_or_endless() -> None:
    async def run() -> None:
        out: list[bytes] = []
        err: list[bytes] = []
        code = (
            "import sys; o = sys.stdout; "
            "o.write('a' * 300_000 + '\\n'); o.write('two\\nlast'); sys.stderr.write('e\\nf')"
        )
        async with supervising(attempts=1) as (supervisor, seen):
            await supervisor.start(
                "writer",
                python(code),
                env=minimal_env(),
                on_stdout_line=out.append,
                on_stderr_line=err.append,
            )
            await seen.next(Kind.EXITED)
        assert out == [b"a" * 65536, b"two", b"last"]
        assert err == [b"e", b"f"]

    asyncio.run(run())


def test_a_callback_that_fails_stops_neither_the_reading_nor_the_supervision() -> None:
    async def run() -> None:
        failures: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: failures.append(context["message"])
        )
        with Reaper() as reaper:

            def fail(_: object) -> None:
                raise KeyError

            async with Supervisor(reaper, on_event=fail, attempts=1) as supervisor:
                # More than a pipe holds: the child ends only if it is read to the end.
                argv = python("print('x\\n' * 200_000)")
                await supervisor.start("w", argv, env=minimal_env(), on_stdout_line=fail)
                async with asyncio.timeout(DEADLINE):
                    while supervisor.pid("w") is not None:
                        await asyncio.sleep(0.01)
        assert failures.count("the line callback of w failed") == 200_001
        assert "the event callback failed on Exited of w" in failures

    asyncio.run(run())


def test_stopping_keeps_the_order_and_kills_what_does_not_listen(
    alive: Callable[[int], bool],
) -> None:
    async def run() -> list[int]:
        async with supervising() as (supervisor, seen):
            said: asyncio.Queue[bytes] = asyncio.Queue()
            for name in ("a", "b", "c"):
                await supervisor.start(name, ["sleep", "1000"], env=minimal_env())
            argv = python(STUBBORN)
            put = said.put_nowait
            await supervisor.start("deaf", argv, env=minimal_env(), on_stdout_line=put)
            pids = [int(await asyncio.wait_for(said.get(), DEADLINE)) for _ in range(2)]
            assert all(map(alive, pids))
            await supervisor.stop({"b": 5, "deaf": 0.1, "unknown": 1})
        ends = [(e.name, e.status) for e in seen.events if e.kind is Kind.EXITED]
        term = "killed by SIGTERM"
        assert ends == [("b", term), ("deaf", "killed by SIGKILL"), ("c", term), ("a", term)]
        assert all(event.expected for event in seen.events if event.kind is Kind.EXITED)
        assert Kind.RESTARTING not in {event.kind for event in seen.events}
        return pids

    assert not any(map(alive, asyncio.run(run())))


def test_a_crashed_leader_takes_its_workers_along(alive: Callable[[int], bool]) -> None:
    async def run() -> None:
        async with supervising(attempts=1) as (supervisor, seen):
            said: asyncio.Queue[bytes] = asyncio.Queue()
            put = said.put_nowait
            await supervisor.start("w", python(STUBBORN), env=minimal_env(), on_stdout_line=put)
            pids = [int(await asyncio.wait_for(said.get(), DEADLINE)) for _ in range(2)]
            leader = supervisor.pid("w")
            assert leader
            os.kill(leader, signal.SIGKILL)
            await seen.next(Kind.EXITED)
            async with asyncio.timeout(DEADLINE):
                while any(map(alive, pids)):
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_stopping_does_not_wait_for_a_pause_between_restarts() -> None:
    async def run() -> None:
        async with supervising() as (supervisor, seen):
            await supervisor.start("false", ["false"], env=minimal_env())
            while (await seen.next(Kind.RESTARTING)).delay < 1:
                pass
            async with asyncio.timeout(0.7):
                await supervisor.stop()

    asyncio.run(run())


def test_a_cancelled_stop_kills(alive: Callable[[int], bool]) -> None:
    async def run() -> None:
        async with supervising() as (supervisor, _):
            said: asyncio.Queue[bytes] = asyncio.Queue()
            put = said.put_nowait
            await supervisor.start("deaf", python(STUBBORN), env=minimal_env(), on_stdout_line=put)
            pids = [int(await asyncio.wait_for(said.get(), DEADLINE)) for _ in range(2)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(supervisor.stop(default=1000), 0.05)
            async with asyncio.timeout(DEADLINE):
                while any(map(alive, pids)):
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_a_program_that_is_not_there_is_a_sentence() -> None:
    async def run() -> None:
        async with supervising() as (supervisor, seen):
            with pytest.raises(ProcessError, match="no-such-program was not found: install it"):
                await supervisor.start("x", ["no-such-program"], env=minimal_env())
            with pytest.raises(ProcessError, match="x could not be started: No such file"):
                await supervisor.start("x", ["true"], env=minimal_env(), cwd="/no-such-folder")
            await supervisor.start("x", ["sleep", "1000"], env=minimal_env())
            with pytest.raises(ValueError, match="already"):
                await supervisor.start("x", ["sleep", "1000"], env=minimal_env())
        assert seen.kinds("x") == [Kind.EXITED, Kind.STARTED, Kind.EXITED]

    asyncio.run(run())


def test_children_see_no_key_and_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("LC_OPENAI_API_KEY", "sk-secret")

    async def run() -> list[bytes]:
        lines: list[bytes] = []
        async with supervising(attempts=1) as (supervisor, seen):
            code = "import os; print(dict(os.environ), os.getsid(0) == os.getpid())"
            env = minimal_env(THRUWAY_X="1")
            await supervisor.start("env", python(code), env=env, on_stdout_line=lines.append)
            await seen.next(Kind.EXITED)
        return lines

    (line,) = asyncio.run(run())
    assert b"sk-secret" not in line
    assert b"'THRUWAY_X': '1'" in line
    assert b"'PATH'" in line
    assert line.endswith(b"True")


def test_only_what_is_on_the_list_is_inherited() -> None:
    given = {"PATH": "/bin", "HOME": "/h", "TZ": "UTC", "SSL_CERT_FILE": "/c", "AWS_SECRET": "s"}
    assert minimal_env(given) == {"PATH": "/bin", "HOME": "/h", "TZ": "UTC", "SSL_CERT_FILE": "/c"}
    assert minimal_env({}, A="b") == {"A": "b"}


def test_words_and_delays() -> None:
    assert status_in_words(0) == "exit code 0"
    assert status_in_words(-11) == "killed by SIGSEGV"
    assert status_in_words(-1000) == "killed by signal 1000"
    assert [restart_delay(n) for n in range(1, 10)] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert restart_delay(10**6) == 5
