"""The chart's objects, applied by several managers, neither conflict nor change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from thruway_testing.plane.kubernetes.pods import ensure_namespace
from thruway_testing.product.chart import CHART, NAMESPACE, RELEASE, objects
from thruway_testing.product.helm import Helm

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.plane.kubernetes.kubectl import Kubectl

GOLDEN = Path(__file__).parents[1] / "chart" / "golden"
CASES = sorted(file.name.removesuffix(".values.yaml") for file in GOLDEN.glob("*.values.yaml"))


@pytest.fixture
def helm_on(helm: Path, own_control_plane: ControlPlane, tmp_path: Path) -> Helm:
    for namespace in (NAMESPACE, "shop", "blog"):
        ensure_namespace(own_control_plane.api, namespace)
    return Helm(helm, own_control_plane, tmp_path)


def manifests(case: str) -> list[dict[str, Any]]:
    """Return the objects of a case, of the kinds that a cluster has by itself."""
    values = yaml.safe_load((GOLDEN / f"{case}.values.yaml").read_text("utf-8")) or {}
    foreign = ("monitoring.coreos.com", "cert-manager.io")
    hook = "helm.sh/hook"
    return [
        item
        for item in objects(values)
        if not item["apiVersion"].startswith(foreign)
        and hook not in (item["metadata"].get("annotations") or {})
    ]


def anywhere(kubectl: Kubectl, *arguments: str, items: list[dict[str, Any]]) -> str:
    """Run kubectl without a namespace: the objects name theirs."""
    free = replace(kubectl, namespace="")
    return free.run(*arguments, given=yaml.safe_dump_all(items)).stdout


def applied(kubectl: Kubectl, items: list[dict[str, Any]], manager: str) -> None:
    arguments = ("apply", "--server-side", f"--field-manager={manager}", "-f", "-")
    anywhere(kubectl, *arguments, items=items)


def versions(kubectl: Kubectl, items: list[dict[str, Any]]) -> dict[str, str]:
    found = json.loads(anywhere(kubectl, "get", "-o", "json", "-f", "-", items=items))["items"]
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in found
        # The API server itself writes the status of this one.
        if item["kind"] != "CustomResourceDefinition"
    }


@pytest.mark.parametrize("case", CASES)
def test_a_second_manager_applies_the_same_without_a_conflict(helm_on: Helm, case: str) -> None:
    kubectl, items = helm_on.kubectl, manifests(case)
    assert len(items) > 5
    applied(kubectl, items, "first")
    applied(kubectl, items, "argocd")
    before = versions(kubectl, items)
    for _ in range(3):
        for manager in ("first", "argocd"):
            applied(kubectl, items, manager)
    assert versions(kubectl, items) == before
    diff = ("diff", "--server-side", "--field-manager=argocd", "-f", "-")
    assert anywhere(kubectl, *diff, items=items) == ""


def test_helm_takes_over_what_another_manager_applied(helm_on: Helm) -> None:
    helm, kubectl = helm_on, helm_on.kubectl
    applied(kubectl, manifests("gateway"), "argocd")
    values = ("--values", str(GOLDEN / "gateway.values.yaml"))
    helm.run("upgrade", RELEASE, str(CHART), "--install", "--take-ownership", *values)
    helm.run("upgrade", RELEASE, str(CHART), "--take-ownership", *values)


DOCS = CHART.parents[1] / "docs"


def test_the_command_that_renders_the_chart(helm_on: Helm, tmp_path: Path) -> None:
    """It leaves out the pod of `helm test`, and the rest can be applied."""
    text = (DOCS / "install.md").read_text("utf-8")
    (command,) = re.findall(r"^helm template .*$", text, re.MULTILINE)
    (tmp_path / "helm").symlink_to(helm_on.program)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {"PATH": path, "HOME": str(tmp_path), "KUBECONFIG": str(helm_on.kubectl.kubeconfig)}
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=DOCS.parent,
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deployment.apps/thruway-operator serverside-applied" in done.stdout
    assert "pod/" not in done.stdout


def test_the_documented_network_policy_is_accepted(helm_on: Helm) -> None:
    text = (DOCS / "network.md").read_text("utf-8")
    (policy,) = re.findall(
        r"^```yaml\n(apiVersion: networking.*?)^```$", text, re.MULTILINE | re.DOTALL
    )
    anywhere(helm_on.kubectl, "apply", "-f", "-", items=[yaml.safe_load(policy)])


ENABLED = ("--set", "gateway.enabled=true")


@pytest.mark.parametrize("component", ["operator", "gateway"])
def test_replicas_that_the_chart_leaves_to_somebody_else(helm_on: Helm, component: str) -> None:
    helm, kubectl, name = helm_on, helm_on.kubectl, f"deployment/thruway-{component}"
    left = (*ENABLED, "--set-json", f"{component}.replicas=null")
    helm.run("install", RELEASE, str(CHART), *left)
    kubectl.run("scale", name, "--replicas=5")
    helm.run("upgrade", RELEASE, str(CHART), *left, "--set", "commonLabels.a=b")
    assert kubectl.get_json(name)["spec"]["replicas"] == 5


@pytest.mark.parametrize("component", ["operator", "gateway"])
def test_replicas_of_the_chart_that_somebody_else_has_scaled(helm_on: Helm, component: str) -> None:
    helm, kubectl, name = helm_on, helm_on.kubectl, f"deployment/thruway-{component}"
    helm.run("install", RELEASE, str(CHART), *ENABLED)
    kubectl.run("scale", name, "--replicas=5")
    refused = helm.run("upgrade", RELEASE, str(CHART), *ENABLED, check=False)
    assert refused.returncode == 1
    assert ".spec.replicas" in refused.stderr
    helm.run("upgrade", RELEASE, str(CHART), *ENABLED, "--force-conflicts")
    assert kubectl.get_json(name)["spec"]["replicas"] == 2


@pytest.mark.parametrize("component", ["operator", "gateway"])
def test_replicas_that_the_chart_leaves_later(helm_on: Helm, component: str) -> None:
    """The number stays if something else has set it. One that only Helm has set becomes 1."""
    helm, kubectl, name = helm_on, helm_on.kubectl, f"deployment/thruway-{component}"
    helm.run("install", RELEASE, str(CHART), *ENABLED)
    kubectl.run("scale", name, "--replicas=5")
    left = (*ENABLED, "--set", f"{component}.replicas=null")
    helm.run("upgrade", RELEASE, str(CHART), *left)
    assert kubectl.get_json(name)["spec"]["replicas"] == 5
    kubectl.run("scale", name, "--replicas=4")
    helm.run("upgrade", RELEASE, str(CHART), "--reset-then-reuse-values")
    assert kubectl.get_json(name)["spec"]["replicas"] == 4

    helm.run("upgrade", RELEASE, str(CHART), *ENABLED, "--force-conflicts")
    helm.run("upgrade", RELEASE, str(CHART), *left)
    assert kubectl.get_json(name)["spec"]["replicas"] == 1
