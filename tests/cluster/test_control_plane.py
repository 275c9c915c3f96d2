"""The tests' own control plane is a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thruway_testing.plane.kubernetes.binaries import BinariesError, find_binaries
from thruway_testing.plane.kubernetes.pods import create_pod

if TYPE_CHECKING:
    from pathlib import Path

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.plane.kubernetes.kubectl import Kubectl


def test_kubectl_reads_what_it_applied(kubectl: Kubectl) -> None:
    kubectl.run("create", "configmap", "here", "--from-literal=a=b")

    assert kubectl.get_json("configmap", "here")["data"] == {"a": "b"}


def test_a_token_is_bound_to_its_pod(control_plane: ControlPlane, namespace: str) -> None:
    pod = create_pod(control_plane.api, namespace, "proxy")
    spec = {"token": pod.token(), "audiences": ["thruway-xds"]}

    review = control_plane.api.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": spec})

    user = review["status"]["user"]
    assert user["username"] == f"system:serviceaccount:{namespace}:app"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["proxy"]


def test_a_wrong_folder_of_binaries_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    with pytest.raises(BinariesError, match="holds no kube-apiserver and no etcd: correct it"):
        find_binaries(lambda _: None)


def test_the_api_server_keeps_its_data_over_a_restart(own_control_plane: ControlPlane) -> None:
    api = own_control_plane.api
    api.post("/api/v1/namespaces", {"metadata": {"name": "kept"}})

    own_control_plane.kill_api_server()
    assert not api.is_ready()
    own_control_plane.start_api_server()

    assert api.get("/api/v1/namespaces/kept")["metadata"]["name"] == "kept"
