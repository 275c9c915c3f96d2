"""`thruway status` and `thruway check --cluster` against a real API server."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from thruway_testing.plane.cluster_user import CREDENTIAL, User
from thruway_testing.plane.kubernetes.bulk import route
from thruway_testing.plane.kubernetes.setup import install_crd
from thruway_testing.plane.operator_process import Installation
from thruway_testing.product.command import thruway
from thruway_testing.product.up import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.plane.operator_process import Replica
    from thruway_testing.product.sidecar import Sidecar
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

CANARY = "sk-canary-cli-0123456789abcdef"


@pytest.fixture
def user(control_plane: ControlPlane, namespace: str) -> User:
    return User(control_plane.api, namespace)


def run(plane: ControlPlane, *arguments: str) -> Result:
    return thruway(*arguments, environment={"KUBECONFIG": str(plane.admin_kubeconfig)})


def grant(plane: ControlPlane, user: str) -> Path:
    """Let a user list routes, and nothing else; return a kubeconfig."""
    rules = [{"apiGroups": ["thruway.dev"], "resources": ["passthroughroutes"], "verbs": ["list"]}]
    base, group = "/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    plane.api.post(f"{base}/clusterroles", {"metadata": {"name": user}, "rules": rules})
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    plane.api.post(f"{base}/clusterrolebindings", binding)
    return plane.kubeconfig(user)


def write(folder: Path, namespace: str, *documents: dict[str, object]) -> str:
    for document in documents:
        document["metadata"]["namespace"] = namespace  # type: ignore[index]
    path = folder / "route.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)


def test_status_shows_every_route_and_says_what_is_wrong(
    control_plane: ControlPlane, namespace: str, user: User, sidecar: Sidecar,
    upstream: OpenAIUpstream,
) -> None:  # fmt: skip
    empty = run(control_plane, "status", "-n", namespace)
    assert (empty.exit_code, empty.output.strip()) == (
        0, f"There is no PassthroughRoute in namespace {namespace}."
    )  # fmt: skip
    user.apply("good", upstream.url)
    sidecar.wait_ready()
    user.wait_programmed("good")

    good = run(control_plane, "status", "-n", namespace)

    assert good.exit_code == 0
    title, row = good.output.splitlines()
    assert title.split()[:3] == ["NAMESPACE", "NAME", "PATH"]
    assert row.split() == [namespace, "good", "/good", upstream.url, "True", "Ready", "1/1"]

    user.apply("bad", upstream.url, credential=CREDENTIAL)
    user.wait_condition("bad", "ResolvedRefs", "False")
    bad = run(control_plane, "status", "-n", namespace)
    assert bad.exit_code == 1
    assert f"{namespace}/bad: SecretNotFound: " in bad.output.splitlines()[-1]
    data = json.loads(run(control_plane, "status", "-o", "json").output)["routes"]
    mine = {item["name"]: item for item in data if item["namespace"] == namespace}
    assert mine["good"]["good"] is True
    assert mine["bad"]["good"] is False
    assert mine["bad"]["conditions"]["ResolvedRefs"]["reason"] == "SecretNotFound"


def test_status_while_no_operator_runs(own_control_plane: ControlPlane) -> None:
    """What the last one wrote is still there, and is no news."""
    plane = own_control_plane
    install_crd(plane)
    user = User(plane.api, "default")
    wait_until(lambda: run(plane, "status").exit_code != 2, "the CRD's storage is there")
    never = run(plane, "status")
    with Installation(plane) as installation:
        replica = installation.replica().start().wait_ready()
        user.apply("good", "https://api.example.com")
        user.wait_condition("good", "Accepted", "True")
        path = "/apis/thruway.dev/v1alpha1/namespaces/default/passthroughroutes/good/status"
        there = json.loads(run(plane, "status", "-o", "json").output)
        replica.kill()
        all_true = [
            {**item, "status": "True", "reason": item["type"]}
            for item in plane.api.get(path.removesuffix("/status"))["status"]["conditions"]
        ]
        plane.api.merge(path, {"status": {"conditions": all_true}})
        lease = f"/apis/coordination.k8s.io/v1/namespaces/{installation.namespace}/leases"
        renewed = plane.api.get(f"{lease}/thruway-operator")["spec"]["renewTime"]
        then = dt.datetime.fromisoformat(renewed)
        wait_until(lambda: (dt.datetime.now(dt.UTC) - then).total_seconds() > 5, "it is old")
        killed = run(plane, "status")
        data = json.loads(run(plane, "status", "-o", "json").output)
        rights = grant(plane, "viewer")
        unseen = thruway("status", "--kubeconfig", str(rights))

    assert never.exit_code == 1, never.output
    assert never.output.splitlines() == [
        "No operator is running (there is no Lease thruway-operator in this cluster).",
        "",
        "There is no PassthroughRoute in this cluster.",
    ]
    assert there["operator"] == {"running": True, "problem": None}
    assert killed.exit_code == 1
    sentence, empty, title, row = killed.output.splitlines()
    assert sentence == (
        f"No operator is running (Lease thruway-operator in namespace {installation.namespace} was "
        f"last renewed at {then:%Y-%m-%d %H:%M:%S} UTC): this is its last report."
    )
    assert empty == ""
    assert title.startswith("NAMESPACE")
    assert row.split()[4] == "True"
    assert data["operator"]["running"] is False
    assert data["operator"]["problem"] in sentence
    assert data["routes"][0]["good"] is True
    assert (unseen.exit_code, unseen.output.splitlines()) == (0, [title, row])


def test_status_of_a_namespace_that_is_not_there(control_plane: ControlPlane) -> None:
    result = run(control_plane, "status", "-n", "nope")

    assert result.exit_code == 2
    assert "there is no namespace nope: name one with -n" in result.output


def test_status_of_a_route_that_no_operator_has_seen(
    control_plane: ControlPlane, namespace: str, user: User
) -> None:
    user.apply("new", "https://api.example.com")

    result = run(control_plane, "status", "-n", namespace)

    assert result.exit_code == 1
    assert "no operator has processed it yet" in result.output


def test_check_says_what_would_happen(
    control_plane: ControlPlane, namespace: str, user: User, operator: Replica, tmp_path: Path
) -> None:
    assert operator.is_ready()
    user.apply("older", "https://api.example.com", path="/x")
    user.secret("here", KEY="sk-x")
    good = route("good", "https://api.example.com", path="/y")
    good["spec"]["credential"] = {"secretKeyRef": {"name": "here", "key": "KEY"}}

    fine = run(control_plane, "check", "--cluster", "-f", write(tmp_path, namespace, good))
    assert (fine.exit_code, fine.output) == (0, "1 route, 0 errors, 0 warnings\n")

    loser = route("loser", "https://api.example.com", path="/x/y", credential=CREDENTIAL)
    lost = run(control_plane, "check", "--cluster", "-f", write(tmp_path, namespace, loser))
    assert lost.exit_code == 1
    (conflict,) = (line for line in lost.output.splitlines() if "path collides" in line)
    (secret,) = (line for line in lost.output.splitlines() if "secretKeyRef" in line)
    assert "error: spec.path: path collides with /x of the older route" in conflict
    assert f"{namespace}/older" in conflict
    assert "warning: spec.credential.secretKeyRef: " in secret
    assert "openai" in secret

    same = route("older", "https://api.example.com", path="/x/z")
    own = run(control_plane, "check", "--cluster", "-f", write(tmp_path, namespace, same))
    assert own.exit_code == 0  # a route does not conflict with what it was

    assert {item["metadata"]["name"] for item in routes(user)} == {"older"}  # nothing was written


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"clientAuth": {"type": "APIKey"}}, "error: spec.clientAuth: of type APIKey requires"),
        ({"exposure": "Cluster"}, "error: spec.clientAuth: exposure Cluster lets every pod"),
        ({"timeouts": {"connect": "0s"}}, "error: spec.timeouts.connect: must not be 0s"),
    ],
)
def test_check_says_a_mistake_once_though_the_cluster_sees_it_too(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    file = write(tmp_path, namespace, route("a", "https://api.example.com", **more))

    result = run(control_plane, "check", "--cluster", "-f", file)

    assert said in result.output
    assert result.output.endswith("1 route, 1 error, 0 warnings\n")


def test_check_says_what_the_api_server_alone_refuses(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    twice = {"hostnames": ["a.example", "a.example"]}
    file = write(tmp_path, namespace, route("a", "https://api.example.com", **twice))

    result = run(control_plane, "check", "--cluster", "-f", file)

    assert result.exit_code == 1
    assert "error: spec: is rejected by the API server: " in result.output
    assert "1 error" in result.output


def test_check_puts_routes_without_a_namespace_where_it_is_told(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    item = route("a", "https://api.example.com")
    file = tmp_path / "route.yaml"
    file.write_text(yaml.safe_dump(item))
    command = ("check", "--cluster", "-f", str(file))

    assert run(control_plane, *command, "-n", namespace).exit_code == 0
    elsewhere = run(control_plane, *command, "-n", "nope")
    assert elsewhere.exit_code == 1
    assert "error: metadata.namespace: namespace nope does not exist: create it" in elsewhere.output
    item["metadata"]["namespace"] = "default"
    file.write_text(yaml.safe_dump(item))
    assert run(control_plane, *command, "-n", "nope").exit_code == 0, "explicit, so it counts"
    for wrong in ("../x", "Shop", ""):
        assert run(control_plane, *command, "-n", wrong).exit_code == 2
    alone = thruway("check", "-f", str(file), "-n", namespace)
    assert alone.exit_code == 2
    assert "-n needs --cluster" in alone.output


def routes(user: User) -> list[dict[str, dict[str, str]]]:
    found: list[dict[str, dict[str, str]]] = user.api.get(
        f"/apis/thruway.dev/v1alpha1/namespaces/{user.namespace}/passthroughroutes"
    )["items"]
    return found


def test_check_says_which_rights_are_missing(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    file = write(tmp_path, namespace, route("a", "https://api.example.com", credential=CREDENTIAL))
    kubeconfig = str(grant(control_plane, namespace))

    result = thruway("check", "--cluster", "-f", file, "--kubeconfig", kubeconfig)

    assert result.exit_code == 1
    assert (
        f"error: metadata.namespace: you may not apply PassthroughRoutes in namespace {namespace}"
        in result.output
    )
    assert (
        f"warning: spec: you may not read Secret openai in namespace {namespace}" in result.output
    )


def test_check_repeats_no_key(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """The API server repeats wrong values; a key in the wrong place is one."""
    file = write(tmp_path, namespace, route(CANARY, "https://api.example.com"))

    result = run(control_plane, "check", "--cluster", "-f", file)

    assert CANARY not in result.output


@pytest.mark.parametrize("command", [["status"], ["check", "--cluster", "-f", "route.yaml"]])
def test_a_cluster_that_cannot_be_asked_is_said_in_a_sentence(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "default", route("a", "https://api.example.com"))
    nothing = thruway(*command, "--kubeconfig", str(tmp_path / "nothing"))
    assert nothing.exit_code == 2
    assert "no usable kubeconfig" in nothing.output
    broken = tmp_path / "broken"
    broken.write_text("{")
    assert thruway(*command, "--kubeconfig", str(broken)).exit_code == 2
    away = tmp_path / "away"
    away.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "a", "user": {}}],
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "current-context": "a",
            }
        )
    )
    result = thruway(*command, "--kubeconfig", str(away))
    assert result.exit_code == 2
    assert "cannot be reached: Connection refused: check the kubeconfig" in result.output
    assert len(result.output.splitlines()) == 1
    missing = thruway(*command, "--kubeconfig", str(away), "--context", "b")
    assert missing.exit_code == 2


def test_check_in_a_cluster_needs_files() -> None:
    result = thruway("check", "--cluster")

    assert result.exit_code == 2
    assert "--cluster needs -f" in result.output


def test_a_cluster_without_the_crd(own_control_plane: ControlPlane) -> None:
    result = run(own_control_plane, "status")

    assert result.exit_code == 2
    assert "install Thruway there first" in result.output
