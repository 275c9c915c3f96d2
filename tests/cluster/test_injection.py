"""Pods through the real API server and the real webhook, as the chart configures it."""

from __future__ import annotations

import base64
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from thruway_testing.envoy import wait_until
from thruway_testing.injection import FOLDER, NAMES, read_injection
from thruway_testing.kubernetes.api import ROUTES
from thruway_testing.kubernetes.pods import ensure_namespace
from thruway_testing.operator_process import Installation, Replica
from thruway_testing.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from thruway_testing.kubernetes.control_plane import ControlPlane

Pod = dict[str, Any]

IMAGES = {
    "image": {"registry": "registry.example", "repository": "thruway", "tag": "1.2.3"},
    "envoyImage": {"registry": "registry.example", "repository": "envoy", "tag": "1.40.0"},
}
INJECT = {"thruway.dev/inject": "enabled"}
POD: Pod = {
    "metadata": {"name": "app"},
    "spec": {"containers": [{"name": "app", "image": "registry.example/app:1"}]},
}


@pytest.fixture(scope="module")
def installation(control_plane: ControlPlane) -> Iterator[Installation]:
    """The whole cluster's, with certificates of its own."""
    with Installation(
        control_plane, own_certificates=True, injector={}, images=IMAGES
    ) as installation:
        yield installation


@pytest.fixture(scope="module")
def operator(installation: Installation) -> Replica:
    replica = installation.replica().start().wait_ready()
    wait_for_bundle(installation)
    return replica


def wait_for_bundle(installation: Installation) -> None:
    api = installation.plane.api
    config_map = f"/api/v1/namespaces/{installation.namespace}/configmaps"

    def right() -> bool:
        published = api.get(f"{config_map}/{installation.namespace}-ca").get("data") or {}
        wanted = base64.b64encode(published.get("ca.crt", "").encode()).decode()
        found = api.get(installation.webhook_path)["webhooks"]
        return bool(wanted) and all(
            item["clientConfig"].get("caBundle") == wanted for item in found
        )

    wait_until(right, "the webhook's CA is right", 30)


def new_namespace(plane: ControlPlane, labels: dict[str, str], name: str = "") -> str:
    """Return a namespace whose pods get no token of their own, which no case is about."""
    name = name or f"shop-{uuid.uuid4().hex[:8]}"
    ensure_namespace(plane.api, name, labels)
    account = {"metadata": {"name": "default"}, "automountServiceAccountToken": False}
    plane.api.call("POST", f"/api/v1/namespaces/{name}/serviceaccounts", account)
    return name


def create(plane: ControlPlane, namespace: str, pod: Pod, **params: str) -> httpx.Response:
    return plane.api.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod, params=params)


def warnings(response: httpx.Response) -> list[str]:
    """Return ours, without the mark that says so."""
    found = response.headers.get_list("warning")
    texts = [re.sub(r"\\(.)", r"\1", re.fullmatch(r'299 - "(.*)"', item)[1]) for item in found]  # type: ignore[index]
    return [text.removeprefix("thruway: ") for text in texts if text.startswith("thruway: ")]


def holds(found: object, expected: object) -> bool:
    """Whether `found` is `expected` and what the API server fills in."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            name in found and holds(found[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(holds, found, expected))
        )
    return found == expected


@pytest.mark.parametrize("name", NAMES)
def test_golden(
    control_plane: ControlPlane, installation: Installation, operator: Replica, name: str
) -> None:
    case = read_injection(name)
    known = {
        "shop": "",
        "kube-system": "kube-system",
        "thruway-system": installation.namespace,
    }
    namespace = new_namespace(
        control_plane, dict(case.namespace.labels), known[case.namespace.name]
    )
    for document in case.documents:
        route = f"{ROUTES.format(namespace)}/{document['metadata']['name']}"
        control_plane.api.apply(route, document)
        wait_until(lambda: is_known(control_plane, route), "the route is known")  # noqa: B023
    text = (FOLDER / f"{name}.out.yaml").read_text()
    for golden, real in (
        (
            "thruway-operator.thruway-system.svc",
            f"{installation.namespace}-operator.{installation.namespace}.svc",
        ),
        ("thruway.dev/injected: 1.2.3", "thruway.dev/injected: 0.1.0"),
        ("namespace shop", f"namespace {namespace}"),
        ("PassthroughRoute shop/", f"PassthroughRoute {namespace}/"),
    ):
        text = text.replace(golden, real)
    golden = yaml.safe_load(text)
    response = create(control_plane, namespace, case.pod)
    if "refused" in golden:
        assert response.status_code == 400, response.text
        assert golden["refused"] in response.json()["message"]
        return
    assert response.status_code == 201, response.text
    found = response.json()
    assert warnings(response) == golden["warnings"]
    expected = golden.get("injected") or case.pod
    assert holds(found["spec"], expected["spec"]), yaml.safe_dump(found["spec"])
    annotations = found["metadata"].get("annotations", {})
    assert annotations == expected["metadata"].get("annotations", {})
    assert ("injected" in golden) is any(
        item["name"] == "thruway-envoy" for item in found["spec"].get("initContainers", [])
    )


def is_known(plane: ControlPlane, route: str) -> bool:
    """Whether the operator has seen it: it has written its status."""
    return bool(plane.api.get(route).get("status", {}).get("conditions"))


def test_a_dry_run_has_no_effect(control_plane: ControlPlane, operator: Replica) -> None:
    namespace = new_namespace(control_plane, INJECT)
    response = create(control_plane, namespace, POD, dryRun="All")
    assert response.status_code == 201
    assert len(response.json()["spec"]["initContainers"]) == 3
    assert control_plane.api.get(f"/api/v1/namespaces/{namespace}/pods")["items"] == []


def test_what_was_injected_is_admitted_unchanged(
    control_plane: ControlPlane, operator: Replica
) -> None:
    """A pod from `thruway inject`, or one that is copied."""
    namespace = new_namespace(control_plane, INJECT)
    first = create(control_plane, namespace, POD).json()
    again = {
        "metadata": {"name": "copy", "annotations": first["metadata"]["annotations"]},
        "spec": first["spec"],
    }
    second = create(control_plane, namespace, again)
    assert second.status_code == 201, second.text
    assert second.json()["spec"] == first["spec"]


def _mesh(pod: Pod) -> Pod:
    """What Istio's injector does, with native sidecars; once."""
    spec = pod["spec"]
    inits = spec.get("initContainers", [])
    if any(item["name"] == "istio-proxy" for item in inits):
        return pod
    init = {"name": "istio-init", "image": "registry.example/istio:1"}
    proxy = {"name": "istio-proxy", "image": "registry.example/istio:1", "restartPolicy": "Always"}
    spec["initContainers"] = [init, proxy, *inits]
    spec["containers"].append({"name": "late", "image": "registry.example/late:1"})
    return pod


@pytest.mark.parametrize("order", ["aaa", "zzz"])
def test_other_webhooks_may_come_before_or_after(
    control_plane: ControlPlane, operator: Replica, order: str
) -> None:
    namespace = new_namespace(control_plane, INJECT)
    with Webhook(control_plane, f"{order}-mesh", _mesh, namespace) as webhook:
        response = create(control_plane, namespace, POD)
    assert response.status_code == 201, response.text
    assert webhook.calls
    spec = response.json()["spec"]
    names = [item["name"] for item in spec["initContainers"]]
    assert names == [
        "istio-init",
        "istio-proxy",
        "thruway-bootstrap",
        "thruway-envoy",
        "thruway-extproc",
    ]
    # Whoever came after us is told, too.
    for container in spec["containers"]:
        assert [item["name"] for item in container["env"]] == ["OPENAI_BASE_URL", "OPENAI_API_KEY"]
    assert "exec" in spec["initContainers"][-1]["startupProbe"]


def test_the_api_servers_token_reaches_the_application_alone(
    control_plane: ControlPlane, operator: Replica
) -> None:
    namespace = new_namespace(control_plane, INJECT)
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    control_plane.api.merge(path, {"automountServiceAccountToken": True})
    spec = create(control_plane, namespace, POD).json()["spec"]
    mounts = {
        item["name"]: [mount["name"] for mount in item.get("volumeMounts", [])]
        for item in (*spec["initContainers"], *spec["containers"])
    }
    assert [name[:15] for name in mounts["app"]] == ["kube-api-access"]
    assert mounts["thruway-envoy"][:3] == ["thruway-run", "thruway-token", "thruway-ca"]
    for name in ("thruway-bootstrap", "thruway-extproc"):
        assert mounts[name][:1] == ["thruway-run"]
