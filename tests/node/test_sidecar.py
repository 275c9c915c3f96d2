"""Pods in a labelled namespace: the application knows nothing, and its calls are answered."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.node.images import ROOT, USER
from thruway_testing.plane.node.release import CHAT, UPSTREAM, client, route
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, NEXT_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thruway_testing.plane.kubernetes.kubectl import Kubectl
    from thruway_testing.plane.node.images import Images
    from thruway_testing.plane.node.node import Node
    from thruway_testing.plane.node.release import Release

NAMESPACE = "works"
ROUTE = "examples/sidecar/route.yaml"
AWAY = float(os.environ.get("THRUWAY_AWAY_SECONDS", "15"))
"""For how long the operator is gone."""
PROGRAM = ["python3", "-m", "thruway_testing.plane.node.application"]


@pytest.fixture(scope="module")
def kubectl(node: Node, release: Release, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl in a namespace with restricted Pod Security, once README's commands were typed."""
    found = node.kubectl(NAMESPACE)
    found.run("create", "namespace", NAMESPACE)
    found.run("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    folder = tmp_path_factory.mktemp("user")
    (commands,) = re.findall(
        r"^```sh\n(kubectl label namespace shop .*?)^```$",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert len(commands.splitlines()) == 3
    item = yaml.safe_load((ROOT / ROUTE).read_text())
    item["spec"]["upstream"] = {"url": UPSTREAM}  # the real one is out of reach
    (folder / "route.yaml").write_text(yaml.safe_dump(item))
    for shown, typed in (
        ("sk-…", CANARY_KEY), ("shop", NAMESPACE), (ROUTE, str(folder / "route.yaml")),
    ):  # fmt: skip
        assert shown in commands
        commands = commands.replace(shown, typed)
    release.typed(commands, folder)
    return found


def _apply_route(kubectl: Kubectl, key: str = CANARY_KEY, **spec: Any) -> None:
    for item in route(key=key, exposure="Namespace", clientAuth={"type": "None"}, **spec):
        kubectl.apply(item)


def _phase(kubectl: Kubectl, name: str) -> str:
    return str(kubectl.get_json("pod", name)["status"].get("phase"))


def _ends(kubectl: Kubectl, name: str) -> str:
    """Wait until a pod has ended; return what its application said."""
    try:
        wait_until(lambda: _phase(kubectl, name) in {"Succeeded", "Failed"}, f"{name} ends", 90)
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{kubectl.run('describe', 'pod', name).stdout}") from error
    return kubectl.run("logs", name, "-c", "app").stdout


def test_an_application_without_any_configuration_streams_a_chat_completion(
    kubectl: Kubectl,
) -> None:
    kubectl.apply(client(USER, "chat", CHAT))
    said = _ends(kubectl, "chat")
    assert said.endswith("done\n"), said
    assert said.count("chunk") > 2
    for container in ("thruway-bootstrap", "thruway-extproc", "thruway-envoy"):
        assert CANARY_KEY not in kubectl.run("logs", "chat", "-c", container).stdout
    assert CANARY_KEY not in kubectl.run("get", "pod", "chat", "-o", "json").stdout
    assert '"path":"/openai_passthrough/v1/chat/completions"' in (
        kubectl.run("logs", "chat", "-c", "thruway-envoy").stdout.replace(": ", ":")
    )


def test_the_command_that_shows_that_it_works(
    node: Node, release: Release, images: Images, tmp_path: Path
) -> None:
    """As docs/sidecar.md has it, but in a namespace that takes the pods of `kubectl run`."""
    text = (ROOT / "docs" / "sidecar.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^kubectl -n shop run .*$", text, re.MULTILINE)
    image = re.search(r"--image=(\S+)", command)
    assert image is not None
    node.load(images.curl(), f"docker.io/{image[1]}")
    kubectl = node.kubectl("trial")
    kubectl.run("create", "namespace", "trial")
    kubectl.run("label", "namespace", "trial", "thruway.dev/inject=enabled")
    _apply_route(kubectl)
    said = release.typed(command.replace("-n shop", "-n trial"), tmp_path)
    assert '"object": "list"' in said


def test_a_job_with_a_sidecar_completes(kubectl: Kubectl) -> None:
    pod = client(USER, "job", CHAT)
    kubectl.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "job"},
            "spec": {"backoffLimit": 0, "template": {"spec": pod["spec"]}},
        }
    )
    kubectl.run("wait", "--for=condition=Complete", "--timeout=55s", "job/job")


ATTEMPTS = f"""
import glob, os, socket, urllib.request
def attempt(what, how):
    try:
        print(what, how())
    except OSError as error:
        print(what, "refused", type(error).__name__)
for path in ("/run/secrets/thruway/token", "/run/thruway", "/run/thruway/admin.sock",
             "/run/secrets/thruway-ca"):
    attempt(path, lambda: os.path.isdir(path) and os.listdir(path) or open(path).read())
attempt("accounts", lambda: os.listdir("/var/run/secrets"))
def admin():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("/run/thruway/admin.sock")
attempt("admin", admin)
listening = set()
for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    for line in open(table).readlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            listening.add(int(fields[1].rpartition(":")[2], 16))
print("listening", sorted(listening))
print("unix", sorted({{line.split()[-1] for line in open("/proc/net/unix") if "thruway" in line}}))
own, seen = f"/proc/{{os.getpid()}}/", []
for file in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    try:
        seen += [open(file).read()] * (not file.startswith(own))
    except OSError:
        pass
metrics = urllib.request.urlopen("http://127.0.0.1:4001/metrics").read().decode()
print("processes", sum("thruway_extproc" in text or "envoy" in text for text in seen))
print("key", "{CANARY_KEY[:16]}" in "".join([*seen, metrics, *map(str, os.environ.values())]))
for path in ("config_dump", "certs", "quitquitquit"):
    for port in (4000, 4001):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{{port}}/{{path}}")
            print(path, port, "answered")
        except urllib.error.HTTPError as error:
            print(path, port, error.code)
""".replace(CANARY_KEY[:16], CANARY_KEY[:8] + '" + "' + CANARY_KEY[8:16])


def test_the_application_can_read_none_of_the_sidecars_secrets(kubectl: Kubectl) -> None:
    kubectl.apply(client(USER, "curious", ATTEMPTS))
    assert _ends(kubectl, "curious").splitlines() == [
        "/run/secrets/thruway/token refused FileNotFoundError",
        "/run/thruway refused FileNotFoundError",
        "/run/thruway/admin.sock refused FileNotFoundError",
        "/run/secrets/thruway-ca refused FileNotFoundError",
        "accounts refused FileNotFoundError",
        "admin refused FileNotFoundError",
        "listening [4000, 4001]",
        # Names alone, of the network that they share; the folder is another container's.
        "unix ['/run/thruway/admin.sock', '/run/thruway/extproc-0.sock']",
        "processes 0",
        "key False",
        "config_dump 4000 404",
        "config_dump 4001 404",
        "certs 4000 404",
        "certs 4001 404",
        "quitquitquit 4000 404",
        "quitquitquit 4001 404",
    ]


class Application:
    """A pod that calls all the time, and what it says of it."""

    def __init__(self, node: Node, kubectl: Kubectl, name: str) -> None:
        self._node = node
        self.kubectl = kubectl
        self.name = name
        self.uid = kubectl.get_json("pod", name)["metadata"]["uid"]

    def said(self) -> list[dict[str, Any]]:
        """Return its accounts, each of what came since the one before."""
        text = self.kubectl.run("logs", self.name, "-c", "app").stdout
        return [json.loads(line) for line in text.splitlines()]

    def more(self) -> None:
        """Wait until more of everything has been answered."""
        before = self.said()[-1]

        def flows() -> bool:
            now = self.said()[-1]
            return bool(now["done"] > before["done"] + 50 and now["whole"] > before["whole"] + 4)

        wait_until(flows, "it flows", 60)

    def troubles(self, since: int = 0) -> list[str]:
        """Return what went wrong since so many accounts."""
        return [what for line in self.said()[since:] for what in line["failures"] + line["cut"]]

    def restarts(self, container: str) -> int:
        """Return how often kubelet has started one of the sidecar's containers again."""
        states = self.kubectl.get_json("pod", self.name)["status"]["initContainerStatuses"]
        (found,) = (item["restartCount"] for item in states if item["name"] == container)
        return int(found)

    def kill(self, container: str, word: str) -> None:
        """Kill the processes of a container whose command holds a word, from the node."""
        pids = self._node.processes(self.kubectl.get_json("pod", self.name), container)
        doomed = [pid for pid in pids if word in Path(f"/proc/{pid}/cmdline").read_text()]
        assert doomed, (word, pids)
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def application(node: Node, kubectl: Kubectl) -> Application:
    pod = client(USER, "busy", "")
    pod["spec"]["containers"][0]["command"] = [*PROGRAM, "load"]
    kubectl.apply(pod)
    kubectl.run("wait", "--for=condition=Ready", "--timeout=55s", "pod/busy")
    found = Application(node, kubectl, "busy")
    wait_until(lambda: bool(found.said()), "it calls", 30)
    found.more()
    return found


def _restart_the_operator(release: Release, _: Application) -> None:
    kubectl = release.node.kubectl(release.namespace)
    kubectl.run("rollout", "restart", "deployment/thruway-operator")
    release.rolled_out("operator")


def _take_the_operator_away(release: Release, _: Application) -> None:
    kubectl = release.node.kubectl(release.namespace)
    kubectl.run("scale", "deployment/thruway-operator", "--replicas=0")
    release.rolled_out("operator")
    time.sleep(AWAY)  # that nothing happens meanwhile is the test
    kubectl.run("scale", "deployment/thruway-operator", "--replicas=2")
    release.rolled_out("operator")


def _rotate_the_key(_: Release, application: Application) -> None:
    _apply_route(application.kubectl, NEXT_KEY)


def _change_the_route(_: Release, application: Application) -> None:
    for number in range(3):
        header = {"name": "x-n", "value": str(number)}
        _apply_route(application.kubectl, response={"headers": {"set": [header]}})


def _kill_extproc(_: Release, application: Application) -> None:
    application.kill("thruway-extproc", "extproc-0.sock")


def _kill_the_container_of_extproc(_: Release, application: Application) -> None:
    # The first process of a container takes all others with it; kubelet starts it again.
    application.kill("thruway-extproc", "thruway-pod")
    wait_until(lambda: application.restarts("thruway-extproc") == 1, "it is started again", 60)


@pytest.mark.parametrize(
    "act",
    [_restart_the_operator, _take_the_operator_away, _rotate_the_key, _change_the_route,
     _kill_extproc, _kill_the_container_of_extproc],
)  # fmt: skip
def test_nothing_fails(
    release: Release, application: Application, act: Callable[[Release, Application], None]
) -> None:
    before = len(application.said())
    act(release, application)
    application.more()
    assert application.troubles(before) == []


def test_nothing_fails_once_envoy_is_back_after_a_kill(application: Application) -> None:
    application.kill("thruway-envoy", "envoy")

    def works_again() -> bool:
        back = application.restarts("thruway-envoy") == 1
        return back and application.said()[-1]["failures"] == []

    wait_until(works_again, "Envoy is back", 60)
    # A client that has seen it away may have an answer of before on its way.
    application.more()
    before = len(application.said())
    application.more()
    assert application.troubles(before) == []


@contextlib.contextmanager
def _followed(kubectl: Kubectl, name: str) -> Iterator[subprocess.Popen[str]]:
    program = str(Path(sys.executable).with_name("kubectl"))
    with subprocess.Popen(
        [program, "-n", NAMESPACE, "logs", "-f", name, "-c", "app"],
        env={**os.environ, "KUBECONFIG": str(kubectl.kubeconfig)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def test_a_stream_outlives_the_order_to_end(kubectl: Kubectl) -> None:
    pod = client(USER, "talking", "")
    pod["spec"]["terminationGracePeriodSeconds"] = 30
    pod["spec"]["containers"][0]["command"] = [*PROGRAM, "last-words"]
    kubectl.apply(pod)
    kubectl.run("wait", "--for=condition=Ready", "--timeout=55s", "pod/talking")
    with _followed(kubectl, "talking") as log:
        assert log.stdout is not None
        assert json.loads(log.stdout.readline()) == {"halfway": True}
        kubectl.run("delete", "pod", "talking", "--wait=false")
        assert [json.loads(line) for line in log.stdout] == [{"told_to_end": True}, {"whole": 8}]


def test_a_pod_starts_while_the_operator_is_away_and_says_so(
    release: Release, kubectl: Kubectl
) -> None:
    """The webhook is away as well, so the sidecar is from `thruway inject`."""
    bare = client(USER, "patient", "")
    bare["metadata"]["labels"] = {"thruway.dev/inject": "false"}
    bare["metadata"]["namespace"] = NAMESPACE
    bare["spec"]["containers"][0]["command"] = ["sleep", "600"]
    # What the webhook would make of it now, for later.
    asked = {**bare, "metadata": {**bare["metadata"], "labels": {}}}
    made = json.loads(
        kubectl.run(
            "create", "--dry-run=server", "-o", "json", "-f", "-", given=json.dumps(asked)
        ).stdout
    )
    made["metadata"] = {**bare["metadata"], "annotations": made["metadata"]["annotations"]}
    operator = release.node.kubectl(release.namespace)
    operator.run("scale", "deployment/thruway-operator", "--replicas=0")
    release.rolled_out("operator")
    try:
        refused = kubectl.run("create", "-f", "-", given=json.dumps(asked), check=False)
        assert "failed calling webhook" in refused.stderr
        kubectl.apply(made)
        kubectl.run("wait", "--for=condition=Initialized", "--timeout=55s", "pod/patient")
        wait_until(lambda: _phase(kubectl, "patient") == "Running", "it runs", 60)
        assert '"config_pending"' in _ask(kubectl, "patient")
    finally:
        operator.run("scale", "deployment/thruway-operator", "--replicas=2")
        release.rolled_out("operator")
    wait_until(lambda: '"object": "list"' in _ask(kubectl, "patient"), "it is served", 60)


def _ask(kubectl: Kubectl, name: str) -> str:
    url = "http://127.0.0.1:4000/openai_passthrough/v1/models"
    command = ("python3", "-m", "thruway_testing.wire.curl", url)
    return kubectl.run("exec", name, "-c", "app", "--", *command, check=False).stdout
