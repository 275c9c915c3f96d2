"""A real control plane for the session, and a namespace for each test."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from thruway_testing.plane.kubernetes.binaries import (
    Binaries,
    BinariesError,
    find_binaries,
    find_programs,
)
from thruway_testing.plane.kubernetes.control_plane import ControlPlane
from thruway_testing.plane.kubernetes.kubectl import Kubectl
from thruway_testing.plane.kubernetes.pods import create_pod, ensure_namespace
from thruway_testing.plane.kubernetes.setup import install_crd
from thruway_testing.plane.operator_process import Installation, Replica
from thruway_testing.product.sidecar import Sidecar
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing before the first test, whose time limit a build would break."""
    config = session.config
    if config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if not used & {"binaries", "helm"}:
        return
    capture = config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - workers have no terminal

    try:
        find_binaries(say)
        if "helm" in used:
            find_programs(["helm"], say)
    except BinariesError as error:
        if not hasattr(config, "workerinput"):  # a worker's tests say it, each of them
            pytest.exit(str(error), returncode=1)


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """kube-apiserver and etcd."""
    return find_binaries(print)


@pytest.fixture(scope="session")
def helm() -> Path:
    """The real Helm."""
    return find_programs(["helm"], print)["helm"]


@pytest.fixture(scope="session")
def control_plane(binaries: Binaries) -> Iterator[ControlPlane]:
    """One control plane with Thruway's CRD, which all tests of a session share."""
    with ControlPlane(binaries) as plane:
        install_crd(plane)
        yield plane


@pytest.fixture
def own_control_plane(binaries: Binaries) -> Iterator[ControlPlane]:
    """A control plane of the test's own, to be killed, frozen or changed; without the CRD."""
    with ControlPlane(binaries) as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A fresh namespace."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    ensure_namespace(control_plane.api, name)
    return name


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> Kubectl:
    """kubectl in that namespace, as an administrator."""
    return Kubectl(control_plane.admin_kubeconfig, namespace)


@pytest.fixture
def installation(control_plane: ControlPlane, namespace: str) -> Iterator[Installation]:
    """What the chart installs, to watch that namespace."""
    with Installation(control_plane, watch=[namespace]) as found:
        yield found


@pytest.fixture
def operator(installation: Installation) -> Replica:
    """One replica of the operator, which serves."""
    return installation.replica().start().wait_ready()


@pytest.fixture
def sidecar(control_plane: ControlPlane, namespace: str, operator: Replica) -> Iterator[Sidecar]:
    """A sidecar in that namespace, configured by that operator, not waited for."""
    pod = create_pod(control_plane.api, namespace, "app")
    with Sidecar(pod, control_plane.authority.certificate, [operator.address]) as found:
        yield found


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    """An upstream that lets in who has the key."""
    with OpenAIUpstream(accepted_keys={CANARY_KEY}) as found:
        yield found
