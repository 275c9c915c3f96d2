"""`thruway inject`: what the injector does, for manifests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from thruway_operator.cli.inject import ENVOY_IMAGE, IMAGE
from thruway_operator.cli.main import main as root
from thruway_operator.sidecar.decide import Injected
from thruway_operator.sidecar.decide.workloads import KINDS, pod_of
from thruway_testing.product.chart import CHART
from thruway_testing.product.command import thruway
from thruway_testing.product.injection import FOLDER, read_injection

if TYPE_CHECKING:
    from pathlib import Path

POD: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "app", "image": "app:1"}]},
}


def maker(version: str, kind: str, pod: dict[str, Any] = POD) -> dict[str, Any]:
    """Return an object of this kind that makes such pods."""
    place = KINDS[version, kind]
    found: dict[str, Any] = pod
    for step in reversed(place):
        found = {step: found}
    head = {"apiVersion": version, "kind": kind}
    return {**head, **found, "metadata": {"name": "web", **found.get("metadata", {})}}


def run(tmp_path: Path, *documents: Any, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    file = tmp_path / "in.yaml"
    file.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    result = thruway("inject", "-f", str(file), *options)
    return result.exit_code, result.stdout, result.stderr.replace(str(file), "in.yaml")


@pytest.mark.parametrize(("version", "kind"), KINDS)
def test_all_that_makes_pods(tmp_path: Path, version: str, kind: str) -> None:
    code, out, _ = run(tmp_path, maker(version, kind))
    assert code == 0
    found = yaml.safe_load(out)
    pod = pod_of(found)
    assert pod is not None
    assert [item["name"] for item in pod["spec"]["initContainers"]] == [
        "thruway-bootstrap",
        "thruway-extproc",
        "thruway-envoy",
    ]
    assert pod["metadata"]["labels"] == {"app": "web"}
    if kind != "Pod":
        assert found["metadata"] == {"name": "web"}


def test_all_else_is_as_it_was(tmp_path: Path) -> None:
    others = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c"},
            "data": {"a": "1\n2\n"},
        },
        {"apiVersion": "v1", "kind": "Secret", "stringData": {"k": "sk-secret-0123456789"}},
        {"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "spec": {"template": {}}},
        {"apiVersion": "v1", "kind": "List", "items": [{"kind": "Service", "apiVersion": "v1"}]},
    ]
    code, out, err = run(tmp_path, *others)
    assert code == 0
    assert list(yaml.safe_load_all(out)) == others
    sentence = "there is no pod in the input: give a Pod, a Deployment, a Job, …"
    assert err == f"thruway inject: warning: {sentence}\n"


def test_the_pods_of_a_list(tmp_path: Path) -> None:
    items = [maker("v1", "Pod"), maker("apps/v1", "Deployment")]
    code, out, _ = run(tmp_path, {"apiVersion": "v1", "kind": "List", "items": items})
    assert code == 0
    for item in yaml.safe_load(out)["items"]:
        pod = pod_of(item)
        assert pod
        assert pod["spec"]["volumes"]


def test_the_pods_of_typed_and_nested_lists(tmp_path: Path) -> None:
    pod = maker("v1", "Pod")
    del pod["apiVersion"], pod["kind"]
    pods = {"apiVersion": "v1", "kind": "PodList", "items": [pod]}
    deployments = {"apiVersion": "apps/v1", "kind": "DeploymentList", "items": []}
    nested = {"apiVersion": "v1", "kind": "List", "items": [pods, deployments]}
    code, out, _ = run(tmp_path, nested)
    assert code == 0
    made, none = yaml.safe_load(out)["items"]
    assert none == deployments
    assert made["items"][0]["spec"]["volumes"]


def test_routes_beside_them(tmp_path: Path) -> None:
    route = {
        "apiVersion": "thruway.dev/v1alpha1",
        "kind": "PassthroughRoute",
        "metadata": {"name": "ai"},
        "spec": {"path": "/ai", "provider": "openai", "upstream": {"versionPrefix": ""}},
    }
    listed = {"apiVersion": "v1", "kind": "List", "items": [route]}
    typed = {**listed, "apiVersion": "thruway.dev/v1alpha1", "kind": "PassthroughRouteList"}
    for given in (route, listed, typed):
        code, out, err = run(tmp_path, given, maker("v1", "Pod"), options=("-n", "shop"))
        assert (code, err) == (0, "")
        first, second = yaml.safe_load_all(out)
        assert first == given
        assert {"name": "OPENAI_BASE_URL", "value": "http://127.0.0.1:4000/ai"} in second["spec"][
            "containers"
        ][0]["env"]
    elsewhere = {**route, "metadata": {"name": "ai", "namespace": "other"}}
    code, _, err = run(tmp_path, elsewhere, maker("v1", "Pod"), options=("-n", "shop"))
    assert code == 0
    assert (
        "the files contain no PassthroughRoute of namespace shop: /openai_passthrough/v1 is" in err
    )
    named = {**POD, "metadata": {"annotations": {"thruway.dev/route": "ai"}}}
    code, _, err = run(tmp_path, maker("v1", "Pod", named), options=("-n", "shop"))
    assert code == 0
    assert "PassthroughRoute shop/ai is not in the files: /openai_passthrough/v1 is" in err


def test_its_own_output_is_final(tmp_path: Path) -> None:
    _, once, _ = run(tmp_path, maker("apps/v1", "Deployment"))
    code, twice, err = run(tmp_path, yaml.safe_load(once))
    assert (code, twice, err) == (0, once, "")


def test_a_pod_that_opts_out(tmp_path: Path) -> None:
    pod = {**POD, "metadata": {"labels": {"thruway.dev/inject": "false"}}}
    given = maker("apps/v1", "Deployment", pod)
    code, out, err = run(tmp_path, given)
    assert (code, yaml.safe_load(out)) == (0, given)
    assert "Deployment web gets no sidecar: its label thruway.dev/inject says false" in err


def test_a_refusal_prints_nothing(tmp_path: Path) -> None:
    bad = {"spec": {"containers": [{"name": "app", "ports": [{"containerPort": 4000}]}]}}
    code, out, err = run(tmp_path, maker("v1", "Pod"), maker("batch/v1", "Job", bad))
    assert (code, out) == (1, "")
    assert (
        "error: in.yaml:12: Job web: container app uses port 4000, which the sidecar listens on: "
        "choose another port for the sidecar with the annotation thruway.dev/port\n" in err
    )


@pytest.mark.parametrize(
    ("pod", "sentence"),
    [
        ({}, "spec must be a mapping"),
        ({"spec": {"containers": []}}, "spec.containers is empty"),
        ({"spec": {"containers": {"name": "app"}}}, "containers must be a list of mappings"),
        ({"spec": {"containers": [{"image": "x"}]}}, "a container has no name"),
        (
            {"metadata": {"annotations": {"thruway.dev/port": 4100}}, "spec": POD["spec"]},
            "the value of thruway.dev/port in metadata.annotations must be text: quote it",
        ),
    ],
)
def test_what_is_no_pod(tmp_path: Path, pod: dict[str, Any], sentence: str) -> None:
    code, _, err = run(tmp_path, maker("apps/v1", "Deployment", pod))
    assert code == 1
    assert sentence in err


def test_json(tmp_path: Path) -> None:
    _, out, _ = run(tmp_path, maker("v1", "Pod"), options=("-o", "json"))
    assert json.loads(out)["kind"] == "Pod"
    _, out, _ = run(tmp_path, maker("v1", "Pod"), maker("v1", "Pod"), options=("-o", "json"))
    assert [item["kind"] for item in json.loads(out)["items"]] == ["Pod", "Pod"]


def test_the_standard_input_and_folders(tmp_path: Path) -> None:
    text = yaml.safe_dump(maker("v1", "Pod"))
    from_stdin = thruway("inject", "-f", "-", stdin=text)
    (tmp_path / "pod.yaml").write_text(text)
    (tmp_path / "notes.txt").write_text("no manifest")
    from_folder = thruway("inject", "-f", str(tmp_path))
    assert from_stdin.exit_code == 0
    assert from_stdin.stdout == from_folder.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-f", "no-such.yaml"], "no-such.yaml does not exist: check the path after -f"),
        (["-f", "-", "--operator", "host"], "--operator must be HOST:PORT"),
        (["-f", "-", "--image", "a b"], "--image is not an image"),
        ([], "--file is missing"),
    ],
)
def test_what_cannot_be_used(arguments: list[str], sentence: str) -> None:
    result = thruway("inject", *arguments, stdin="")
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_broken_yaml_and_broken_routes(tmp_path: Path) -> None:
    for text, sentence in (
        ("a: [", "<stdin>:1: is not valid YAML"),
        ("apiVersion: thruway.dev/v1alpha1\nkind: PassthroughRoute\nspec: {}\n", "metadata"),
        ("\0", "is not valid YAML"),
    ):
        result = thruway("inject", "-f", "-", stdin=text)
        assert result.exit_code == 2, result.output
        assert sentence in result.stderr
        assert result.stdout == ""
    assert thruway("inject", "-f", "-", stdin=b"\xff").exit_code == 2


def test_the_defaults_are_the_charts() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert f"{values['image']['repository']}:{version}" == IMAGE
    assert f"{values['envoyImage']['repository']}:{values['envoyImage']['tag']}" == ENVOY_IMAGE


def test_its_options_are_documented() -> None:
    text = (CHART.parents[1] / "docs" / "cli.md").read_text()
    section = text.partition("## `thruway inject")[2].partition("\n## ")[0]
    options = [item for item in root.commands["inject"].params if item.name != "help"]
    for option in options:
        assert f"`{max(option.opts, key=len)}" in section or f"`{min(option.opts)}" in section
    assert section.count("thruway-operator.thruway-system.svc:18000") == 1


def test_it_does_what_the_injector_does(tmp_path: Path) -> None:
    case = read_injection("deployment")
    result = thruway("inject", "-n", "shop", "-f", str(FOLDER / "deployment.in.yaml"))
    documents = list(yaml.safe_load_all(result.stdout))
    pod = pod_of(documents[-1])
    assert pod
    found = case.outcome()
    assert isinstance(found, Injected)
    assert pod["spec"]["containers"] == found.pod["spec"]["containers"]
