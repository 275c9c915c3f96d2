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

from thruway_operator.laptop.process import launch, reaper_process
from thruway_operator.laptop.process.reaper import Reaper, ReaperError
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
from thruway_operator.laptop.process.reaper import Reaper
from thruway_operator.laptop.process.supervisor import Supervisor, minimal_env, run_folder

STUBBORN = (
    "import os, signal, time; signal.signal(15, signal.SIG_IGN); {} "
    "print(os.getpid(), flush=True); time.sleep(1000)"
)

async def main():
    pids = []
    with Reaper() as reaper, run_folder(reaper) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "socket").touch()
        async with Supervisor(reaper) as supervisor:
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
            reaper.add(plain.pid)
            own = {"supervised": pids, "plain": plain.pid, "reaper": reaper.pid}
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
    pids = [*parent.has["supervised"], parent.has["plain"], parent.has["reaper"]]
    assert all(map(alive, pids))
    parent.end(number)
    eventually(lambda: not any(map(alive, pids)))
    assert not Path(parent.has["folder"]).exists()


@linux_only
def test_without_the_reaper_the_kernel_ends_what_the_launcher_started(
    eventually: Eventually, alive: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = _Parent()
    folder = Path(parent.has["folder"])
    *launched, worker = parent.has["supervised"]
    try:
        os.kill(parent.has["reaper"], signal.SIGKILL)
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


def test_a_reaper_that_was_killed_is_replaced_and_knows_everything(
    alive: Callable[[int], bool], eventually: Eventually, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    reaper = Reaper()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        assert reaper.add(child.pid)
        old = reaper.pid
        assert old
        os.kill(old, signal.SIGKILL)
        eventually(lambda: not alive(old))
        reaper.remove_later(str(folder))
        assert reaper.pid not in (None, old)
        reaper.close()
        eventually(lambda: child.poll() == -signal.SIGTERM)
    assert not folder.exists()


def test_what_was_taken_back_is_left_alone(tmp_path: Path, alive: Callable[[int], bool]) -> None:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        with Reaper() as reaper:
            reaper.add(child.pid)
            reaper.remove_later(str(tmp_path))
            reaper.discard(child.pid)
            reaper.keep(str(tmp_path))
        assert alive(child.pid)
        child.kill()
    assert tmp_path.exists()


def test_a_reused_process_id_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        token = reaper_process.start_token(child.pid)
        assert token
        assert reaper_process.live_groups({child.pid: token}) == [child.pid]
        assert reaper_process.live_groups({child.pid: token + "1"}) == []
        child.kill()
    assert reaper_process.live_groups({child.pid: token}) == []
    assert reaper_process.start_token(child.pid) is None


def test_ctrl_c_passes_the_reaper_by(alive: Callable[[int], bool]) -> None:
    with Reaper() as reaper:
        assert reaper.pid
        assert os.getsid(reaper.pid) != os.getsid(0)


def test_a_closed_reaper_says_so() -> None:
    reaper = Reaper()
    reaper.close()
    reaper.close()
    assert reaper.pid is None
    with pytest.raises(ReaperError, match="closed"):
        reaper.remove_later("/nowhere")


def test_only_absolute_paths_of_one_line_are_removed() -> None:
    with Reaper() as reaper:
        for path in ("relative", "/two\nlines"):
            with pytest.raises(ReaperError, match="absolute"):
                reaper.remove_later(path)


@UNHURRIED
@given(st.text())
def test_no_line_disturbs_the_reaper_and_none_makes_it_watch_init(line: str) -> None:
    watched = reaper_process.Watched()
    watched.take(line)
    assert not watched.processes.keys() & {0, 1}
    assert all(folder.startswith("/") for folder in watched.folders)


def test_lines_register_and_take_back() -> None:
    watched = reaper_process.Watched()
    for line in ("+12 345", "+13 Mon_Jan", "-12", "rm /a b", "rm /c", "keep /c", "+1 2", "+x y"):
        watched.take(line)
    assert (watched.processes, watched.folders) == ({13: "Mon_Jan"}, ["/a b"])


def test_a_command_full_of_parentheses_is_read() -> None:
    stat = "77 (a) b) (c)) S 1 77 70 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9876 1 1 0"
    assert reaper_process._stat_fields(stat) == ("S", 77, "9876")


def test_ps_tells_the_same_as_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # as on macOS: no /proc
    state, group, token = reaper_process._processes(os.getpid())[os.getpid()]
    assert state in {"R", "S"}
    assert group == os.getpgrp()
    assert token.count("_") == 4  # Mon_Nov_23_17:00:00_2025
    assert os.getpid() in reaper_process._processes()


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
