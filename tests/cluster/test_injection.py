"""Pods through the real API server and the real webhook, as the chart configures it."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import threading
import uuid
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml

from thruway_operator.sidecar.decide.users import RANGE
from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.kubernetes.api import ROUTES
from thruway_testing.plane.kubernetes.bulk import route as bulk_route
from thruway_testing.plane.kubernetes.pods import ensure_namespace
from thruway_testing.plane.operator_process import Installation, Replica
from thruway_testing.plane.webhook import Webhook
from thruway_testing.product.injection import FOLDER, NAMES, read_injection

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

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
    if case.namespace.users is not None:
        first, length = case.namespace.users.start, len(case.namespace.users)
        annotations = {"metadata": {"annotations": {RANGE: f"{first}/{length}"}}}
        control_plane.api.merge(f"/api/v1/namespaces/{namespace}", annotations)
        wait_until(
            lambda: "65533" not in create(control_plane, namespace, case.pod, dryRun="All").text,
            "the range is known",
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
        assert [item["name"] for item in container["env"]] == [
            "OPENAI_BASE_URL",
            "OPENAI_API_BASE",
            "OPENAI_API_KEY",
        ]
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
    assert mounts["thruway-envoy"] == ["thruway-run", "thruway-token", "thruway-ca"]
    for name in ("thruway-bootstrap", "thruway-extproc"):
        assert mounts[name] == ["thruway-run"]


def test_who_is_told_of_the_ca(
    control_plane: ControlPlane, installation: Installation, operator: Replica
) -> None:
    """Namespaces with the label, and those with a route; what is changed there is put right."""
    api = control_plane.api
    namespaces = [new_namespace(control_plane, labels) for labels in (INJECT, {}, {})]
    labelled, routed, neither = (
        f"/api/v1/namespaces/{name}/configmaps/thruway-ca" for name in namespaces
    )
    route = f"{ROUTES.format(namespaces[1])}/openai"
    api.apply(route, bulk_route("openai", "http://127.0.0.1:1"))
    own = f"/api/v1/namespaces/{installation.namespace}/configmaps/{installation.namespace}-ca"
    right = api.get(own)["data"]

    def is_right(path: str) -> bool:
        answer = api.call("GET", path)
        return answer.is_success and answer.json().get("data") == right

    for path in (labelled, routed):
        wait_until(lambda: is_right(path), "the CA is there", 20)  # noqa: B023
    api.merge(labelled, {"data": {"ca.crt": "nonsense"}})
    api.delete(routed)
    for path in (labelled, routed):
        wait_until(lambda: is_right(path), "the CA is there again", 20)  # noqa: B023
    assert api.call("GET", neither).status_code == 404
    version = api.get(labelled)["metadata"]["resourceVersion"]
    api.merge(f"/api/v1/namespaces/{namespaces[2]}", {"metadata": {"labels": INJECT}})
    wait_until(lambda: is_right(neither), "a label that comes later counts", 20)
    assert api.get(labelled)["metadata"]["resourceVersion"] == version, "written without need"


def test_a_wrong_ca_in_the_webhook_heals(
    control_plane: ControlPlane, installation: Installation, operator: Replica
) -> None:
    namespace = new_namespace(control_plane, INJECT)
    wrong = base64.b64encode(control_plane.authority.certificate.read_bytes()).decode()
    found = control_plane.api.get(installation.webhook_path)
    for webhook in found["webhooks"]:
        webhook["clientConfig"]["caBundle"] = wrong
    control_plane.api.put(installation.webhook_path, found)
    wait_for_bundle(installation)
    wait_until(
        lambda: create(control_plane, namespace, POD, dryRun="All").status_code == 201,
        "pods are admitted again",
        20,
    )


class Stream:
    """Dry-run admissions, one after another, from a thread; `failures` are their answers."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane = plane
        self._namespace = namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            response = create(self._plane, self._namespace, POD, dryRun="All")
            self.count += 1
            if response.status_code != 201:
                self.failures.append(f"{response.status_code} {response.text}")

    def wait(self, more: int) -> None:
        """Wait for so many more."""
        wanted = self.count + more
        wait_until(lambda: self.count >= wanted, "more admissions", 60)


def test_certificates_are_replaced_under_a_stream_of_admissions(
    control_plane: ControlPlane, installation: Installation, operator: Replica
) -> None:
    """Every handshake is a new one: the API server is made to call anew by closing connections."""
    namespace = new_namespace(control_plane, INJECT)
    secret = (
        f"/api/v1/namespaces/{installation.namespace}/secrets/{installation.namespace}-operator-tls"
    )

    def served() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", operator.injector_port), 10) as plain,
            _unchecked().wrap_socket(plain) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""

    with Stream(control_plane, namespace) as stream:
        stream.wait(20)
        for _ in range(2):
            before = served()
            control_plane.api.merge(secret, {"data": {"tls.crt": None, "tls.key": None}})
            wait_until(lambda: served() != before, "another certificate is served", 30)  # noqa: B023
            # The API server keeps its connection for as long as its bundle stays; a newline more
            # is another bundle, which the operator puts right once more.
            found = control_plane.api.get(installation.webhook_path)
            for webhook in found["webhooks"]:
                text = base64.b64decode(webhook["clientConfig"]["caBundle"]) + b"\n"
                webhook["clientConfig"]["caBundle"] = base64.b64encode(text).decode()
            control_plane.api.put(installation.webhook_path, found)
            stream.wait(40)
            wait_for_bundle(installation)
            stream.wait(40)
    assert stream.failures == []
    assert stream.count > 150


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_while_the_operator_is_away(control_plane: ControlPlane, policy: str) -> None:
    """Pods that ask are refused or let in as the chart says; others never notice."""
    asking = new_namespace(control_plane, {"thruway-test": "asks"})
    quiet = new_namespace(control_plane, {})
    with Installation(
        control_plane, watch=[asking, quiet], injector={"failurePolicy": policy}
    ) as installation:
        installation.replica()  # it has a port, where nobody listens
        control_plane.api.merge(f"/api/v1/namespaces/{asking}", {"metadata": {"labels": INJECT}})

        def answer(namespace: str, **labels: str) -> httpx.Response:
            metadata = {"name": f"app-{uuid.uuid4().hex[:6]}", "labels": labels}
            return create(control_plane, namespace, {**POD, "metadata": metadata})

        def as_configured() -> bool:
            return (answer(asking).status_code == 201) is (policy == "Ignore")

        wait_until(as_configured, "the webhook's configuration counts", 20)
        for labels in ({}, {"thruway.dev/inject": "false"}):
            assert answer(quiet, **labels).status_code == 201
        assert answer(asking, **{"thruway.dev/inject": "false"}).status_code == 201
        opted_in = answer(quiet, **{"thruway.dev/inject": "true"})
        assert opted_in.status_code == (201 if policy == "Ignore" else 500)
        assert "thruway" in opted_in.text
