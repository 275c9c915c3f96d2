"""Sidecars in namespaces with restrictions: admitted, and serving, with what the docs say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.node.images import ROOT, USER
from thruway_testing.plane.node.release import CHAT, client, route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.plane.kubernetes.kubectl import Kubectl
    from thruway_testing.plane.node.node import Node
    from thruway_testing.plane.node.release import Release

FIRST, LAST = 1000660000, 1000669999
POLICY = "user-ids"


def documented(heading: str) -> dict[str, str]:
    """Return the annotations that docs/sidecar.md has below a paragraph's first words."""
    text = (ROOT / "docs" / "sidecar.md").read_text(encoding="utf-8")
    block = text.partition(f"**{heading}**")[2].partition("```yaml\n")[2].partition("```")[0]
    found: dict[str, str] = yaml.safe_load(block)["metadata"]["annotations"]
    return found


def new(node: Node, namespace: str, *, annotations: dict[str, str] | None = None) -> Kubectl:
    """Create a namespace that requests sidecars, and a route in it."""
    metadata = {
        "name": namespace,
        "labels": {"thruway.dev/inject": "enabled"},
        "annotations": annotations or {},
    }
    kubectl = node.kubectl(namespace)
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for item in route(exposure="Namespace", clientAuth={"type": "None"}):
        kubectl.apply(item)
    return kubectl


def serves(kubectl: Kubectl, name: str = "chat") -> dict[str, Any]:
    """Wait until a pod's application has streamed; return the pod."""

    def phase() -> str:
        return str(kubectl.get_json("pod", name)["status"].get("phase"))

    wait_until(lambda: phase() in {"Succeeded", "Failed"}, f"{name} ends", 90)
    assert kubectl.run("logs", name, "-c", "app").stdout.endswith("done\n")
    found: dict[str, Any] = kubectl.get_json("pod", name)
    return found


@pytest.mark.usefixtures("release")
def test_a_namespace_with_the_restricted_standard(node: Node) -> None:
    kubectl = new(node, "platform-restricted")
    level = "pod-security.kubernetes.io/enforce=restricted"
    kubectl.run("label", "namespace", kubectl.namespace, level)
    kubectl.apply(client(USER, "chat", CHAT))
    serves(kubectl)


@pytest.mark.usefixtures("release")
def test_a_namespace_with_a_limit_range(node: Node) -> None:
    kubectl = new(node, "platform-range")
    kubectl.apply({
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "128Mi"}}]},
    })  # fmt: skip
    pod = client(USER, "chat", CHAT)
    refused = kubectl.run("create", "-f", "-", given=yaml.safe_dump(pod), check=False)
    assert "maximum memory usage per Container is 128Mi" in refused.stderr
    pod["metadata"]["annotations"] = documented("A LimitRange")
    kubectl.apply(pod)
    serves(kubectl)


@pytest.mark.usefixtures("release")
def test_a_namespace_with_a_quota_of_cpu_limits(node: Node) -> None:
    kubectl = new(node, "platform-quota")
    kubectl.run("create", "quota", "cpu", "--hard=limits.cpu=4")
    pod = client(USER, "chat", CHAT)
    pod["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "500m"}}
    refused = kubectl.run("create", "-f", "-", given=yaml.safe_dump(pod), check=False)
    assert "must specify limits.cpu for: thruway-" in refused.stderr
    pod["metadata"]["annotations"] = documented("A ResourceQuota")
    kubectl.apply(pod)
    serves(kubectl)


@pytest.fixture
def assigning(node: Node, release: Release) -> Iterator[Kubectl]:
    """A namespace with a range of user IDs, and a policy that rejects all others."""
    annotations = {"openshift.io/sa.scc.uid-range": f"{FIRST}/{LAST - FIRST + 1}"}
    kubectl = new(node, "platform-ids", annotations=annotations)
    allowed = (
        "!has(c.securityContext) || !has(c.securityContext.runAsUser) || "
        f"(c.securityContext.runAsUser >= {FIRST} && c.securityContext.runAsUser <= {LAST})"
    )
    every = [f"object.spec.{kind}.all(c, {allowed})" for kind in ("containers", "initContainers")]
    rule = {
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
    }  # fmt: skip
    message = "runAsUser must be in the namespace's range"
    here = {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}}
    group = "admissionregistration.k8s.io/v1"
    kubectl.apply({
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": item, "message": message} for item in every],
        },
    })  # fmt: skip
    kubectl.apply({
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY},
        "spec": {
            "policyName": POLICY,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": here},
        },
    })  # fmt: skip
    yield kubectl
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        kubectl.run("delete", kind, POLICY)


def assigned(name: str) -> dict[str, Any]:
    """Return a pod whose containers get the first ID, as the platform would assign it."""
    pod = client(USER, name, CHAT)
    pod["spec"]["securityContext"]["runAsUser"] = FIRST
    return pod


def test_a_namespace_that_assigns_user_ids(assigning: Kubectl) -> None:
    pod = assigned("chat")
    fixed = {"thruway.dev/run-as-user": "65533"}
    wrong = {**pod, "metadata": {"name": "wrong", "annotations": fixed}}

    def is_refused() -> bool:  # the API server takes a moment to enforce a new policy
        refused = kubectl_create(assigning, wrong)
        return "must be in the namespace's range" in refused

    wait_until(is_refused, "the policy is enforced", 60)
    assigning.apply(pod)
    found = serves(assigning)
    users = [item["securityContext"]["runAsUser"] for item in found["spec"]["initContainers"]]
    assert users == [LAST] * 3

    own = {"thruway.dev/run-as-user": "assigned"}
    assigning.apply({**assigned("same"), "metadata": {"name": "same", "annotations": own}})
    found = serves(assigning, "same")
    assert not re.findall("runAsUser", str(found["spec"]["initContainers"]))


def kubectl_create(kubectl: Kubectl, pod: dict[str, Any]) -> str:
    arguments = ("create", "--dry-run=server", "-f", "-")
    return kubectl.run(*arguments, given=yaml.safe_dump(pod), check=False).stderr
