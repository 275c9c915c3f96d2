"""The two containers of a sidecar as child processes: a real Envoy and a real extproc worker.

with Sidecar(pod, installation.authorities, [replica.address], server_name=SERVER_NAME) as car:
    httpx.get(f"{car.url}/openai_passthrough/models")
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from thruway_operator.envoy.bootstrap import ProxyOptions, render_bootstrap
from thruway_operator.envoy.controlplane import XdsService, secret_files
from thruway_operator.envoy.wire import serialized
from thruway_testing.plane.envoy import Envoy, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thruway_testing.plane.kubernetes.pods import Pod

__all__ = ["Sidecar"]


class Sidecar:
    """A context manager; `url` is known once `wait_ready` has returned.

    `token`: what it presents; by default a token of its pod. `node_id`: what it calls itself; by
    default what it has to.
    """

    def __init__(
        self,
        pod: Pod,
        authorities: Path,
        operators: Sequence[tuple[str, int]],
        *,
        server_name: str = "thruway-operator",
        token: str | None = None,
        node_id: str | None = None,
    ) -> None:
        self.pod = pod
        self._authorities = authorities
        self._operators = tuple(operators)
        self._server_name = server_name
        self._token = token
        self._node_id = node_id or pod.node_id
        self._stack = contextlib.ExitStack()
        self.url = ""

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="thruway-car-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._tokens = self.folder / "tokens"
            self._tokens.mkdir()
            self.project(self.pod.token() if self._token is None else self._token)
            socket = self.folder / "extproc.sock"
            self._start_extproc(stack, socket)
            bootstrap = self._write_bootstrap(socket)
            args = ("--file-flush-interval-msec", "20", "--component-log-level", "misc:error")
            self.envoy = stack.enter_context(Envoy(bootstrap, log_level="warning", args=args))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def project(self, token: str) -> None:
        """Put a token where Envoy reads it, the way kubelet does: by swapping a link."""
        fresh = Path(tempfile.mkdtemp(prefix="..", dir=self._tokens))
        (fresh / "token").write_text(token)
        link = self._tokens / "..new"
        link.symlink_to(fresh.name)
        link.rename(self._tokens / "..data")
        visible = self._tokens / "token"
        if not visible.is_symlink():
            visible.symlink_to("..data/token")

    def wait_ready(self) -> Self:
        """Wait until Envoy has its first configuration and serves."""
        self.envoy.wait_ready(60)
        self.url = f"http://127.0.0.1:{self.envoy.address('thruway')[1]}"
        return self

    def _write_bootstrap(self, extproc: Path) -> Path:
        service = XdsService(
            addresses=self._operators,
            server_name=self._server_name,
            token_file=str(self._tokens / "token"),
            ca_file=str(self._authorities),
            folder=str(self.folder),
        )
        for name, text in secret_files(service).items():
            (self.folder / name).write_text(text)
        options = ProxyOptions(
            node_id=self._node_id,
            addresses=(("127.0.0.1", 0),),
            admin_socket="replaced",
            xds_service=service,
            extproc_sockets=(str(extproc),),
        )
        path = self.folder / "bootstrap.pb"
        path.write_bytes(serialized(render_bootstrap(options)))
        return path

    def _start_extproc(self, stack: contextlib.ExitStack, socket: Path) -> None:
        command = [sys.executable, "-m", "thruway_extproc", "--listen", f"unix:{socket}"]
        log = stack.enter_context((self.folder / "extproc.log").open("wb"))
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(worker.wait)
        stack.callback(worker.kill)
        wait_until(socket.exists, "extproc listens", 20)
