"""Thruway installed on a node by the real Helm, and what its users do there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.node.images import ENVOY, ROOT, THRUWAY
from thruway_testing.product.chart import CHART, NAMESPACE, RELEASE
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from thruway_testing.plane.node.node import Node

__all__ = ["CHAT", "UPSTREAM", "Release", "client", "route", "upstream", "values"]

CHAT = """
import openai
stream = openai.OpenAI().chat.completions.create(
    model="gpt-5", messages=[{"role": "user", "content": "hello"}], stream=True)
for chunk in stream:
    for choice in chunk.choices:
        print("chunk", choice.delta.content or "", flush=True)
print("done")
"""
"""An application: what it has to know is in its environment."""

UPSTREAM = "http://upstream.upstream.svc:8080"
"""Where `upstream` is."""

_SMALL = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


def _image(name: str) -> dict[str, str]:
    repository, _, tag = name.rpartition(":")
    return {"repository": repository, "tag": tag, "pullPolicy": "Never"}


def values(image: str = THRUWAY, **gateway: Any) -> dict[str, Any]:
    """Return the values of a small machine; clusters have private upstreams alone in tests."""
    return {
        "image": _image(image),
        "envoyImage": _image(ENVOY),
        "operator": {"resources": _SMALL},
        "gateway": {
            "enabled": True,
            "allowPrivateUpstreams": True,
            "envoy": {"resources": _SMALL, "concurrency": 1},
            "extproc": {"resources": _SMALL},
            "drain": {"atMostSeconds": 30},
            **gateway,
        },
    }


@dataclass
class Release:
    """One release of the chart."""

    node: Node
    helm: Path
    namespace: str = NAMESPACE

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Helm."""
        return subprocess.run(
            [str(self.helm), *arguments, "--namespace", self.namespace],
            env={
                "KUBECONFIG": str(self.node.admin_kubeconfig),
                "HOME": str(self.node.folder),
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            check=check,
        )

    def upgrade(self, given: dict[str, Any], chart: Path = CHART, *, wait: bool = True) -> None:
        """Install or upgrade it, and wait until all its pods are ready unless told otherwise."""
        file = self.node.folder / "values.json"
        file.write_text(json.dumps(given))
        done = self.run(
            *("upgrade", RELEASE, str(chart), "--install", "--create-namespace"),
            *("--values", str(file)),
            *(("--wait", "--timeout", "240s") if wait else ()),
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{done.stderr}\n{self.state()}")

    def typed(self, commands: str, folder: Path) -> str:
        """Type commands of our documentation at the repository's root; return what they print.

        `folder` is the user's home.
        """
        programs = folder / "bin"
        programs.mkdir(exist_ok=True)
        if not (programs / "helm").exists():
            (programs / "helm").symlink_to(self.helm)
        done = subprocess.run(
            ["sh", "-e", "-c", commands],
            cwd=ROOT,
            env={
                "KUBECONFIG": str(self.node.admin_kubeconfig),
                "HOME": str(folder),
                "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.state()}"
        return done.stdout

    def state(self) -> str:
        """Return what somebody on call would look at."""
        kubectl = self.node.kubectl(self.namespace)
        parts = [
            kubectl.run("get", "pods,events", "-o", "wide", check=False).stdout[-6000:],
            kubectl.run("describe", "pods", check=False).stdout[-6000:],
        ]
        for component in ("operator", "gateway"):
            label = f"app.kubernetes.io/component={component}"
            logs = ("logs", "--selector", label, "--all-containers", "--prefix", "--tail=40")
            parts.append(kubectl.run(*logs, check=False).stdout[-6000:])
        return "\n".join(parts)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of `operator` or `gateway` that are not about to end."""
        label = f"app.kubernetes.io/component={component}"
        found = self.node.kubectl(self.namespace).get_json("pods", "--selector", label)
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    def rolled_out(self, component: str) -> None:
        """Wait until a Deployment is what it should be, and its old pods are gone."""
        kubectl = self.node.kubectl(self.namespace)
        name = f"deployment/{RELEASE}-{component}"
        kubectl.run("rollout", "status", name, "--timeout=55s")
        label = f"app.kubernetes.io/component={component}"

        def settled() -> bool:
            found = kubectl.get_json("pods", "--selector", label)["items"]
            return not any("deletionTimestamp" in pod["metadata"] for pod in found)

        wait_until(settled, f"the old pods of the {component} have ended", 90)

    @property
    def url(self) -> str:
        """The gateway's Service, by its address."""
        service = self.node.kubectl(self.namespace).get_json("svc", f"{RELEASE}-gateway")
        return f"http://{service['spec']['clusterIP']}:4000"


def upstream(image: str) -> list[dict[str, Any]]:
    """Return an upstream that speaks OpenAI's API, as a Deployment and a Service `upstream`."""
    labels = {"app": "upstream"}
    container = {
        "name": "upstream",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-m", "thruway_testing.upstreams.openai_upstream"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        **_locked(),
    }
    spec = {"containers": [container], **_pod()}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "upstream"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "upstream"},
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
    ]


def route(
    path: str = "/openai_passthrough", key: str = CANARY_KEY, **spec: Any
) -> list[dict[str, Any]]:
    """Return a route to it for the gateway, and its Secrets: clients present `tw-<path>`."""
    return [
        _secret("openai", OPENAI_API_KEY=key),
        _secret("clients", web=f"tw-{path.strip('/')}"),
        {
            "apiVersion": "thruway.dev/v1alpha1",
            "kind": "PassthroughRoute",
            "metadata": {"name": "openai"},
            "spec": {
                "path": path,
                "provider": "openai",
                "upstream": {"url": UPSTREAM},
                "credential": {"secretKeyRef": {"name": "openai", "key": "OPENAI_API_KEY"}},
                "clientAuth": {"type": "APIKey", "secretRef": {"name": "clients"}},
                "exposure": "Cluster",
                **spec,
            },
        },
    ]


def client(image: str, name: str, code: str, **environment: str) -> dict[str, Any]:
    """Return a pod that runs Python code once."""
    container = {
        "name": "app",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", code],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        **_locked(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "restartPolicy": "Never", **_pod()},
    }


def _secret(name: str, **entries: str) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": entries}


def _pod() -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 2,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _locked() -> dict[str, Any]:
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {"securityContext": context, "resources": {"requests": {"cpu": "10m"}}}
