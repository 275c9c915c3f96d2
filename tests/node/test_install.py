"""From `helm install` to the first answer, with real pods, a real client and only a proxy key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.plane.cluster_user import code_of
from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.node.images import USER
from thruway_testing.plane.node.release import CHAT, client, route
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from thruway_testing.plane.node.node import Node
    from thruway_testing.plane.node.release import Release


@pytest.fixture(scope="module")
def shop(node: Node, release: Release) -> str:
    """A namespace that the administrator has let in, with a route."""
    node.kubectl().run("label", "namespace", "shop", "thruway.dev/gateway=allowed")
    for item in route():
        node.kubectl("shop").apply(item)
    wait_until(lambda: _columns(node, "shop")[3:5] == ["True", "2"], "it is programmed", 60)
    return "shop"


def _columns(node: Node, namespace: str) -> list[str]:
    """NAME, PATH, UPSTREAM?, ACCEPTED, PROGRAMMED, PROXIES of its route, without the upstream."""
    found = node.kubectl(namespace).get_json("ptr", "openai")
    status = found.get("status", {})
    conditions = {item["type"]: item["status"] for item in status.get("conditions", [])}
    return [
        found["metadata"]["name"],
        found["spec"]["path"],
        conditions.get("Accepted", ""),
        conditions.get("Programmed", ""),
        str(status.get("proxies", {}).get("connected", "")),
    ]


def test_all_pods_are_ready_under_restricted_pod_security(release: Release) -> None:
    for component in ("operator", "gateway"):
        pods = release.pods(component)
        assert len(pods) == 2
        for pod in pods:
            found = {item["type"]: item["status"] for item in pod["status"]["conditions"]}
            assert found["Ready"] == "True"
            states = pod["status"]["containerStatuses"]
            assert [state["restartCount"] for state in states] == [0]


def test_a_pod_with_only_a_proxy_key_streams_a_chat_completion(
    node: Node, release: Release, shop: str
) -> None:
    kubectl = node.kubectl(shop)
    base = f"http://thruway-gateway.{release.namespace}.svc:4000/openai_passthrough/v1"
    pod = client(USER, "app", CHAT, OPENAI_BASE_URL=base, OPENAI_API_KEY="tw-openai_passthrough")
    kubectl.apply(pod)
    wait_until(
        lambda: kubectl.get_json("pod", "app")["status"]["phase"] in {"Succeeded", "Failed"},
        "the application has ended",
        60,
    )
    said = kubectl.run("logs", "app").stdout
    assert said.endswith("done\n"), said + release.state()
    assert said.count("chunk") > 2
    table = kubectl.run("get", "ptr").stdout.splitlines()
    assert table[0].split()[:7] == [
        "NAME", "PATH", "UPSTREAM", "READY", "REASON", "PROXIES", "AGE",
    ]  # fmt: skip
    assert table[1].split()[3:6] == ["True", "Ready", "2"]
    url = kubectl.get_json("ptr", "openai")["status"]["url"]
    assert url == f"http://thruway-gateway.{release.namespace}.svc:4000/openai_passthrough"


def test_helm_test(release: Release, shop: str) -> None:
    done = release.run("test", "thruway", "--timeout", "60s", check=False)
    assert done.returncode == 0, done.stderr + release.state()
    assert "Succeeded" in done.stdout


def test_strangers_are_refused(node: Node, release: Release, shop: str) -> None:
    """No key, a wrong one, the namespace's own upstream key; each is the SDK's 401."""
    url = f"{release.url}/openai_passthrough/v1/models"
    for key in ("", "tw-other", CANARY_KEY):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = httpx.get(url, headers=headers, trust_env=False)
        assert answer.status_code == 401, key
    mine = {"Authorization": "Bearer tw-openai_passthrough"}
    assert httpx.get(url, headers=mine, trust_env=False).status_code == 200


def test_who_came_later_squats_on_no_path(node: Node, release: Release, shop: str) -> None:
    """The older route keeps its path; keys of one namespace do not open another's route."""
    node.kubectl().run("label", "namespace", "blog", "thruway.dev/gateway=allowed")
    kubectl = node.kubectl("blog")
    for item in route("/openai_passthrough/v1/models"):
        kubectl.apply(item)
    wait_until(lambda: _columns(node, "blog")[2] == "False", "it is refused", 30)
    found = kubectl.get_json("ptr", "openai")["status"]["conditions"]
    accepted = next(item for item in found if item["type"] == "Accepted")
    assert accepted["reason"] == "Conflicted"
    assert "shop/openai" in accepted["message"]
    for item in route("/blog"):
        kubectl.apply(item)
    wait_until(lambda: _columns(node, "blog")[3:5] == ["True", "2"], "it is programmed", 30)
    for path, key in (("/openai_passthrough", "tw-blog"), ("/blog", "tw-openai_passthrough")):
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.get(f"{release.url}{path}/v1/models", headers=headers, trust_env=False)
        assert answer.status_code == 401
    node.kubectl().run("label", "namespace", "blog", "thruway.dev/gateway-")
    wait_until(lambda: _columns(node, "blog")[2] == "False", "it is not allowed any more", 30)
    gone = httpx.get(f"{release.url}/blog/v1/models", trust_env=False)
    assert code_of(gone) == "route_not_found"


def test_no_key_is_in_any_log_or_object_but_its_secret(
    node: Node, release: Release, shop: str
) -> None:
    kubectl = node.kubectl(release.namespace)
    for component in ("operator", "gateway"):
        for pod in release.pods(component):
            name = pod["metadata"]["name"]
            logs = kubectl.run("logs", name, "--all-containers").stdout
            assert logs
            assert CANARY_KEY not in logs
            assert "tw-openai_passthrough" not in logs
    for kind in ("configmaps", "events", "ptr", "leases"):
        text = node.kubectl().run("get", kind, "--all-namespaces", "-o", "json").stdout
        assert CANARY_KEY not in text


def test_kopf_runs_in_the_pods(node: Node, release: Release) -> None:
    """Without it all goes on as well, but half a minute later."""
    kubectl = node.kubectl(release.namespace)
    for pod in release.pods("operator"):
        assert "kopf" not in kubectl.run("logs", pod["metadata"]["name"]).stdout


def test_the_pods_can_write_nothing_and_see_no_token_that_they_do_not_use(
    node: Node, release: Release
) -> None:
    kubectl = node.kubectl(release.namespace)
    gateway = release.pods("gateway")[0]["metadata"]["name"]
    code = (
        "import os, pathlib\n"
        "for path in ('/x', '/etc/x', '/opt/thruway/x', '/var/x'):\n"
        "    try:\n        open(path, 'w')\n        print('wrote', path)\n"
        "    except OSError:\n        pass\n"
        "for path in ('/run/secrets/thruway/token',\n"
        "             '/var/run/secrets/kubernetes.io/serviceaccount/token'):\n"
        "    print(path, os.path.exists(path))\n"
        "print(os.getuid())\n"
    )
    said = kubectl.run("exec", gateway, "-c", "extproc", "--", "python3", "-c", code).stdout
    assert said.splitlines() == [
        "/run/secrets/thruway/token False",
        "/var/run/secrets/kubernetes.io/serviceaccount/token False",
        "65532",
    ]
