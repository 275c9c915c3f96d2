"""One etcd and one kube-apiserver as child processes, on free ports, in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from thruway_operator.laptop.process.reaper import Reaper
from thruway_testing.plane.kubernetes.api import Api
from thruway_testing.plane.kubernetes.pki import Authority

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thruway_testing.plane.kubernetes.binaries import Binaries

__all__ = ["ControlPlane", "ControlPlaneError", "free_ports"]

_HOST = "127.0.0.1"
_PATIENCE = 60.0


class ControlPlaneError(AssertionError):
    """A part of it ended or did not come up; the message ends with its log."""


class ControlPlane:
    """RBAC on, NodeRestriction on, ServiceAccount tokens and TokenReview as in any cluster.

    There is no controller manager: no default ServiceAccounts, no garbage collection, and a
    deleted namespace stays Terminating.
    """

    def __init__(self, binaries: Binaries) -> None:
        self._binaries = binaries
        self.folder = Path()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="thruway-kubernetes-"))
        self._reaper = Reaper()
        self._reaper.remove_later(str(self.folder))
        self.authority = Authority(self.folder / "pki")
        self._serving = self.authority.issue(
            "apiserver", "kube-apiserver", hosts=[_HOST, "10.96.0.1", "localhost"]
        )
        try:
            self._start_etcd()
            self.port = free_ports(1)[0]
            self.server = f"https://{_HOST}:{self.port}"
            self._admin = self.authority.issue("admin", "admin", ["system:masters"])
            self.api = Api(self.server, self.authority.certificate, self._admin)
            self.start_api_server()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("apiserver", "etcd"):
            self._kill(name)
        if hasattr(self, "api"):
            self.api.close()
        self._reaper.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def admin_kubeconfig(self) -> Path:
        """A kubeconfig that may do everything."""
        return self.kubeconfig("admin", ["system:masters"])

    def kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Return a kubeconfig with a client certificate of this user."""
        path = self.folder / f"{user}.kubeconfig"
        if not path.exists():
            certificate, key = self.authority.issue(f"user-{user}", user, groups)
            login = {"client-certificate": str(certificate), "client-key": str(key)}
            path.write_text(self._kubeconfig(login), encoding="utf-8")
        return path

    def kubeconfig_for_token(self, token: Path) -> Path:
        """Return a kubeconfig that sends what is in this file, as pods do."""
        path = token.with_name(f"{token.name}.kubeconfig")
        path.write_text(self._kubeconfig({"tokenFile": str(token)}), encoding="utf-8")
        return path

    def _kubeconfig(self, login: dict[str, str]) -> str:
        cluster = {"server": self.server, "certificate-authority": str(self.authority.certificate)}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "test", "user": login}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "current-context": "test",
            }
        )

    def start_api_server(self, *extra: str) -> None:
        """Start it, on the port that it always had, and wait until it is ready."""
        certificate, key = self._serving
        signing = self.authority.service_account_key
        self._start(
            "apiserver",
            [
                str(self._binaries.kube_apiserver),
                f"--etcd-servers=http://{_HOST}:{self._etcd_port}",
                f"--bind-address={_HOST}",
                f"--advertise-address={_HOST}",
                f"--secure-port={self.port}",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--client-ca-file={self.authority.certificate}",
                f"--tls-cert-file={certificate}",
                f"--tls-private-key-file={key}",
                f"--service-account-key-file={signing}",
                f"--service-account-signing-key-file={signing}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--endpoint-reconciler-type=none",
                "--profiling=false",
                *extra,
            ],
        )
        self._wait("apiserver", self.api.is_ready)

    def kill_api_server(self) -> None:
        """Kill it; etcd and all data stay."""
        self._kill("apiserver")

    def pause_api_server(self) -> None:
        """Freeze it: connections stay open, nothing is answered."""
        self._processes["apiserver"].send_signal(19)

    def resume_api_server(self) -> None:
        """Let a frozen one go on."""
        self._processes["apiserver"].send_signal(18)

    def log(self, name: str) -> str:
        """Return what `etcd` or `apiserver` has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _start_etcd(self) -> None:
        # A port may be taken by another between our looking and etcd's binding.
        for _ in range(5):
            self._etcd_port, peers = free_ports(2)
            client = f"http://{_HOST}:{self._etcd_port}"
            peer = f"http://{_HOST}:{peers}"
            self._start(
                "etcd",
                [
                    str(self._binaries.etcd),
                    *("--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync"),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", f"default={peer}"),
                ],
            )
            try:
                self._wait("etcd", lambda: _listens(self._etcd_port))
            except ControlPlaneError:
                if "address already in use" not in self.log("etcd"):
                    raise
                self._kill("etcd")
                continue
            return
        raise ControlPlaneError(self.log("etcd")[-4000:])

    def compact(self) -> None:
        """Make etcd forget all past revisions, so that whoever watches from one gets 410.

        The API server answers from a cache of its own: restart it, too, for that.
        """
        url = f"http://{_HOST}:{self._etcd_port}/v3/kv"
        found = self.api.post_url(f"{url}/range", {"key": "AA==", "limit": "1"})
        revision = found["header"]["revision"]
        self.api.post_url(f"{url}/compaction", {"revision": revision, "physical": True})

    def _start(
        self,
        name: str,
        command: list[str],
        *,
        path: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                executable=path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,
            )
        self._processes[name] = process
        self._reaper.add(process.pid)

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()
            self._reaper.discard(process.pid)

    def _wait(self, name: str, condition: object) -> None:
        deadline = time.monotonic() + _PATIENCE
        assert callable(condition)
        while not condition():
            ended = self._processes[name].poll()
            if ended is not None or time.monotonic() > deadline:
                what = "does not come up" if ended is None else f"ended with {ended}"
                raise ControlPlaneError(f"{name} {what}\n{self.log(name)[-4000:]}")
            time.sleep(0.02)


def _listens(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def free_ports(number: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody had a moment ago."""
    sockets = [socket.create_server((_HOST, 0)) for _ in range(number)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports
