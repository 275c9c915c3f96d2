"""The chart's output: golden files, every line of every template in one of them; and refusals."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from thruway_operator.sidecar.decide import Images, Settings
from thruway_testing.product.chart import CHART, objects, render

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name.removesuffix(".values.yaml") for path in GOLDEN.glob("*.values.yaml"))
REWRITE = os.environ.get("THRUWAY_REWRITE_GOLDEN") == "1"


def _values(case: str) -> dict[str, Any]:
    return yaml.safe_load((GOLDEN / f"{case}.values.yaml").read_text()) or {}


def _output(case: str) -> str:
    return "".join(
        f"# {name}\n{text.strip()}\n\n"
        for name, text in sorted(render(_values(case)).items())
        # The CRD's own file is generated; its shell is in one case.
        if name != "crds.yaml" or case == "crds"
    )


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    path = GOLDEN / f"{case}.out.yaml"
    found = _output(case)
    if case == "crds":
        found = re.sub(r"(?s)\nspec:\n.*?(?=\n\n)", "\nspec: …", found, count=1)
    if REWRITE:
        path.write_text(found)
    assert found == path.read_text(), "run with THRUWAY_REWRITE_GOLDEN=1 and look at the difference"


def test_no_orphans() -> None:
    outputs = {path.name.removesuffix(".out.yaml") for path in GOLDEN.glob("*.out.yaml")}
    assert outputs == set(CASES)


def _patterns(template: Path) -> list[tuple[int, str]]:
    """Return line numbers and patterns of the lines that a template may put out."""
    text = re.sub(
        r"(?s)\{\{-?\s*/\*.*?\*/\s*-?\}\}", lambda m: "\n" * m[0].count("\n"), template.read_text()
    )
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if re.fullmatch(r"\s*(\{\{.*\}\}\s*)?", line) or line.strip() == "---":
            continue
        parts = re.split(r"\s*\{\{-.*?\}\}|\{\{.*?\}\}", line.strip())
        found.append((number, ".*".join(re.escape(part) for part in parts)))
    return found


def test_every_line_of_every_template_is_in_a_golden_file() -> None:
    """A branch that nothing renders may be broken without anybody noticing."""
    lines = {
        line.strip() for path in GOLDEN.glob("*.out.yaml") for line in path.read_text().splitlines()
    }
    unseen = []
    for template in sorted((CHART / "templates").rglob("*")):
        if template.suffix not in {".yaml", ".txt", ".tpl"}:
            continue
        for number, pattern in _patterns(template):
            if not any(re.fullmatch(pattern, line) for line in lines):
                unseen.append(f"{template.name}:{number}: {pattern}")
    assert not unseen, "\n".join(unseen)


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"certificates": {"mode": "CertManager"}}, "name an issuer of cert-manager"),
    ({"certificates": {"mode": "Secret"}}, "name the Secret with tls.crt"),
    ({"certificates": {"secretName": "x"}}, "set certificates.mode to Secret"),
    ({"egressProxy": {"secretName": "x", "https": "http://p:1"}}, "use one or the other"),
    ({"podMonitor": {"enabled": True}}, "there is no gateway"),
    ({"gateway": {"autoscaling": {"enabled": True}}}, "there is no gateway: set gateway.enabled"),
    ({"image": {"repository": "a.example:5000/thruway:1"}}, "image.repository holds a tag"),
    ({"egressProxy": {"https": "http://u:p@proxy:3128"}}, "name it in egressProxy.secretName"),
    ({"injector": {"port": 4001}}, "injector.port is 4001, where sidecars serve health"),
    ({"operator": {"replicas": 0}}, "no pod that asks for a sidecar could be made"),
    (
        {"gateway": {"enabled": True}, "watchNamespaces": ["shop"]},
        "name those whose routes the gateway takes in gateway.namespaces",
    ),
    (
        {"gateway": {"enabled": True, "namespaces": ["blog"]}, "watchNamespaces": ["shop"]},
        "gateway.namespaces holds blog, which watchNamespaces does not",
    ),
    (
        {"gateway": {"enabled": True, "drain": {"atLeastSeconds": 9, "atMostSeconds": 8}}},
        "gateway.drain.atLeastSeconds (9) is more than gateway.drain.atMostSeconds (8)",
    ),
    (
        {
            "gateway": {
                "enabled": True,
                "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2},
            }
        },
        "minReplicas (3) is more than maxReplicas (2)",
    ),
    ({"gateway": {"enabled": True, "tls": {"certManager": True}}}, "gateway.tls.issuerRef.name"),
    (
        {"injector": {"envoy": {"resources": {"limits": {"storage": "1Gi"}}}}},
        "injector.envoy.resources.limits.storage is nothing that sidecars can have",
    ),
    (
        {"injector": {"extproc": {"resources": {"requests": {"memory": "12Mb"}}}}},
        "injector.extproc.resources.requests.memory is not a quantity of memory: use one such as",
    ),
    (
        {"injector": {"envoy": {"resources": {"requests": {"memory": "2Gi"}}}}},
        "injector.envoy.resources requests more memory than its limit lets it have",
    ),
    (
        {"gateway": {"enabled": True, "namespaceSelector": "thruway.dev/gateway:allowed"}},
        "gateway.namespaceSelector is not a label selector: use one such as",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), CONTRADICTIONS)
def test_contradictions_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(helm_python.HelmError) as caught:
        render(values)
    assert sentence in str(caught.value)


def test_every_contradiction_is_tried() -> None:
    text = (CHART / "templates" / "_validation.tpl").read_text()
    assert text.count("fail ") == len(CONTRADICTIONS)


@pytest.mark.parametrize(
    ("request_", "limit", "fits"),
    [
        ("512Mi", "512Mi", True), ("513Mi", "512Mi", False), ("1G", "1Gi", True),
        ("1Gi", "1G", False), (1000, "1k", True), ("0.5Gi", "500M", False), ("1", None, True),
    ],
)  # fmt: skip
def test_a_request_is_within_its_limit(request_: object, limit: object, fits: bool) -> None:
    resources = {"requests": {"memory": request_}, "limits": {"memory": limit}}
    with contextlib.nullcontext() if fits else pytest.raises(helm_python.HelmError):
        render({"injector": {"extproc": {"resources": resources}}})


@pytest.mark.parametrize("cpu", [1, 0.25, "100m", "1.5"])
@pytest.mark.parametrize("memory", [134217728, "128Mi", "0.5G", "640000k"])
def test_quantities_are_as_kubernetes_has_them(cpu: object, memory: object) -> None:
    resources = {"requests": {"cpu": cpu}, "limits": {"memory": memory, "cpu": None}}
    assert render({"injector": {"envoy": {"resources": resources}}})


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (1, "1"), (0.25, "250m"), ("1500m", "1500m"), ("2000m", "2"), ("0.1", "100m"), (0, "0"),
        ("333m", "333m"), ("1024Mi", "1Gi"), ("0.5Gi", "512Mi"), ("1536Mi", "1536Mi"),
        (134217728, "134217728"), ("0.5G", "500M"), ("640000k", "640M"), ("1e3", "1e3"),
        ("1000Mi", "1000Mi"), (1073741824, "1073741824"), (128000000, "128M"),
    ],
)  # fmt: skip
def test_quantities_are_written_as_the_api_server_stores_them(written: object, stored: str) -> None:
    """Otherwise, a second manager with the same manifest conflicts: see test_gitops.py."""
    resources = {"limits": {"memory": written, "cpu": written}}
    (operator, *_) = _pods({"operator": {"resources": resources}})
    (container,) = operator["containers"]
    assert container["resources"]["limits"] == {"memory": stored, "cpu": stored}


@pytest.mark.parametrize(
    "selector", ["a=b", "a==b,c!=d", "!a", "a.example/b in (c, d),e notin (f)", "a", "a = b , !c"]
)
def test_selectors_are_as_kubectl_has_them(selector: str) -> None:
    assert render({"gateway": {"enabled": True, "namespaceSelector": selector}})


def _pods(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        item["spec"]["template"]["spec"] if item["kind"] == "Deployment" else item["spec"]
        for item in objects(values)
        if item["kind"] in {"Deployment", "Pod"}
    ]


def test_pods_have_no_token_that_they_do_not_use() -> None:
    for item in objects({"gateway": {"enabled": True}}):
        if item["kind"] == "ServiceAccount":
            assert item["automountServiceAccountToken"] is False
        if item["kind"] in {"Deployment", "Pod"}:
            spec = item["spec"].get("template", item)["spec"]
            needs = item["metadata"]["name"].endswith("-operator")
            assert spec["automountServiceAccountToken"] is needs
            for container in [*spec.get("initContainers", []), *spec["containers"]]:
                mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
                assert ("token" in mounts) == (container["name"] in {"operator", "envoy"})


def test_containers_are_locked_down() -> None:
    pods = _pods({"gateway": {"enabled": True}})
    assert len(pods) == 3
    for spec in pods:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_the_test_pod_may_call_the_gateway_whoever_else_may() -> None:
    shop = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}
    found = objects({"gateway": {"enabled": True, "networkPolicy": {"from": [shop]}}})
    (policy,) = (
        item for item in found
        if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "thruway-gateway"
    )  # fmt: skip
    (pod,) = (item for item in found if item["kind"] == "Pod")
    clients = policy["spec"]["ingress"][0]["from"]
    assert clients[0] == shop
    (selector,) = (client["podSelector"]["matchLabels"] for client in clients[1:])
    assert selector.items() <= pod["metadata"]["labels"].items()


def test_a_drain_ends_before_kubelet_kills() -> None:
    values = {"gateway": {"enabled": True, "drain": {"atMostSeconds": 600}}}
    gateway = next(
        item for item in objects(values) if item["metadata"]["name"] == "thruway-gateway"
        and item["kind"] == "Deployment"
    )  # fmt: skip
    assert gateway["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 615


def test_sidecars_are_what_thruway_inject_makes_by_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["injector"]
    defaults = Settings(
        version="", namespace="", operator="", images=Images(thruway="a", envoy="b")
    )
    assert values["port"] == defaults.port
    assert values["logLevel"] == defaults.log_level
    assert values["drain"]["atMostSeconds"] == defaults.drain
    assert values["envoy"]["resources"] == defaults.envoy.manifest()
    assert values["extproc"]["resources"] == defaults.extproc.manifest()


def _webhooks(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (found,) = (item for item in objects(values) if item["kind"] == "MutatingWebhookConfiguration")
    return {item["name"].partition(".")[0]: item for item in found["webhooks"]}


def test_a_pod_that_asks_for_no_sidecar_needs_no_operator() -> None:
    """Each webhook is for pods that ask, by one label or the other, and no pod is for both."""
    webhooks = _webhooks({"watchNamespaces": ["shop"]})
    for name, webhook in webhooks.items():
        spaces = webhook["namespaceSelector"]["matchExpressions"]
        pods = webhook["objectSelector"]["matchExpressions"]
        asked = {"key": "thruway.dev/inject", "operator": "In"}
        assert any(asked.items() <= item.items() for item in (*spaces, *pods))
        system = next(item for item in spaces if item["operator"] == "NotIn")
        assert {"kube-system", "kube-public", "kube-node-lease"} < set(system["values"])
        only = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop"]}
        assert only in spaces
        assert webhook["clientConfig"]["service"]["path"] == f"/{name}"
    labelled = [
        item["operator"]
        for webhook in webhooks.values()
        for item in webhook["namespaceSelector"]["matchExpressions"]
        if item["key"] == "thruway.dev/inject"
    ]
    assert sorted(labelled) == ["In", "NotIn"]


@pytest.mark.parametrize("user", [1000660005, 2147483647, "1000660005", "assigned"])
def test_user_ids_are_passed_as_they_are_written(user: object) -> None:
    """Helm reads numbers as floats, and would write 1000660005 as 1.000660005e+09."""
    (operator, *_) = _pods({"injector": {"runAsUser": user}})
    (container,) = operator["containers"]
    assert f"--inject-run-as-user={user}" in container["args"]


@pytest.mark.parametrize("user", [0, 2147483648, "root", "0", 1.5])
def test_impossible_user_ids_are_refused(user: object) -> None:
    with pytest.raises(helm_python.HelmError, match="runAsUser"):
        render({"injector": {"runAsUser": user}})


def test_without_the_injector_nothing_of_it_is_there() -> None:
    text = "".join(render({"injector": {"enabled": False}}).values())
    assert "injector" not in text
    assert "--inject" not in text
    assert "thruway.dev/inject" not in text
