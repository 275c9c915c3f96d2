"""The objects of `doctored` in a real API server, with a real operator and a real sidecar.

There is no kubelet: what it would write of pods is planted.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from thruway_testing.plane.cluster_user import CREDENTIAL, User
from thruway_testing.plane.kubernetes.pods import Pod, ensure_service_account
from thruway_testing.plane.pod_network import PodNetwork
from thruway_testing.product import doctored as d
from thruway_testing.product.sidecar import Sidecar
from thruway_testing.product.up import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.plane.operator_process import Installation, Replica

__all__ = ["Town"]

HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
ROOTS = {"endpointslices": "/apis/discovery.k8s.io/v1", "replicasets": "/apis/apps/v1"}
HEALTH = [sys.executable, "-I", "-m", "thruway_pod", "serve"]


class Town:
    """A context manager: namespace, operator, webhook, CA, route `openai` and pod `web`."""

    def __init__(
        self, plane: ControlPlane, namespace: str, installation: Installation, replica: Replica
    ) -> None:
        self.plane, self.api = plane, plane.api
        self.namespace = namespace
        self.installation, self.replica = installation, replica
        self.home = installation.namespace
        self.injector = f"{namespace}-injector"
        self.user = User(plane.api, namespace)
        self.ca = installation.authorities.read_text()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="thruway-town-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.network = stack.enter_context(PodNetwork(self.api, self.folder))
            self.label("enabled")
            for where in (self.namespace, self.home):
                ensure_service_account(self.api, where, "app")
                self.post(d.config_map(where, self.ca), "configmaps")
            watch = f"--watch-namespace={self.namespace}"
            self.operator = self.pod(d.operator_pod(self.home, "labelled", watch))
            stack.callback(self.operator.delete)
            self.network.ports["labelled", 8080] = lambda: self.replica.health_port
            for service in (self.injector, "thruway-operator"):
                self.post(d.service(self.home, service), "services")
                self.post(d.endpoint_slice(self.home, service), "endpointslices")
            self.post_webhook()
            stack.callback(self.api.call, "DELETE", f"{HOOKS}/{self.injector}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def serve(self, url: str, key: str) -> None:
        """Have a route to that upstream, with that key, served by the sidecar of a pod `web`."""
        self.user.secret(OPENAI_API_KEY=key)
        self.user.apply("openai", url, credential=CREDENTIAL)
        self.web = self._stack.enter_context(self.sidecar("web"))
        self.web.wait_ready()
        self.user.wait_programmed("openai")

    @contextlib.contextmanager
    def sidecar(self, name: str, **options: Any) -> Iterator[Sidecar]:
        """Plant a pod that runs, and play its sidecar: a real Envoy and `thruway-pod serve`."""
        pod = self.pod(d.sidecar_pod(self.namespace, name, home=self.home))
        given = {"authorities": self.installation.authorities, **options}
        try:
            with (
                Sidecar(pod, operators=[self.replica.address], **given) as car,
                _health(car) as port,
            ):
                self.network.ports[name, 4001] = port
                self.network.logs[name, "thruway-envoy"] = lambda: car.envoy.log
                yield car
        finally:
            pod.delete()

    def pod(self, item: d.Object) -> Pod:
        """Create a pod, and have it run as its status says."""
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        status = item.pop("status")
        item["spec"]["serviceAccountName"] = "app"
        made = self.post(item, "pods")
        self.api.merge(self.path("pods", name, namespace) + "/status", {"status": status})
        return Pod(self.api, namespace, name, "app", made["metadata"]["uid"])

    def pod_status(self, name: str, container: str, state: d.Object) -> None:
        """Change what kubelet says of a container of a pod's sidecar."""
        path = self.path("pods", name)
        status = self.api.get(path)["status"]
        (found,) = (x for x in status["initContainerStatuses"] if x["name"] == container)
        found.update(state)
        self.api.merge(f"{path}/status", {"status": status})

    def label(self, value: str | None) -> None:
        """Set the label of the namespace."""
        labels = {"thruway.dev/inject": value}
        self.api.merge(f"/api/v1/namespaces/{self.namespace}", {"metadata": {"labels": labels}})

    def post(self, item: d.Object, plural: str) -> d.Object:
        """Create an object; what only the API server may say is left out."""
        metadata = {
            key: value
            for key, value in item["metadata"].items()
            if key not in {"uid", "creationTimestamp"}
        }
        collection = self.path(plural, "", item["metadata"]["namespace"])
        made: d.Object = self.api.post(collection, {**item, "metadata": metadata})
        return made

    def post_webhook(self, **changed: Any) -> None:
        """Create or replace the webhook configuration; pods with a sidecar pass it."""
        of = "object.metadata.annotations"
        passes = f"!(has({of}) && 'thruway.dev/injected' in {of})"
        condition = {"name": "not-yet", "expression": passes}
        given = {"ca": self.ca, "matchConditions": [condition], "timeoutSeconds": 1, **changed}
        item = d.webhook(self.injector, self.home, only=self.namespace, **given)
        item["metadata"].pop("creationTimestamp")
        there = self.api.call("GET", f"{HOOKS}/{self.injector}")
        if there.status_code == 404:
            self.api.post(HOOKS, item)
        else:
            item["metadata"] = there.json()["metadata"]
            self.api.put(f"{HOOKS}/{self.injector}", item)

    def delete_webhook(self) -> None:
        """Take the webhook configuration away."""
        self.api.delete(f"{HOOKS}/{self.injector}")

    def path(self, plural: str, name: str = "", namespace: str = "") -> str:
        """Return where an object is, of the namespace unless another is named."""
        root = ROOTS.get(plural, "/api/v1")
        whole = f"{root}/namespaces/{namespace or self.namespace}/{plural}/{name}"
        return whole.removesuffix("/")


@contextlib.contextmanager
def _health(car: Sidecar) -> Iterator[int]:
    """Run `thruway-pod serve` beside that Envoy; yield its port."""
    folder = car.folder / "pod"
    folder.mkdir()
    (folder / "admin.sock").symlink_to(car.envoy.folder / "admin.sock")
    log = folder / "log"
    command = [*HEALTH, "--folder", str(folder), "--health-listen", "127.0.0.1:0"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        found = wait_until(lambda: re.search(r"on port (\d+)", log.read_text()), "it says its port")
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(20)
