"""Pods that the real API server rejects because of the sidecar: doctor's remedy admits them."""

from __future__ import annotations

import base64
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.diagnose.findings.refusals import remedy_for
from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.kubernetes.pods import ensure_namespace
from thruway_testing.plane.operator_process import Installation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

APP = {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"cpu": "200m", "memory": "1Gi"}}


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """An API server that calls an injector."""
    with Installation(control_plane, own_certificates=True, injector={}) as installation:
        installation.replica().start().wait_ready()
        published = f"/api/v1/namespaces/{installation.namespace}/configmaps"

        def trusted() -> bool:
            found = control_plane.api.get(f"{published}/{installation.namespace}-ca").get("data")
            wanted = base64.b64encode((found or {}).get("ca.crt", "").encode()).decode()
            webhooks = control_plane.api.get(installation.webhook_path)["webhooks"]
            return bool(wanted) and all(
                item["clientConfig"].get("caBundle") == wanted for item in webhooks
            )

        wait_until(trusted, "the API server trusts the injector", 30)
        yield control_plane


def new_namespace(plane: ControlPlane) -> str:
    name = f"shop-{uuid.uuid4().hex[:8]}"
    ensure_namespace(plane.api, name, {"thruway.dev/inject": "enabled"})
    account = {"metadata": {"name": "default"}, "automountServiceAccountToken": False}
    plane.api.call("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account)
    return name


def create(plane: ControlPlane, namespace: str, annotations: dict[str, str]) -> httpx.Response:
    container = {"name": "app", "image": "registry.example/app:1", "resources": APP}
    pod = {
        "metadata": {"name": "app", "annotations": annotations},
        "spec": {"containers": [container]},
    }
    path = f"/api/v1/namespaces/{namespace}/pods"
    return plane.api.call("POST", path, pod, params={"dryRun": "All"})


def limit_range(**limits: dict[str, str]) -> tuple[str, dict[str, Any]]:
    return "limitranges", {"limits": [{"type": "Container", **limits}]}


def quota(**hard: str) -> tuple[str, dict[str, Any]]:
    return "resourcequotas", {"hard": {name.replace("_", "."): n for name, n in hard.items()}}


def restrict(plane: ControlPlane, namespace: str, kind: str, spec: dict[str, Any]) -> None:
    path = f"/api/v1/namespaces/{namespace}/{kind}"
    plane.api.call("POST", path, {"metadata": {"name": "small"}, "spec": spec})
    if kind == "resourcequotas":  # a controller would write this, which does not run here
        zero = dict.fromkeys(spec["hard"], "0")
        status = {"status": {"hard": spec["hard"], "used": zero}}
        found = {**plane.api.get(f"{path}/small"), **status}
        plane.api.call("PUT", f"{path}/small/status", found)


@pytest.mark.parametrize(
    ("restriction", "values"),
    [
        (limit_range(max={"memory": "1Gi"}, min={"cpu": "200m"}), {"cpu-request": "200m"}),
        (limit_range(min={"memory": "200Mi"}), {"memory-request": "200Mi"}),
        (limit_range(max={"cpu": "1"}), {"cpu-limit": "500m"}),
        (limit_range(maxLimitRequestRatio={"cpu": "10"}), {"cpu-limit": "100m"}),
        (limit_range(maxLimitRequestRatio={"memory": "2"}), {"memory-limit": "128Mi"}),
        (quota(limits_cpu="2"), {"cpu-limit": "500m"}),
        (quota(cpu="210m"), {"cpu-request": "5m"}),
        (quota(requests_memory="1044Mi"), {"memory-request": "10Mi"}),
        (quota(limits_memory="1280Mi", limits_cpu="2"), {"memory-limit": "128Mi",
                                                         "cpu-limit": "500m"}),
    ],
)  # fmt: skip
def test_the_annotations_that_doctor_names_admit_the_pod(
    plane: ControlPlane, restriction: tuple[str, dict[str, Any]], values: dict[str, str]
) -> None:
    """Whichever it names, in whatever order; each attempt sets those of the latest message."""
    namespace = new_namespace(plane)
    assert create(plane, namespace, {}).status_code == 201
    restrict(plane, namespace, *restriction)
    annotations: dict[str, str] = {}

    wait_until(
        lambda: create(plane, namespace, annotations).status_code == 403, "it is enforced", 30
    )
    while (response := create(plane, namespace, annotations)).status_code != 201:
        message = response.json()["message"]
        named = re.findall(r"thruway\.dev/((?:envoy|extproc)-[\w-]+)", remedy_for(message))
        new = {f"thruway.dev/{name}": values[name.partition("-")[2]] for name in named}
        assert new.items() - annotations.items(), message
        annotations.update(new)
