"""A node for the session, with Thruway installed by its chart from its own image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thruway_testing.plane.kubernetes.binaries import BinariesError, find_programs
from thruway_testing.plane.node.images import ENVOY, THRUWAY, USER, Images
from thruway_testing.plane.node.needs import PROGRAMS, missing
from thruway_testing.plane.node.node import Node
from thruway_testing.plane.node.release import Release, upstream, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def _say(config: pytest.Config) -> Callable[[str], None]:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    assert terminal is not None
    assert capture is not None

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.write_line(line)

    return say


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make what takes long before the first test, whose time limit it would break."""
    if session.config.option.collectonly or not session.items:
        return
    lacks = missing()
    if lacks:
        pytest.exit("the node tests need " + "; ".join(lacks), returncode=1)
    say = _say(session.config)
    try:
        find_programs(PROGRAMS, say)
    except BinariesError as error:
        pytest.exit(str(error), returncode=1)
    images = Images(say)
    images.thruway()
    images.envoy()
    images.user()
    images.pause()
    whole, base = images.size(THRUWAY), images.size(images.base())
    say(f"Thruway's image is {whole} large; {base} of it are the base.")


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    return find_programs(PROGRAMS, print)


@pytest.fixture(scope="session")
def images() -> Images:
    return Images(print)


@pytest.fixture(scope="session")
def node(programs: dict[str, Path], images: Images) -> Iterator[Node]:
    with Node(programs, images) as found:
        for image in (THRUWAY, ENVOY, USER):
            found.load(image)
        yield found


@pytest.fixture(scope="session")
def release(node: Node, programs: dict[str, Path]) -> Release:
    """The chart as a user installs it, in a namespace with restricted Pod Security; an upstream."""
    found = Release(node, programs["helm"])
    kubectl = node.kubectl()
    for namespace in (found.namespace, "upstream", "shop", "blog"):
        kubectl.run("create", "namespace", namespace)
        level = "pod-security.kubernetes.io/enforce=restricted"
        kubectl.run("label", "namespace", namespace, level)
    for item in upstream(USER):
        node.kubectl("upstream").apply(item)
    found.upgrade(values())
    node.kubectl("upstream").run("rollout", "status", "deployment/upstream", "--timeout=55s")
    return found
