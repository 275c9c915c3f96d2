"""The chart's whole life, by the real Helm on a real API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from thruway_testing.plane.kubernetes.kubectl import Kubectl
from thruway_testing.plane.kubernetes.pods import ensure_namespace
from thruway_testing.plane.kubernetes.setup import wait_established
from thruway_testing.product.chart import CHART, NAMESPACE, RELEASE, objects
from thruway_testing.product.helm import Helm

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

GOLDEN = Path(__file__).parents[1] / "chart" / "golden"
GATEWAY = ("--set", "gateway.enabled=true")


@pytest.fixture
def helm_on(helm: Path, own_control_plane: ControlPlane, tmp_path: Path) -> Helm:
    return Helm(helm, own_control_plane, tmp_path)


ROUTE = """
apiVersion: thruway.dev/v1alpha1
kind: PassthroughRoute
metadata: {name: openai}
spec: {path: /openai_passthrough, provider: openai}
"""


def test_install_upgrade_rollback_uninstall(helm_on: Helm) -> None:
    """Custom resources survive all of it, and nothing is left but their definition."""
    helm, kubectl = helm_on, helm_on.kubectl
    default = Kubectl(helm.plane.admin_kubeconfig, "default")
    ensure_namespace(helm.plane.api, NAMESPACE)
    before = helm.everything()

    said = helm.run("install", RELEASE, str(CHART), *GATEWAY).stdout
    assert "kubectl label namespace shop thruway.dev/gateway=allowed" in said
    wait_established(kubectl)
    default.apply(ROUTE)
    made = default.get_json("ptr", "openai")["metadata"]

    def the_route_is_untouched() -> None:
        found = default.get_json("ptr", "openai")["metadata"]
        assert (found["uid"], found["generation"]) == (made["uid"], made["generation"])

    # What the operator writes into the objects that the chart made stays in an upgrade.
    filled = '{"data":{"ca.crt":"something"}}'
    kubectl.run("patch", "configmap", "thruway-ca", "-p", filled)
    helm.run("upgrade", RELEASE, str(CHART), *GATEWAY, "--set", "gateway.replicas=5")
    assert kubectl.get_json("deployment", "thruway-gateway")["spec"]["replicas"] == 5
    assert kubectl.get_json("configmap", "thruway-ca")["data"] == {"ca.crt": "something"}
    the_route_is_untouched()

    helm.run("upgrade", RELEASE, str(CHART), "--set", "gateway.enabled=false")
    assert "not found" in kubectl.run("get", "deploy", "thruway-gateway", check=False).stderr
    the_route_is_untouched()

    helm.run("rollback", RELEASE, "1")
    assert kubectl.get_json("deployment", "thruway-gateway")["spec"]["replicas"] == 2
    assert kubectl.get_json("configmap", "thruway-ca")["data"] == {"ca.crt": "something"}
    the_route_is_untouched()

    helm.run("uninstall", RELEASE)
    the_route_is_untouched()
    left = helm.everything() - before
    definition = "CustomResourceDefinition <none> passthroughroutes.thruway.dev"
    service = "APIService <none> v1alpha1.thruway.dev"  # the API server's own word for it
    assert left == {definition, service, "PassthroughRoute default openai"}
    assert not before - helm.everything()

    # The definition is there already, with the same release's name on it.
    helm.run("install", RELEASE, str(CHART))
    the_route_is_untouched()


def test_a_release_elsewhere_leaves_the_definition_alone_or_takes_it_over(helm_on: Helm) -> None:
    helm = helm_on
    for namespace in (NAMESPACE, "elsewhere"):
        ensure_namespace(helm.plane.api, namespace)
    helm.run("install", RELEASE, str(CHART))
    helm.run("uninstall", RELEASE)
    refused = helm.run("install", "other", str(CHART), check=False)
    assert refused.returncode == 1
    assert "passthroughroutes.thruway.dev" in refused.stderr
    assert "Traceback" not in refused.stderr
    helm.run("install", "other", str(CHART), "--take-ownership")


def test_an_upgrade_upgrades_the_definition(helm_on: Helm, tmp_path: Path) -> None:
    helm = helm_on
    ensure_namespace(helm.plane.api, NAMESPACE)
    helm.run("install", RELEASE, str(CHART))
    crd = helm.kubectl.get_json("crd", "passthroughroutes.thruway.dev")
    names = {**crd["spec"]["names"], "shortNames": ["old"]}
    patch = json.dumps({"spec": {"names": names}})
    helm.kubectl.run("patch", "crd", crd["metadata"]["name"], "--type=merge", "-p", patch)
    helm.run("upgrade", RELEASE, str(CHART), "--force-conflicts")
    crd = helm.kubectl.get_json("crd", "passthroughroutes.thruway.dev")
    assert crd["spec"]["names"]["shortNames"] == ["ptr"]
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_lint(helm_on: Helm) -> None:
    for file in sorted(GOLDEN.glob("*.values.yaml")):
        done = helm_on.run("lint", "--strict", str(CHART), "--values", str(file))
        assert "0 chart(s) failed" in done.stdout


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("gateway.enabeld=true", "additional properties 'enabeld' not allowed"),
        ("operator.replicas=two", "at '/operator/replicas': got string, want integer"),
        ("image.digest=abc", "at '/image/digest'"),
        ("certificates.mode=Self", "value must be one of 'Operator', 'CertManager', 'Secret'"),
    ],
)
def test_a_value_that_does_not_exist_or_fit_is_refused(
    helm_on: Helm, value: str, sentence: str
) -> None:
    refused = helm_on.run("install", RELEASE, str(CHART), "--set", value, check=False)
    assert refused.returncode == 1
    assert sentence in refused.stderr


def _stub(group: str, kind: str) -> dict[str, Any]:
    """Return a definition of a kind that somebody else brings, and that takes everything."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def test_every_rendered_object_passes_a_dry_run(helm_on: Helm) -> None:
    """Of every golden case; and every pod would be let into a namespace that is restricted."""
    kubectl = helm_on.kubectl
    api = helm_on.plane.api
    for namespace in (NAMESPACE, "shop", "blog"):
        ensure_namespace(api, namespace)
    kubectl.run("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    for group, kind in (
        ("cert-manager.io", "Certificate"),
        ("monitoring.coreos.com", "PodMonitor"),
        ("monitoring.coreos.com", "ServiceMonitor"),
    ):
        kubectl.apply(_stub(group, kind))
    wait_established(kubectl)
    kinds: set[str] = set()
    for file in sorted(GOLDEN.glob("*.values.yaml")):
        for item in objects(yaml.safe_load(file.read_text()) or {}):
            kinds.add(item["kind"])
            pods = [item]
            if item["kind"] == "Deployment":
                template = item["spec"]["template"]
                name = f"{item['metadata']['name']}-pod"
                metadata = {**template["metadata"], "name": name, "namespace": NAMESPACE}
                pods.append(
                    {"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                     "spec": _as_admitted(template["spec"])}
                )  # fmt: skip
            for one in pods:
                _dry_run(kubectl, _as_admitted_object(one))
    assert {"HorizontalPodAutoscaler", "PodMonitor", "ServiceMonitor", "Certificate"} <= kinds


def _as_admitted(spec: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only a whole cluster knows: ServiceAccounts and PriorityClasses."""
    left_out = {"serviceAccountName", "priorityClassName"}
    return {
        **{key: value for key, value in spec.items() if key not in left_out},
        "automountServiceAccountToken": False,
    }


def _as_admitted_object(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "spec": _as_admitted(item["spec"])} if item["kind"] == "Pod" else item


def _dry_run(kubectl: Kubectl, item: dict[str, Any]) -> None:
    given = json.dumps(item)
    arguments = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"]
    arguments.append(f"--namespace={item['metadata'].get('namespace', NAMESPACE)}")
    done = kubectl.run(*arguments, given=given, check=False)
    name = f"{item['kind']} {item['metadata']['name']}"
    if "serviceaccount" in done.stderr and item["kind"] == "Pod":
        kubectl.run("create", "serviceaccount", "default")  # there is no controller to make it
        done = kubectl.run(*arguments, given=given, check=False)
    assert done.returncode == 0, f"{name}: {done.stderr}"
    assert "Warning" not in done.stderr, f"{name}: {done.stderr}"
