"""The operator's rights are the fewest that work: what it is granted it uses, and nothing else.

The API server's own audit log says what was asked and whether it was allowed. A right that is taken
away shows as a refusal, one that is not needed as one that nobody used.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from thruway_testing.plane.cluster_user import User
from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.kubernetes.pods import create_pod, ensure_namespace
from thruway_testing.plane.kubernetes.setup import install_crd
from thruway_testing.plane.operator_process import Installation
from thruway_testing.product.chart import objects
from thruway_testing.product.sidecar import Sidecar

if TYPE_CHECKING:
    from pathlib import Path

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

Right = tuple[str, str, str, str]
"""API group, resource, verb; and the name, where a rule has one."""

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}

READ = {
    "passthroughroutes": {"list", "watch"},
    "secrets": {"get", "list", "watch"},
    "configmaps": {"get", "list", "watch"},
    "namespaces": {"list", "watch"},
    "leases": {"get", "list", "watch"},
}
"""All that an operator of the whole cluster, with the gateway, may read."""


def _granted(watch: list[str], gateway: bool) -> set[Right]:
    found = set()
    values = {
        "watchNamespaces": watch,
        "gateway": {"enabled": gateway, "namespaces": watch},
        "injector": {"enabled": True},
    }
    for item in objects(values):
        if item["kind"] not in {"Role", "ClusterRole"} or "-routes-" in item["metadata"]["name"]:
            continue
        for rule in item["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames", [""]):
                            found.add((group, resource, verb, _short(name, verb)))
    return found


def _short(name: str, verb: str) -> str:
    """Return a name without the release's, which is `thruway` here; `thruway-ca` is everywhere."""
    return name if (name, verb) == ("thruway-ca", "patch") else name.removeprefix("thruway-")


def test_what_it_may_read() -> None:
    reads = {"get", "list", "watch"}
    found: dict[str, set[str]] = {}
    for _, resource, verb, name in _granted([], gateway=True):
        if verb in reads and not name:
            found.setdefault(resource, set()).add(verb)
    assert found == READ


@pytest.mark.parametrize("whole", [True, False], ids=["whole-cluster", "some-namespaces"])
def test_every_right_is_used_and_none_is_missing(
    own_control_plane: ControlPlane, upstream: OpenAIUpstream, tmp_path: Path, whole: bool
) -> None:
    plane = own_control_plane
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    log = tmp_path / "audit.log"

    plane.kill_api_server()
    plane.start_api_server(
        f"--audit-policy-file={tmp_path / 'policy.yaml'}", f"--audit-log-path={log}"
    )
    install_crd(plane)
    namespace = "shop"
    ensure_namespace(plane.api, namespace)
    watch = [] if whole else [namespace]
    with Installation(
        plane, watch=watch, gateway=whole, own_certificates=True, injector={}
    ) as installation:
        options = (
            [f"--gateway={installation.namespace}/gateway", "--gateway-selector=a=b"]
            if whole
            else []
        )
        replicas = [installation.replica(*options).start() for _ in range(2)]
        for replica in replicas:
            replica.wait_ready()
        user = User(plane.api, namespace)
        user.secret("openai", OPENAI_API_KEY="sk-one")
        user.apply("first", upstream.url, path="/first")
        pod = create_pod(plane.api, namespace, "app")
        authorities = replicas[0].tls_folder / "ca.crt"
        with Sidecar(pod, authorities, [replica.address for replica in replicas]) as car:
            car.wait_ready()
            user.wait_programmed("first")
            # Named later than they were seen: they have to be asked for.
            reference = {"secretKeyRef": {"name": "openai", "key": "OPENAI_API_KEY"}}
            ca = {"caCertificateRef": {"kind": "ConfigMap", "name": "ca", "key": "ca.crt"}}
            config_map = {"data": {"ca.crt": authorities.read_text()}}
            metadata = {"name": "ca", "namespace": namespace}
            plane.api.apply(
                f"/api/v1/namespaces/{namespace}/configmaps/ca",
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **config_map},
            )
            secure = {"url": upstream.url.replace("http:", "https:"), "tls": ca}
            user.apply("second", upstream.url, path="/second", credential=reference)
            user.apply("third", "", path="/third", upstream=secure)
            user.wait_programmed("second", "third")
            granted = {
                (group, resource, verb, name) for group, resource, verb, name in
                _granted(watch, gateway=whole)
            }  # fmt: skip

            def unused() -> set[Right]:
                return granted - _used(log, installation)[0]

            # One event, seen again and again.
            patches = ("", "events", "patch", "")
            for _ in range(5):
                user.delete_secret("openai")
                user.wait_condition("second", "ResolvedRefs", "False")
                user.secret("openai", OPENAI_API_KEY="sk-one")
                user.wait_condition("second", "ResolvedRefs", "True")
                if patches not in unused():
                    break
            plane.api.merge(
                f"/api/v1/namespaces/{installation.namespace}/configmaps/"
                f"{installation.namespace}-ca",
                {"data": {"ca.crt": "wrong"}},
            )
            published = f"/api/v1/namespaces/{namespace}/configmaps/thruway-ca"
            wait_until(lambda: plane.api.call("GET", published).is_success, "the CA is published")
            plane.api.merge(published, {"data": {"ca.crt": "wrong"}})
            leases = ("coordination.k8s.io", "leases", "delete", "")
            try:
                wait_until(lambda: unused() <= {leases}, "every right has been used", 60)
            except TimeoutError as error:
                raise AssertionError(f"granted and not used: {sorted(unused())}") from error
            for replica in replicas:
                replica.stop()
        used, refused = _used(log, installation)
        assert granted <= used
        assert not refused


def _used(log: Path, installation: Installation) -> tuple[set[Right], set[Right]]:
    """Return the rights that the operator used, by name where there is a rule for it; refusals."""
    used: set[Right] = set()
    refused: set[Right] = set()
    prefix = f"{installation.namespace}-"
    own = {"operator-tls", "ca", "injector"}
    *whole, _ = log.read_text().split("\n")  # the last one may be under way
    for line in whole:
        entry = json.loads(line)
        if not entry["user"]["username"].endswith(f":{installation.service_account}"):
            continue
        reference = entry.get("objectRef") or {}
        resource = reference.get("resource", "")
        if not resource:
            continue
        if reference.get("subresource"):
            resource += f"/{reference['subresource']}"
        group, verb = reference.get("apiGroup", ""), entry["verb"]
        name = reference.get("name", "").removeprefix(prefix)
        # Configurations of webhooks are in no namespace.
        mine = reference.get("namespace", installation.namespace) == installation.namespace
        named = (mine and name in own) or (name, verb) == ("thruway-ca", "patch")
        right = (group, resource, verb, name if named else "")
        allowed = entry["annotations"].get("authorization.k8s.io/decision") == "allow"
        (used if allowed else refused).add(right)
    return used, refused
