"""The real operator as child processes: the chart's rights, tokens of real pods, one certificate.

An `Installation` is what the chart would set up in a namespace of its own; a `Replica` is one
process of it, at a port that stays when it is started again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import helm_python
import httpx
import yaml

from thruway_operator.laptop.process.reaper import Reaper
from thruway_testing.plane.kubernetes.pods import AUDIENCE, Pod, create_pod, ensure_namespace
from thruway_testing.product.up import base_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

__all__ = ["Installation", "Replica"]

CHART = Path(__file__).parents[4] / "charts" / "thruway"
SERVER_NAME = "thruway-operator"
API_AUDIENCE = "https://kubernetes.default.svc"
_HOST = "127.0.0.1"
_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


class Installation:
    """The operator's ServiceAccount and rights, as the chart has them, and its replicas.

    `watch` are the namespaces that it watches; empty: all. `own_certificates`: its replicas make
    their certificates themselves, each with files of its own. `injector`: more of the chart's
    values for the injector; None: there is none. Its webhook leads to the replica that was started
    last.
    """

    def __init__(
        self,
        plane: ControlPlane,
        *,
        watch: Sequence[str] = (),
        gateway: bool = False,
        own_certificates: bool = False,
        injector: dict[str, Any] | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        self._injector = injector
        self._images = images or {}
        self.own_certificates = own_certificates
        self.plane = plane
        self.watch = list(watch)
        self.gateway = gateway
        self.namespace = f"thruway-{uuid.uuid4().hex[:8]}"
        # The release is named after the namespace: names of cluster-wide objects hold it.
        self.service_account = f"{self.namespace}-operator"
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        with self._stack:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="thruway-op-"))
            self.folder = Path(folder)
            hosts = [SERVER_NAME, _HOST, "localhost", f"{self.injector_name}.{self.namespace}.svc"]
            self.certificate, self.key = self.plane.authority.issue(
                f"xds-{self.namespace}", SERVER_NAME, hosts=hosts
            )
            ensure_namespace(self.plane.api, self.namespace)
            self.grant()
            self._reaper = Reaper()
            self._stack.callback(self._reaper.close)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self._injector is not None:
            self.plane.api.call("DELETE", self.webhook_path)
        self.revoke()
        self._stack.close()

    @property
    def authorities(self) -> Path:
        """The CA that issued the certificate of xDS."""
        return self.plane.authority.certificate

    def grant(self) -> None:
        """Apply the rights that the chart gives the operator."""
        for item in self._rights():
            self.plane.api.apply(_path(item), item)

    def revoke(self) -> None:
        """Take its rights away, but for its ServiceAccount."""
        # Bindings first: one whose role is gone makes the API server explain that, for a moment.
        for item in sorted(self._rights(), key=lambda item: not item["kind"].endswith("Binding")):
            if item["kind"] != "ServiceAccount":
                self.plane.api.call("DELETE", _path(item))

    def _rights(self) -> list[dict[str, Any]]:
        return self._rendered("operator-rbac", *(["operator-certificates"] * self.own_certificates))

    def _rendered(self, *names: str) -> list[dict[str, Any]]:
        values = {
            "watchNamespaces": self.watch,
            "gateway": {"enabled": self.gateway},
            "injector": {"enabled": self._injector is not None, **(self._injector or {})},
            **self._images,
        }
        with helm_python.Chart.load(str(CHART)) as chart:
            rendered = chart.render(values, name=self.namespace, namespace=self.namespace)
        texts = [rendered[f"thruway/templates/{name}.yaml"] for name in names]
        return [item for text in texts for item in yaml.safe_load_all(text) if item]

    @property
    def injector_name(self) -> str:
        """Name of the webhook's configuration and Service."""
        return f"{self.namespace}-injector"

    @property
    def webhook_path(self) -> str:
        """Where the webhook's configuration is."""
        return f"{_CONFIGURATIONS}/{self.injector_name}"

    def injector_arguments(self, port: int) -> list[str]:
        """Return what the chart tells the operator of its injector, but for the port."""
        if self._injector is None:
            return []
        (deployment,) = self._rendered("operator-deployment")
        arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        found = [item for item in arguments if item.startswith("--inject-")]
        return [*found, f"--inject-listen={_HOST}:{port}"]

    def lead_webhook_to(self, port: int) -> None:
        """Apply the chart's webhook. There is no network of Services: its name leads here."""
        configuration, service = self._rendered("injector")
        for webhook in configuration["webhooks"]:
            webhook["clientConfig"]["service"]["port"] = port
        service["spec"] = {"type": "ExternalName", "externalName": "localhost"}
        self.plane.api.apply(self.webhook_path, configuration)
        namespace = f"/api/v1/namespaces/{self.namespace}"
        self.plane.api.apply(f"{namespace}/services/{self.injector_name}", service)

    def replica(self, *arguments: str, kubeconfig: Path | None = None) -> Replica:
        """Return another replica, not started yet."""
        number = next(self._numbers)
        pod = create_pod(self.plane.api, self.namespace, f"operator-{number}", self.service_account)
        replica = Replica(self, pod, _free_port(), list(arguments), self._reaper, kubeconfig)
        if self._injector is not None:
            self.lead_webhook_to(replica.injector_port)
        self._stack.callback(replica.kill)
        return replica


class Replica:
    """One operator process. Starting it again gives it the same pod, and the same port."""

    def __init__(
        self,
        installation: Installation,
        pod: Pod,
        port: int,
        arguments: list[str],
        reaper: Reaper,
        kubeconfig: Path | None,
    ) -> None:
        self.pod = pod
        self.port = port
        self.address = (_HOST, port)
        self.injector_port = _free_port()
        self._installation = installation
        self._arguments = arguments
        self._reaper = reaper
        self._process: subprocess.Popen[bytes] | None = None
        folder = installation.folder / pod.name
        folder.mkdir()
        self._log = folder / "log"
        self._token = folder / "xds-token"
        self._token.write_text(pod.token(AUDIENCE))
        api_token = folder / "api-token"
        api_token.write_text(pod.token(API_AUDIENCE))
        self._kubeconfig = kubeconfig or installation.plane.kubeconfig_for_token(api_token)

    def start(self) -> Self:
        """Start it; returns at once."""
        installation = self._installation
        watched = [f"--watch-namespace={name}" for name in installation.watch]
        command = [
            str(Path(sys.executable).with_name("thruway-operator")),
            f"--replica={self.pod.name}",
            f"--namespace={self.pod.namespace}",
            f"--service-account={self.pod.service_account}",
            f"--address={_HOST}:{self.port}",
            f"--xds-listen={_HOST}:{self.port}",
            f"--health-listen={_HOST}:0",
            *self._certificates(),
            f"--token={self._token}",
            f"--kubeconfig={self._kubeconfig}",
            *watched,
            *installation.injector_arguments(self.injector_port),
            *self._arguments,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=base_environment(),
                start_new_session=True,
            )
        self._reaper.add(self._process.pid)
        return self

    def _certificates(self) -> list[str]:
        installation = self._installation
        if installation.own_certificates:
            name = installation.namespace
            return [
                f"--tls-secret={name}-operator-tls",
                f"--tls-config-map={name}-ca",
                f"--tls-folder={self.tls_folder}",
            ]
        return [
            f"--tls-certificate={installation.certificate}",
            f"--tls-key={installation.key}",
            f"--tls-authorities={installation.authorities}",
        ]

    @property
    def tls_folder(self) -> Path:
        """Where it puts certificates that it makes itself."""
        return self._log.parent / "tls"

    @property
    def log(self) -> str:
        """All that it has logged, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def health_port(self) -> int:
        """Where the newest start of it serves /healthz and /readyz; 0 while it is not known."""
        found = [line for line in self.log.splitlines() if ": health on port " in line]
        return int(found[-1].split("health on port ")[1].split(",")[0]) if found else 0

    def health(self, path: str = "/readyz") -> tuple[int, dict[str, Any]]:
        """Return status and body of a health path; (0, {}) while nobody answers."""
        port = self.health_port
        try:
            answer = httpx.get(f"http://{_HOST}:{port}{path}", trust_env=False, timeout=5)
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()

    def is_ready(self) -> bool:
        """Whether it serves proxies; raise AssertionError with its log if it has ended."""
        assert self.exit_code is None, f"the operator ended with {self.exit_code}:\n{self.log}"
        return self.health_port != 0 and self.health()[0] == 200

    def wait_ready(self) -> Self:
        """Wait until it serves proxies."""
        try:
            wait_until(self.is_ready, "the operator is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[-4000:]}") from error
        return self

    def kill(self) -> None:
        """`kill -9`, if it runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Tell it to end, and wait; return its exit code."""
        return self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze it."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
        code = process.wait(30)
        self._reaper.discard(process.pid)
        return code


def _path(item: dict[str, Any]) -> str:
    plural = f"{item['kind'].lower()}s"
    group = item["apiVersion"]
    root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    namespace = item["metadata"].get("namespace")
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{plural}/{item['metadata']['name']}"


def _free_port() -> int:
    """Return a port below those that the system gives to outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server((_HOST, port)):
            return port
