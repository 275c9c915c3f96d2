"""Whatever an administrator does, no request fails and no stream is cut before its time."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.node.images import ROOT, THRUWAY
from thruway_testing.plane.node.release import route, values
from thruway_testing.plane.node.traffic import traffic
from thruway_testing.product.chart import CHART

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thruway_testing.plane.node.images import Images
    from thruway_testing.plane.node.node import Node
    from thruway_testing.plane.node.release import Release

NEXT = "localhost/thruway:next"


@pytest.fixture
def base(node: Node, release: Release) -> str:
    """A route that traffic goes through, and two replicas of everything."""
    node.kubectl().run("label", "namespace", "shop", "thruway.dev/gateway=allowed", "--overwrite")
    for item in route():
        node.kubectl("shop").apply(item)
    _scale(node, release, 2)
    wait_until(lambda: _proxies(node) == (2, 2), "both proxies are programmed", 60)
    return f"{release.url}/openai_passthrough"


def _proxies(node: Node) -> tuple[int, int]:
    found = node.kubectl("shop").get_json("ptr", "openai").get("status", {}).get("proxies", {})
    return found.get("connected", 0), found.get("programmed", 0)


def _served(node: Node) -> bool:
    """Whether both proxies have the route as it is now."""
    found = node.kubectl("shop").get_json("ptr", "openai")
    return found["status"].get("observedGeneration") == found["metadata"][
        "generation"
    ] and _proxies(node) == (2, 2)


def _scale(node: Node, release: Release, replicas: int) -> None:
    kubectl = node.kubectl(release.namespace)
    kubectl.run("scale", "deployment/thruway-gateway", f"--replicas={replicas}")
    release.rolled_out("gateway")


def _restart(component: str) -> Callable[[Node, Release], None]:
    def act(node: Node, release: Release) -> None:
        kubectl = node.kubectl(release.namespace)
        kubectl.run("rollout", "restart", f"deployment/thruway-{component}")
        release.rolled_out(component)

    return act


def _delete(component: str) -> Callable[[Node, Release], None]:
    def act(node: Node, release: Release) -> None:
        name = release.pods(component)[0]["metadata"]["name"]
        node.kubectl(release.namespace).run("delete", "pod", name, "--wait=false")
        release.rolled_out(component)

    return act


def _resize(node: Node, release: Release) -> None:
    for replicas in (1, 3, 1):
        _scale(node, release, replicas)


def _rotate(node: Node, release: Release) -> None:
    """Have the operator make a new certificate, and proxies come anew and check it."""
    kubectl = node.kubectl(release.namespace)
    before = kubectl.get_json("secret", "thruway-operator-tls")["data"]["tls.crt"]
    kubectl.run("patch", "secret", "thruway-operator-tls", "-p", '{"data":{"tls.crt":null}}')

    def replaced() -> bool:
        now = kubectl.get_json("secret", "thruway-operator-tls")["data"].get("tls.crt")
        return now not in {None, before}

    wait_until(replaced, "there is a new certificate", 40)
    _restart("gateway")(node, release)


def _change_the_route(node: Node, _: Release) -> None:
    kubectl = node.kubectl("shop")
    for number in range(5):
        for item in route(response={"headers": {"set": [{"name": "x-n", "value": str(number)}]}}):
            kubectl.apply(item)
    wait_until(lambda: _served(node), "the last change is programmed", 60)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(_restart("operator"), id="operator-restarted"),
        pytest.param(_restart("gateway"), id="gateway-restarted"),
        pytest.param(_delete("operator"), id="operator-pod-deleted"),
        pytest.param(_delete("gateway"), id="gateway-pod-deleted"),
        pytest.param(_resize, id="gateway-scaled"),
        pytest.param(_rotate, id="certificate-rotated"),
        pytest.param(_change_the_route, id="route-changed"),
    ],
)
def test_nothing_fails(
    node: Node, release: Release, base: str, act: Callable[[Node, Release], None]
) -> None:
    with traffic(base, "tw-openai_passthrough"):
        act(node, release)


def test_an_upgrade_and_an_old_proxy_under_the_new_operator(
    node: Node, release: Release, base: str, images: Images, tmp_path: Path
) -> None:
    """`helm upgrade` to the next version fails nothing; old gateway pods take changes meanwhile."""
    chart = _next_version(tmp_path, images)
    node.load(NEXT)
    kubectl = node.kubectl(release.namespace)
    old = {pod["metadata"]["name"] for pod in release.pods("gateway")}
    with traffic(base, "tw-openai_passthrough"):
        kubectl.run("rollout", "pause", "deployment/thruway-gateway")
        release.upgrade(values(NEXT), chart, wait=False)
        release.rolled_out("operator")
        operators = release.pods("operator")
        assert {pod["spec"]["containers"][0]["image"] for pod in operators} == {NEXT}
        assert {pod["metadata"]["name"] for pod in release.pods("gateway")} == old
        _change_the_route(node, release)
    with traffic(base, "tw-openai_passthrough"):
        kubectl.run("rollout", "resume", "deployment/thruway-gateway")
        release.rolled_out("gateway")
        assert not old & {pod["metadata"]["name"] for pod in release.pods("gateway")}
    with traffic(base, "tw-openai_passthrough"):
        assert release.run("rollback", "thruway", "--wait", "--timeout", "240s").returncode == 0
        release.rolled_out("operator")
        release.rolled_out("gateway")
    images_now = {pod["spec"]["containers"][0]["image"] for pod in release.pods("gateway")}
    assert images_now == {THRUWAY}


def _next_version(folder: Path, images: Images) -> Path:
    """Build the image and the chart of a version that does not exist yet; return the chart."""
    context = folder / "next"
    context.mkdir()
    for name in ("Dockerfile", ".dockerignore", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, context / name)
    for name in ("image.lock", "image-build.lock"):
        shutil.copy(ROOT / name, context / name)
    for name in ("extproc", "operator"):
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    project = (ROOT / "pyproject.toml").read_text()
    (context / "pyproject.toml").write_text(
        project.replace('version = "0.1.0"', 'version = "0.2.0"')
    )
    images.thruway(NEXT, context)
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    facts = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(
        yaml.safe_dump({**facts, "version": "0.2.0", "appVersion": "0.2.0"})
    )
    return chart
