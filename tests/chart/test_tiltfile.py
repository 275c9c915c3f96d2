"""The Tiltfile, executed by a Starlark interpreter with stand-ins for Tilt's functions.

The stand-ins take the arguments that Tilt's take (https://docs.tilt.dev/api.html): an unknown one
is an error, as it is in Tilt.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import helm_python
import pytest
import starlark
import yaml

from thruway_operator.sources.files.documents import parse_documents
from thruway_operator.sources.files.manifests import read_manifests
from thruway_operator.translate import translate
from thruway_testing.product.chart import CHART, NAMESPACE, RELEASE
from thruway_testing.product.golden import resources_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TILTFILE = ROOT / "Tiltfile"


@dataclass
class Tilt:
    """What a Tiltfile has asked Tilt for."""

    paths: list[str] = field(default_factory=list)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: list[dict[str, Any]] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def helm(
        self,
        path_to_chart: str,
        *,
        name: str,
        namespace: str,
        set: list[str],  # noqa: A002
    ) -> str:
        """Like `helm template`, whose test pods Tilt leaves out."""
        self.paths.append(path_to_chart)
        assert (ROOT / path_to_chart, name, namespace) == (CHART, RELEASE, NAMESPACE)
        self.values = helm_python.parse_set_string(",".join(set))
        with helm_python.Chart.load(str(ROOT / path_to_chart)) as chart:
            found = chart.render(self.values, name=name, namespace=namespace)
        return "\n---\n".join(
            text for path, text in found.items() if path.endswith(".yaml") and "/tests/" not in path
        )

    def read_file(self, path: str) -> str:
        self.paths.append(path)
        return (ROOT / path).read_text("utf-8")

    def docker_build(
        self, ref: str, context: str, *, dockerfile_contents: str, live_update: list[Any]
    ) -> None:
        self.paths.append(context)
        self.images[ref] = {"dockerfile": dockerfile_contents, "live_update": live_update}

    def sync(self, local_path: str, remote_path: str) -> dict[str, str]:
        self.paths.append(local_path)
        return {"local": local_path, "remote": remote_path}

    def run(self, cmd: str) -> dict[str, str]:
        return {"run": cmd}

    def decode_yaml_stream(self, text: str) -> list[Any]:
        return [item for item in yaml.safe_load_all(text) if item]

    def encode_yaml_stream(self, objects: list[Any]) -> str:
        return yaml.safe_dump_all(objects)

    def k8s_yaml(self, text: str) -> None:
        self.objects += self.decode_yaml_stream(text)

    def k8s_resource(
        self,
        workload: str = "",
        *,
        new_name: str = "",
        objects: list[str] | None = None,
        port_forwards: list[Any] | None = None,
        resource_deps: list[str] | None = None,
        pod_readiness: str = "",
        labels: list[str] | None = None,
    ) -> None:
        assert pod_readiness in {"", "wait", "ignore"}
        assert bool(workload) != bool(objects)
        self.resources.append(
            {
                "name": new_name or workload,
                "workload": workload,
                "objects": objects or [],
                "ports": port_forwards or [],
                "needs": resource_deps or [],
                "labels": labels or [],
            }
        )

    def port_forward(self, local_port: int, container_port: int, *, name: str) -> dict[str, Any]:
        return {"local": local_port, "container": container_port, "name": name}

    def local_resource(
        self,
        name: str,
        cmd: list[str],
        *,
        deps: list[str] | None = None,
        resource_deps: list[str] | None = None,
        auto_init: bool = True,
        labels: list[str] | None = None,
    ) -> None:
        self.paths += deps or []
        self.commands.append(
            {"name": name, "cmd": cmd, "needs": resource_deps or [], "auto_init": auto_init}
        )
        assert labels


FUNCTIONS = [name for name in vars(Tilt) if not name.startswith("_") and callable(vars(Tilt)[name])]


@pytest.fixture(scope="module")
def tilt() -> Tilt:
    found = Tilt()
    module = starlark.Module()
    for name in FUNCTIONS:
        module.add_callable(name, getattr(found, name))
    dialect = starlark.Dialect.standard()
    dialect.enable_keyword_only_arguments = True
    dialect.enable_top_level_stmt = True
    tree = starlark.parse("Tiltfile", TILTFILE.read_text("utf-8"), dialect)
    starlark.eval(module, tree, starlark.Globals.standard())
    return found


def _named(tilt: Tilt, kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in tilt.objects if item["kind"] == kind}


def _containers(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    spec = deployment["spec"]["template"]["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_every_path_that_it_names_exists(tilt: Tilt) -> None:
    assert {"charts/thruway", "Dockerfile", ".", "operator/thruway_operator"} <= set(tilt.paths)
    assert [path for path in tilt.paths if not (ROOT / path).exists()] == []


def test_the_chart_takes_all_its_values(tilt: Tilt) -> None:
    """A value that the chart does not have would change nothing, and say nothing."""

    def unknown(given: Any, has: Any, path: str) -> Iterator[str]:
        if isinstance(given, dict):
            for key, value in given.items():
                if not isinstance(has, dict) or key not in has:
                    yield f"{path}{key}"
                else:
                    yield from unknown(value, has[key], f"{path}{key}.")

    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert list(unknown(tilt.values, defaults, "")) == []


def test_it_builds_the_charts_image(tilt: Tilt) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert set(tilt.images) == {values["image"]["repository"]}
    used = {
        container["image"].split(":")[0]
        for deployment in _named(tilt, "Deployment").values()
        for container in _containers(deployment)
    }
    assert set(tilt.images) <= used
    assert used - set(tilt.images) == {values["envoyImage"]["repository"]}


def test_it_names_what_is_deployed(tilt: Tilt) -> None:
    deployments = _named(tilt, "Deployment")
    assert {"thruway-operator", "thruway-gateway"} <= set(deployments)
    workloads = {resource["workload"] for resource in tilt.resources} - {""}
    assert workloads == set(deployments)
    there = {
        f"{item['metadata']['name']}:{item['kind']}:{item['metadata'].get('namespace', '')}"
        for item in tilt.objects
    }
    assert {name for resource in tilt.resources for name in resource["objects"]} <= there
    names = [entry["name"] for entry in (*tilt.resources, *tilt.commands)]
    assert len(set(names)) == len(names)
    for entry in (*tilt.resources, *tilt.commands):
        assert set(entry["needs"]) <= set(names)


def test_every_namespace_is_made(tilt: Tilt) -> None:
    used = {
        item["metadata"]["namespace"] for item in tilt.objects if "namespace" in item["metadata"]
    }
    assert used == set(_named(tilt, "Namespace"))


def test_the_gateway_is_where_the_demo_calls(tilt: Tilt) -> None:
    [gateway] = [entry for entry in tilt.resources if entry["name"] == "thruway-gateway"]
    [forward] = gateway["ports"]
    ports = [
        port["containerPort"]
        for container in _containers(_named(tilt, "Deployment")["thruway-gateway"])
        for port in container.get("ports", [])
    ]
    assert forward["container"] in ports
    [call] = [entry for entry in tilt.commands if entry["name"] == "demo-call"]
    path = _named(tilt, "PassthroughRoute")["demo"]["spec"]["path"]
    assert call["cmd"][-1].startswith(f"http://localhost:{forward['local']}{path}/")


def test_the_demos_route_is_good_and_the_gateway_takes_it(tilt: Tilt) -> None:
    route = _named(tilt, "PassthroughRoute")["demo"]
    secret = _named(tilt, "Secret")[route["spec"]["clientAuth"]["secretRef"]["name"]]
    documents, broken = parse_documents(yaml.safe_dump_all([route, secret]), "Tiltfile")
    manifests = read_manifests(documents)
    assert (broken, manifests.problems) == ([], [])
    [verdict] = translate(resources_of(manifests)).verdicts.values()
    assert verdict.good
    [key] = secret["stringData"].values()
    [call] = [entry for entry in tilt.commands if entry["name"] == "demo-call"]
    assert f"Authorization: Bearer {key}" in call["cmd"]
    assert route["spec"]["exposure"] == "Cluster"
    label, _, value = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["gateway"][
        "namespaceSelector"
    ].partition("=")
    namespace = _named(tilt, "Namespace")[route["metadata"]["namespace"]]
    assert namespace["metadata"]["labels"][label] == value
    host = re.fullmatch(r"http://([\w-]+)\.([\w-]+)\.svc.*:(\d+)", route["spec"]["upstream"]["url"])
    assert host is not None
    service = _named(tilt, "Service")[host[1]]
    assert service["metadata"]["namespace"] == host[2]
    assert [str(port["port"]) for port in service["spec"]["ports"]] == [host[3]]


def test_a_live_update_reaches_what_runs(tilt: Tilt) -> None:
    """Python must find the copies first, and the containers' user must be let write to them."""
    [image] = tilt.images.values()
    syncs = [step for step in image["live_update"] if "local" in step]
    assert {step["local"].split("/")[-1] for step in syncs} == {
        "thruway_extproc",
        "thruway_operator",
        "thruway_pod",
    }
    for step in syncs:
        assert f"COPY --chown=65532:65532 {step['local']} {step['remote']}\n" in image["dockerfile"]
        assert f"ENV PYTHONPATH={Path(step['remote']).parent}\n" in image["dockerfile"]
    for deployment in _named(tilt, "Deployment").values():
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            assert container["image"].split(":")[0] in tilt.images
            context = container.get("securityContext", {})
            assert not context.get("readOnlyRootFilesystem", False)
            assert container["command"][:2] == ["/bin/sh", "-c"]
            assert container["args"] == []


def test_hadolint_has_nothing_against_what_is_built(tilt: Tilt) -> None:
    [image] = tilt.images.values()
    command = [str(Path(sys.executable).with_name("hadolint")), "--failure-threshold=style", "-"]
    linted = subprocess.run(
        command, input=image["dockerfile"], capture_output=True, text=True, check=False
    )
    assert (linted.stdout + linted.stderr, linted.returncode) == ("", 0)


def _wrapped(tilt: Tilt, *command: str) -> list[str]:
    """Start a command as a container does after the Tiltfile has changed it."""
    [container] = _named(tilt, "Deployment")["thruway-operator"]["spec"]["template"]["spec"][
        "containers"
    ]
    begin = container["command"].index("thruway-operator")
    return [*container["command"][:begin], *command]


def _wait_for_lines(path: Path, count: int) -> list[str]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        lines = path.read_text("utf-8").split() if path.exists() else []
        if len(lines) >= count:
            return lines
        time.sleep(0.02)
    raise AssertionError(f"fewer than {count} starts")


def test_a_command_starts_again_when_told_and_ends_when_told(tilt: Tilt, tmp_path: Path) -> None:
    """`run` sends SIGUSR1 to process 1, whose command gets SIGTERM, ends, and starts again."""
    assert tilt.images["thruway/thruway"]["live_update"][-1] == {"run": "kill -USR1 1"}
    starts = tmp_path / "starts"
    program = (
        "import os, signal, sys, pathlib, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.1), sys.exit(0)))\n"
        f"open({str(starts)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        "signal.pause()\n"
    )
    shell = subprocess.Popen(_wrapped(tilt, sys.executable, "-c", program))
    try:
        _wait_for_lines(starts, 1)
        shell.send_signal(signal.SIGUSR1)
        _wait_for_lines(starts, 2)
        shell.send_signal(signal.SIGUSR1)
        assert len(set(_wait_for_lines(starts, 3))) == 3
        shell.send_signal(signal.SIGTERM)
        assert shell.wait(20) == 0
    finally:
        shell.kill()
        shell.wait()
    assert len(_wait_for_lines(starts, 3)) == 3


def test_a_command_that_ends_ends_its_container(tilt: Tilt) -> None:
    """However soon it ends: the shell may know before it is asked."""
    command = _wrapped(tilt, "exit", "7")
    codes = {subprocess.run(command, check=False).returncode for _ in range(300)}
    assert codes == {7}
