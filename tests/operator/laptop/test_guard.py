"""Whatever `thruway up` dies of, its processes and its folder are gone a moment later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thruway_operator.laptop.process import guardian, launch
from thruway_operator.laptop.process.guard import Guard, GuardError
from thruway_operator.laptop.process.runfolder import run_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Eventually

# Two shared cores may be slow; what matters here is the result.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")

# A little `thruway up`: a supervised sleep and one that ignores SIGTERM and has a worker, a process
# outside the supervisor that ignores SIGTERM, and a folder. Says what it has, then waits.
PARENT = """
import asyncio, json, os, subprocess, sys
from thruway_operator.laptop.process.guard import Guard
from thruway_operator.laptop.process.supervisor import Supervisor, minimal_env, run_folder

STUBBORN = (
    "import os, signal, time; signal.signal(15, signal.SIG_IGN); {} "
    "print(os.getpid(), flush=True); time.sleep(1000)"
)

async def main():
    pids = []
    with Guard() as guard, run_folder(guard) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "socket").touch()
        async with Supervisor(guard) as supervisor:
            said = asyncio.Queue()
            await supervisor.start("sleep", ["sleep", "1000"], env=minimal_env())
            pids.append(supervisor.pid("sleep"))
            argv = [sys.executable, "-c", STUBBORN.format("os.fork();")]
            await supervisor.start("two", argv, env=minimal_env(), on_stdout_line=said.put_nowait)
            leader = supervisor.pid("two")  # first, then its worker
            two = [int(await said.get()), int(await said.get())]
            pids += sorted(two, key=lambda pid: pid != leader)
            argv = [sys.executable, "-c", STUBBORN.format("")]
            plain = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
            plain.stdout.readline()
            guard.add(plain.pid)
            own = {"supervised": pids, "plain": plain.pid, "guard": guard.pid}
            print(json.dumps({**own, "folder": str(folder)}), flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


class _Parent:
    def __init__(self) -> None:
        argv = [sys.executable, "-c", PARENT]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self.process.stdout
        self.has: dict[str, Any] = json.loads(self.process.stdout.readline())

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_nothing_stays_when_the_parent_is_killed(
    number: signal.Signals, eventually: Eventually, alive: Callable[[int], bool]
) -> None:
    parent = _Parent()
    pids = [*parent.has["supervised"], parent.has["plain"], parent.has["guard"]]
    assert all(map(alive, pids))
    parent.end(number)
    eventually(lambda: not any(map(alive, pids)))
    assert not Path(parent.has["folder"]).exists()


@linux_only
def test_without_the_guard_the_kernel_ends_what_the_launcher_started(
    eventually: Eventually, alive: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = _Parent()
    folder = Path(parent.has["folder"])
    *launched, worker = parent.has["supervised"]
    try:
        os.kill(parent.has["guard"], signal.SIGKILL)
        parent.end(signal.SIGKILL)
        eventually(lambda: not any(map(alive, launched)))
    finally:
        # What a child forked itself, and what launch did not start, the kernel leaves.
        for pid in (worker, parent.has["plain"]):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, (worker, parent.has["plain"]))))
    assert folder.exists()
    monkeypatch.setattr("tempfile.tempdir", str(folder.parent))
    with run_folder() as fresh:  # the next run sweeps the folder away
        assert fresh.exists()
        assert not folder.exists()


def test_a_guard_that_was_killed_is_replaced_and_knows_everything(
    alive: Callable[[int], bool], eventually: Eventually, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    guard = Guard()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        assert guard.add(child.pid)
        old = guard.pid
        assert old
        os.kill(old, signal.SIGKILL)
        eventually(lambda: not alive(old))
        guard.remove_later(str(folder))
        assert guard.pid not in (None, old)
        guard.close()
        eventually(lambda: child.poll() == -signal.SIGTERM)
    assert not folder.exists()


def test_what_was_taken_back_is_left_alone(tmp_path: Path, alive: Callable[[int], bool]) -> None:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        with Guard() as guard:
            guard.add(child.pid)
            guard.remove_later(str(tmp_path))
            guard.discard(child.pid)
            guard.keep(str(tmp_path))
        assert alive(child.pid)
        child.kill()
    assert tmp_path.exists()


def test_a_reused_process_id_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        token = guardian.start_token(child.pid)
        assert token
        assert guardian.live_groups({child.pid: token}) == [child.pid]
        assert guardian.live_groups({child.pid: token + "1"}) == []
        child.kill()
    assert guardian.live_groups({child.pid: token}) == []
    assert guardian.start_token(child.pid) is None


def test_ctrl_c_passes_the_guard_by(alive: Callable[[int], bool]) -> None:
    with Guard() as guard:
        assert guard.pid
        assert os.getsid(guard.pid) != os.getsid(0)


def test_a_closed_guard_says_so() -> None:
    guard = Guard()
    guard.close()
    guard.close()
    assert guard.pid is None
    with pytest.raises(GuardError, match="closed"):
        guard.remove_later("/nowhere")


def test_only_absolute_paths_of_one_line_are_removed() -> None:
    with Guard() as guard:
        for path in ("relative", "/two\nlines"):
            with pytest.raises(GuardError, match="absolute"):
                guard.remove_later(path)


@UNHURRIED
@given(st.text())
def test_no_line_disturbs_the_guard_and_none_makes_it_watch_init(line: str) -> None:
    watched = guardian.Watched()
    watched.take(line)
    assert not watched.processes.keys() & {0, 1}
    assert all(folder.startswith("/") for folder in watched.folders)


def test_lines_register_and_take_back() -> None:
    watched = guardian.Watched()
    for line in ("+12 345", "+13 Mon_Jan", "-12", "rm /a b", "rm /c", "keep /c", "+1 2", "+x y"):
        watched.take(line)
    assert (watched.processes, watched.folders) == ({13: "Mon_Jan"}, ["/a b"])


def test_a_command_full_of_parentheses_is_read() -> None:
    stat = "77 (a) b) (c)) S 1 77 70 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9876 1 1 0"
    assert guardian._stat_fields(stat) == ("S", 77, "9876")


def test_ps_tells_the_same_as_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # as on macOS: no /proc
    state, group, token = guardian._processes(os.getpid())[os.getpid()]
    assert state in {"R", "S"}
    assert group == os.getpgrp()
    assert token.count("_") == 4  # Mon_Nov_23_17:00:00_2025
    assert os.getpid() in guardian._processes()


def _launch(parent: int, *argv: str, go: bool = True) -> subprocess.CompletedProcess[bytes]:
    gate, opener = os.pipe()
    if go:
        os.write(opener, b"+")
    os.close(opener)
    command = [sys.executable, "-I", "-S", launch.__file__, str(parent), str(gate), *argv]
    try:
        return subprocess.run(command, pass_fds=[gate], capture_output=True, check=False)
    finally:
        os.close(gate)


def test_the_launcher_starts_nothing_for_a_parent_that_is_gone() -> None:
    assert _launch(os.getpid() + 1, "echo", "hello").returncode == 125
    gone_at_the_gate = _launch(os.getpid(), "echo", "hello", go=False)
    assert (gone_at_the_gate.returncode, gone_at_the_gate.stdout) == (125, b"")


def test_the_launcher_becomes_the_program() -> None:
    assert _launch(os.getpid(), "echo", "hello").stdout == b"hello\n"
    missing = _launch(os.getpid(), "/no/such/program")
    assert (missing.returncode, missing.stderr.splitlines()[-1]) == (
        127,
        b"cannot run /no/such/program: No such file or directory",
    )


@linux_only
def test_the_launcher_leaves_no_signal_ignored_and_no_file_open() -> None:
    status = _launch(os.getpid(), "cat", "/proc/self/status").stdout
    (ignored,) = (line for line in status.splitlines() if line.startswith(b"SigIgn:"))
    standard = 0x7FFF_FFFF  # those above are the C library's own, which no program can reset
    assert int(ignored.split()[1], 16) & standard == 0
    assert _launch(os.getpid(), "ls", "/proc/self/fd").stdout.split() == [b"0", b"1", b"2", b"3"]
