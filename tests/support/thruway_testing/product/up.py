"""Runs the real `thruway up` as a child process, as a user would."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["ThruwayUp", "base_environment", "thruway_command", "thruway_up", "wait_until"]

DEADLINE = 30.0
"""Seconds after which a condition counts as never to come; far above what is ever needed."""

_READY = re.compile(r"Thruway is ready on (http://\S+):(\d+)")


def wait_until(
    condition: Callable[[], Any], what: str, *, deadline: float = DEADLINE, every: float = 0.01
) -> Any:
    """Return the first true answer of `condition`; fail with `what` if there is none in time."""
    end = time.monotonic() + deadline
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline} s in vain for: {what}")
        time.sleep(every)


def thruway_command() -> list[str]:
    """The installed command, next to the Python that runs the tests."""
    return [str(Path(sys.executable).with_name("thruway"))]


def base_environment(**extra: str) -> dict[str, str]:
    """An environment without anybody's keys or settings, and `extra`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    # Warnings are shown, and fail the test in the end; those of deprecation are the libraries'.
    warnings = "default,ignore::DeprecationWarning"
    return kept | {"PYTHONWARNINGS": warnings, "LC_ALL": "C.UTF-8"} | extra


class ThruwayUp:
    """One running `thruway up`; `text` is all of stderr so far, `calls()` all of stdout."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.port = 0
        self.url = ""
        self._stdout: list[str] = []
        self._stderr: list[str] = []
        self._threads = [
            threading.Thread(target=self._collect, args=pair, daemon=True)
            for pair in ((process.stdout, self._stdout), (process.stderr, self._stderr))
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _collect(stream: Any, lines: list[str]) -> None:
        lines.extend(line.decode(errors="replace") for line in stream)

    @property
    def text(self) -> str:
        """Everything it has said on stderr."""
        return "".join(self._stderr)

    @property
    def output(self) -> str:
        """Everything it has written to stdout."""
        return "".join(self._stdout)

    def calls(self) -> list[dict[str, Any]]:
        """The calls that it has logged."""
        entries = [json.loads(line) for line in list(self._stdout) if line.strip()]
        return [entry for entry in entries if entry.get("event") == "call"]

    def wait_for(self, pattern: str, *, count: int = 1, deadline: float = DEADLINE) -> None:
        """Wait until stderr holds the pattern so many times."""

        def there() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"thruway up ended ({self.process.poll()}):\n{self.text}")
            return len(re.findall(pattern, self.text)) >= count

        wait_until(there, f"{pattern!r} in:\n{self.text}", deadline=deadline)

    def wait_for_call(self, deadline: float = DEADLINE, **fields: Any) -> dict[str, Any]:
        """Wait for a logged call with these fields, and return it."""

        def find() -> dict[str, Any] | None:
            for call in self.calls():
                if all(call.get(name) == value for name, value in fields.items()):
                    return call
            return None

        found: dict[str, Any] = wait_until(find, f"a call with {fields}", deadline=deadline)
        return found

    def wait_ready(self) -> None:
        """Wait until it serves; sets `url` (with 127.0.0.1) and `port`."""
        self.wait_for(_READY.pattern)
        found = _READY.search(self.text)
        assert found is not None
        self.port = int(found[2])
        self.url = f"http://127.0.0.1:{self.port}"

    def children(self) -> dict[str, list[int]]:
        """The process ids of its descendants by kind: `envoy`, `extproc`, `reaper`."""
        kinds: dict[str, list[int]] = {"envoy": [], "extproc": [], "reaper": []}
        for pid, line in _descendants(self.process.pid).items():
            if "reaper_process.py" in line:
                kinds["reaper"].append(pid)
            elif "thruway_extproc" in line:
                kinds["extproc"].append(pid)
            elif "/envoy " in line:
                kinds["envoy"].append(pid)
        return kinds

    @property
    def run_folder(self) -> Path:
        """Its private folder, as Envoy's command line names it."""
        (envoy,) = self.children()["envoy"]
        command = Path(f"/proc/{envoy}/cmdline").read_bytes().split(b"\0")
        return Path(os.fsdecode(command[command.index(b"--config-path") + 1])).parent

    def admin(self, path: str) -> str:
        """Ask Envoy's admin interface."""
        connection = http.client.HTTPConnection("envoy")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.run_folder / "admin.sock"))
            connection.request("GET", path)
            return connection.getresponse().read().decode(errors="replace")
        finally:
            connection.close()

    def finish(self, number: int = signal.SIGINT, deadline: float = DEADLINE) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(deadline)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for thread in self._threads:
                thread.join(deadline)
            for stream in (self.process.stdout, self.process.stderr):
                if stream:
                    stream.close()
        return status


@contextlib.contextmanager
def thruway_up(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
    command: Sequence[str] = (),
) -> Iterator[ThruwayUp]:
    """Run `thruway up`, or another `command` that does it, until the end of the block."""
    process = subprocess.Popen(
        [*(command or thruway_command()), "up", "--port", "0", *arguments],
        env=base_environment(**(environment or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    up = ThruwayUp(process)
    try:
        if wait:
            up.wait_ready()
        yield up
        up.finish()
        for word in ("Traceback", "Warning:"):
            assert word not in up.text, up.text
    finally:
        up.finish()


def _descendants(root: int) -> dict[int, str]:
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            stat = (entry / "stat").read_text()
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
            lines[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    found: dict[int, str] = {}
    wave = [root]
    while wave:
        wave = [pid for pid, parent in parents.items() if parent in wave and pid not in found]
        found |= {pid: lines.get(pid, "") for pid in wave}
    return found
