"""One real node beside a control plane: pods run, Services and DNS lead to them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.kubernetes.binaries import Binaries
from thruway_testing.plane.kubernetes.control_plane import ControlPlane, free_ports
from thruway_testing.plane.kubernetes.kubectl import Kubectl
from thruway_testing.plane.node.cleanup import ADDRESS, DNS, sweep

if TYPE_CHECKING:
    from thruway_testing.plane.node.images import Images

__all__ = ["Node"]

_PREFIX = str(Path(tempfile.gettempdir()) / "thruway-kubernetes-")
_LOCK = Path(tempfile.gettempdir()) / "thruway-node.lock"


class Node(ControlPlane):
    """A control plane with a node named `localhost`; one at a time on a machine.

    It is one machine's network: what another left behind is taken away first, and what this one
    leaves at the end.
    """

    def __init__(self, programs: dict[str, Path], images: Images) -> None:
        super().__init__(Binaries(programs["kube-apiserver"], programs["etcd"]))
        self._programs = programs
        self._images = images

    def __enter__(self) -> Self:
        self._lock = _LOCK.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        sweep(_PREFIX)
        for address in (ADDRESS, DNS):
            subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
        super().__enter__()
        try:
            self._start_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("kubelet", "proxy", "coredns", "manager", "scheduler"):
            self._kill(name)
        if "containerd" in self._processes:
            with contextlib.suppress(subprocess.CalledProcessError):
                for task in self.ctr("tasks", "ls", "-q").split():
                    self.ctr("tasks", "rm", "-f", task)
        self._kill("containerd")
        sweep(str(self.folder))
        super().__exit__()
        sweep(_PREFIX)
        self._lock.close()

    def start_api_server(self, *extra: str) -> None:
        """Start it as nodes and pods need it."""
        client, key = self.authority.issue("kubelet-client", "kubelet-client", ["system:masters"])
        super().start_api_server(
            "--bind-address=0.0.0.0",
            f"--advertise-address={ADDRESS}",
            "--endpoint-reconciler-type=lease",
            "--allow-privileged=true",
            # The machine's own name may not resolve.
            "--kubelet-preferred-address-types=Hostname",
            f"--kubelet-client-certificate={client}",
            f"--kubelet-client-key={key}",
            *extra,
        )

    @property
    def socket(self) -> Path:
        """Of containerd."""
        return self.folder / "ctd.sock"

    def kubectl(self, namespace: str = "default") -> Kubectl:
        """Return kubectl that may do everything."""
        return Kubectl(self.admin_kubeconfig, namespace)

    def ctr(self, *arguments: str) -> str:
        """Run containerd's client; return what it printed."""
        command = [str(self._programs["ctr"]), "-a", str(self.socket), "-n", "k8s.io", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def load(self, image: str, name: str = "") -> None:
        """Bring an image of `images` onto the node, under another name if one is given."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            archive = Path(folder) / "image.tar"
            self._images.save(image, archive, name or image)
            self.ctr("images", "import", str(archive))

    def processes(self, pod: dict[str, Any], container: str) -> list[int]:
        """Return the ids, on this machine, of the processes of an init container that stays."""
        states = pod["status"]["initContainerStatuses"]
        (identity,) = (item["containerID"] for item in states if item["name"] == container)
        _, *lines = self.ctr("tasks", "ps", identity.rpartition("/")[2]).splitlines()
        return [int(line.split()[0]) for line in lines]

    def logs(self) -> str:
        """Return the ends of what all programs logged."""
        return "\n".join(
            f"--- {path.stem}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def _start_node(self) -> None:
        self._start_controllers()
        self._start_containerd()
        self._start_kubelet()
        self._start_network()
        kubectl = self.kubectl()

        def ready() -> bool:
            found = kubectl.run("get", "node", "localhost", "--no-headers", check=False).stdout
            return found.split()[1:2] == ["Ready"]

        try:
            wait_until(ready, "the node is Ready", 90)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error

    def _start_controllers(self) -> None:
        authority = self.authority
        manager, scheduler = free_ports(2)
        self._start(
            "manager",
            [
                str(self._programs["kube-controller-manager"]),
                f"--kubeconfig={self.kubeconfig('system:kube-controller-manager')}",
                f"--service-account-private-key-file={authority.service_account_key}",
                f"--root-ca-file={authority.certificate}",
                "--use-service-account-credentials",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={manager}",
            ],
        )
        self._start(
            "scheduler",
            [
                str(self._programs["kube-scheduler"]),
                f"--kubeconfig={self.kubeconfig('system:kube-scheduler')}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={scheduler}",
            ],
        )

    def _start_containerd(self) -> None:
        folder = self.folder / "ctd"
        cni = self.folder / "cni"
        for item in (folder, cni):
            item.mkdir()
        (cni / "10-ptp.conflist").write_text(json.dumps(_cni(self.folder / "ipam")))
        shim = self._programs["containerd-shim-runc-v2"]
        config = self.folder / "containerd.toml"
        config.write_text(_CONTAINERD.format(folder=folder, socket=self.socket, cni=cni))
        self._start(
            "containerd",
            ["containerd", "-c", str(config)],
            path=self._programs["containerd"],
            env={"PATH": f"{shim.parent}:{os.environ['PATH']}"},
        )

        def answers() -> bool:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.ctr("version")
                return True
            return False

        self._wait("containerd", answers)
        self.load(self._images.pause())

    def _start_kubelet(self) -> None:
        folder = self.folder / "kubelet"
        folder.mkdir()
        port, health = free_ports(2)
        config = self.folder / "kubelet.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kubelet.config.k8s.io/v1beta1",
                    "kind": "KubeletConfiguration",
                    "address": "127.0.0.1",
                    "port": port,
                    "readOnlyPort": 0,
                    "healthzPort": health,
                    "authentication": {
                        "anonymous": {"enabled": False},
                        "webhook": {"enabled": True},
                        "x509": {"clientCAFile": str(self.authority.certificate)},
                    },
                    "authorization": {"mode": "Webhook"},
                    "cgroupDriver": "cgroupfs",
                    "cgroupsPerQOS": False,
                    "enforceNodeAllocatable": [],
                    "failSwapOn": False,
                    "failCgroupV1": False,
                    "containerRuntimeEndpoint": f"unix://{self.socket}",
                    "clusterDNS": [DNS],
                    "clusterDomain": "cluster.local",
                    # ConfigMaps and Secrets reach pods soon.
                    "syncFrequency": "5s",
                    # However full the machine's disk is: nothing is to be evicted.
                    "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%"},
                    "imageMaximumGCAge": "0s",
                    "imageGCHighThresholdPercent": 100,
                }
            )
        )
        self._start(
            "kubelet",
            [
                str(self._programs["kubelet"]),
                f"--config={config}",
                f"--kubeconfig={self.kubeconfig('system:node:localhost', ['system:nodes'])}",
                "--hostname-override=localhost",
                f"--root-dir={folder}",
                f"--cert-dir={folder / 'pki'}",
            ],
        )

    def _start_network(self) -> None:
        health, metrics = free_ports(2)
        config: dict[str, Any] = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(self.admin_kubeconfig)},
            "clusterCIDR": "10.244.0.0/16",
            "hostnameOverride": "localhost",
            "conntrack": {"maxPerCore": 0, "min": 0},
            "healthzBindAddress": f"127.0.0.1:{health}",
            "metricsBindAddress": f"127.0.0.1:{metrics}",
        }
        path = self.folder / "proxy.yaml"
        path.write_text(yaml.safe_dump(config))
        self._start("proxy", [str(self._programs["kube-proxy"]), f"--config={path}"])
        corefile = self.folder / "Corefile"
        corefile.write_text(_COREDNS.format(address=DNS, kubeconfig=self.admin_kubeconfig))
        self._start("coredns", [str(self._programs["coredns"]), "-conf", str(corefile)])


_COREDNS = """\
.:53 {{
  bind {address}
  errors
  kubernetes cluster.local {{
    kubeconfig {kubeconfig}
    ttl 1
  }}
}}
"""

# Without restrict_oom_score_adj runc dies where CAP_SYS_RESOURCE is missing.
_CONTAINERD = """\
version = 3
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{cni}"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


def _cni(data: Path) -> dict[str, Any]:
    # ptp, not bridge: Services reach pods of the same node without br_netfilter.
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": "10.244.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(data),
    }
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
