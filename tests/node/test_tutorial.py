"""The commands of docs/install.md, typed on a node with nothing on it, as they stand there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from thruway_testing.plane.node.images import ENVOY, ROOT, THRUWAY
from thruway_testing.plane.node.release import UPSTREAM, values
from thruway_testing.product.chart import CHART
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thruway_testing.plane.node.images import Images
    from thruway_testing.plane.node.node import Node
    from thruway_testing.plane.node.release import Release

TEXT = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
TUTORIAL, _, AFTERWARDS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
ROUTE = "examples/gateway/route.yaml"


@pytest.fixture
def nothing(node: Node, release: Release, images: Images) -> Iterator[None]:
    """No release, no namespace of it or of `shop`; the images where the chart expects them."""
    chart = yaml.safe_load((CHART / "values.yaml").read_text())
    facts = yaml.safe_load((CHART / "Chart.yaml").read_text())
    envoy = chart["envoyImage"]
    curl = re.search(r"--image=(\S+)", TUTORIAL)
    assert curl is not None
    for image, name in (
        (THRUWAY, f"{chart['image']['repository']}:{facts['appVersion']}"),
        (ENVOY, f"{envoy['repository']}:{envoy['tag']}"),
        (images.curl(), curl[1]),
    ):
        registry = "" if name.startswith("localhost/") else "docker.io/"
        node.load(image, registry + name)
    release.run("uninstall", "thruway", "--wait")
    kubectl = node.kubectl()
    kubectl.run("delete", "namespace", release.namespace, "shop", "--timeout=55s")
    kubectl.run("delete", "crd", "passthroughroutes.thruway.dev", "--timeout=55s")
    yield
    for namespace in (release.namespace, "shop"):
        kubectl.run("create", "namespace", namespace, check=False)
        level = "pod-security.kubernetes.io/enforce=restricted"
        kubectl.run("label", "namespace", namespace, level)
    release.upgrade(values())


@pytest.mark.usefixtures("nothing")
def test_from_nothing_to_the_first_answer(node: Node, release: Release, tmp_path: Path) -> None:
    assert len(TUTORIAL.splitlines()) <= 10
    route = yaml.safe_load((ROOT / ROUTE).read_text())
    # The real one is out of reach.
    route["spec"]["upstream"] = {"url": UPSTREAM}
    (tmp_path / "route.yaml").write_text(yaml.safe_dump(route))
    said = release.typed(
        TUTORIAL.replace("sk-…", CANARY_KEY)
        .replace(ROUTE, str(tmp_path / "route.yaml"))
        .replace("--wait\n", "--wait --set gateway.allowPrivateUpstreams=true\n", 1),
        tmp_path,
    )
    assert '"object": "list"' in said
    said = release.typed(AFTERWARDS, tmp_path)
    assert "has been upgraded" in said
    assert "uninstalled" in said
    kept = node.kubectl("shop").get_json("ptr", "openai-gateway")
    assert kept["spec"]["path"] == route["spec"]["path"]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
