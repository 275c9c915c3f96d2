"""`thruway doctor` against a real API server: each planted fault is the first that is named."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from thruway_testing.plane.cluster_user import CREDENTIAL
from thruway_testing.plane.kubernetes.pods import ensure_namespace
from thruway_testing.plane.operator_process import Installation
from thruway_testing.product import doctored as d
from thruway_testing.product.command import thruway
from thruway_testing.product.doctor_faults import TOO_MUCH
from thruway_testing.product.doctored_cluster import Town
from thruway_testing.product.up import wait_until
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane


@pytest.fixture(scope="module")
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream(accepted_keys={CANARY_KEY}) as found:
        yield found


@pytest.fixture(scope="module")
def town(control_plane: ControlPlane, upstream: OpenAIUpstream) -> Iterator[Town]:
    """An installation in which all is well; each test leaves it so."""
    namespace = f"doctor-{uuid.uuid4().hex[:8]}"
    ensure_namespace(control_plane.api, namespace)
    with Installation(control_plane, watch=[namespace]) as installation:
        replica = installation.replica().start().wait_ready()
        with Town(control_plane, namespace, installation, replica) as found:
            found.serve(upstream.url, CANARY_KEY)
            yield found


def doctor(town: Town, *arguments: str, kubeconfig: Path | None = None) -> Result:
    config = str(kubeconfig or town.network.kubeconfig)
    return thruway("doctor", "-n", town.namespace, "--kubeconfig", config, *arguments)


def well(town: Town, *arguments: str) -> list[str]:
    result = doctor(town, *arguments)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def fault_in(result: Result) -> str:
    """Return the line of the fault: the only one."""
    assert result.exit_code == 1, result.output
    *steps, summary = result.output.splitlines()
    assert summary.startswith("This is the first problem")
    assert [line for line in steps[:-1] if line.startswith("FAIL")] == []
    assert steps[-1].startswith("FAIL  ")
    return steps[-1]


def test_all_is_well(town: Town) -> None:
    for arguments in ((), ("web",)):
        lines = well(town, *arguments)
        assert [line.split()[1] for line in lines[:-1] if not line.startswith("ok ")] in (
            ["upstream", "requests"],  # nothing was called in the last minute
            [],
        )
        assert [line.split()[1] for line in lines[:-1]] == [
            "api", "crd", "operator", "injection", "webhook", "creation", "certificate",
            "route", "secret", "sidecar", "containers", "xds", "upstream", "environment",
            "application", "requests",
        ]  # fmt: skip


@contextmanager
def webhook(town: Town, **changed: Any) -> Iterator[None]:
    town.post_webhook(**changed)
    try:
        yield
    finally:
        town.post_webhook()


@contextmanager
def no_webhook(town: Town) -> Iterator[None]:
    town.delete_webhook()
    try:
        yield
    finally:
        town.post_webhook()


@contextmanager
def misspelt(town: Town) -> Iterator[None]:
    town.label("yes")
    try:
        yield
    finally:
        town.label("enabled")


@contextmanager
def no_service(town: Town) -> Iterator[None]:
    town.api.delete(town.path("services", town.injector, town.home))
    try:
        yield
    finally:
        town.post(d.service(town.home, town.injector), "services")


@contextmanager
def no_endpoint(town: Town) -> Iterator[None]:
    slices = town.path("endpointslices", f"{town.injector}-abc", town.home)
    whole = d.endpoint_slice(town.home, town.injector)["endpoints"]
    town.api.merge(slices, {"endpoints": []})
    try:
        yield
    finally:
        town.api.merge(slices, {"endpoints": whole})


@contextmanager
def authority(town: Town, text: str | None) -> Iterator[None]:
    path = town.path("configmaps", "thruway-ca")
    town.api.delete(path)
    if text is not None:
        town.post(d.config_map(town.namespace, text), "configmaps")
    try:
        yield
    finally:
        if text is not None:
            town.api.delete(path)
        town.post(d.config_map(town.namespace, town.ca), "configmaps")


@contextmanager
def operator_down(town: Town) -> Iterator[None]:
    path = town.path("pods", "labelled", town.home) + "/status"
    status = d.ready("operator")
    ill = json.loads(json.dumps(status))
    ill["conditions"][0]["status"] = "False"
    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    ill["containerStatuses"][0] |= {"ready": False, "state": {"waiting": waiting}}
    town.api.merge(path, {"status": ill})
    try:
        yield
    finally:
        town.api.merge(path, {"status": status})


@contextmanager
def operator_killed(town: Town) -> Iterator[None]:
    """Its Lease is renewed no more."""
    town.replica.kill()
    path = f"/apis/coordination.k8s.io/v1/namespaces/{town.home}/leases/thruway-operator"
    renewed = dt.datetime.fromisoformat(town.api.get(path)["spec"]["renewTime"])
    wait_until(lambda: (dt.datetime.now(dt.UTC) - renewed).total_seconds() > 5, "it is old")
    try:
        yield
    finally:
        town.replica.start().wait_ready()
        wait_until(lambda: doctor(town).exit_code == 0, "Envoy is back at the operator")


@contextmanager
def no_secret(town: Town) -> Iterator[None]:
    town.user.delete_secret()
    town.user.wait_condition("openai", "ResolvedRefs", "False")
    try:
        yield
    finally:
        town.user.secret(OPENAI_API_KEY=CANARY_KEY)
        town.user.wait_condition("openai", "ResolvedRefs", "True")
        town.user.wait_programmed("openai")


@contextmanager
def other_route(
    town: Town, url: str, path: str, kind: str, status: str, **spec: Any
) -> Iterator[None]:
    town.user.apply("other", url, path=path, **spec)
    town.user.wait_condition("other", kind, status)
    try:
        yield
    finally:
        town.user.delete("other")
        town.user.wait_programmed("openai")


@contextmanager
def route_named(town: Town) -> Iterator[None]:
    path = town.path("pods", "web")
    town.api.merge(path, {"metadata": {"annotations": {"thruway.dev/route": "gone"}}})
    try:
        yield
    finally:
        town.api.merge(path, {"metadata": {"annotations": {"thruway.dev/route": None}}})


@contextmanager
def container(town: Town, name: str, **state: Any) -> Iterator[None]:
    town.pod_status("web", name, {"ready": False, "started": False, **state})
    try:
        yield
    finally:
        town.pod_status("web", name, {**d.running(name), "lastState": {}})


@contextmanager
def mount(town: Town) -> Iterator[None]:
    uid = town.api.get(town.path("pods", "web"))["metadata"]["uid"]
    event = {
        "metadata": {"name": "web.mount", "namespace": town.namespace},
        "involvedObject": {
            "kind": "Pod", "name": "web", "namespace": town.namespace, "uid": uid,
            "apiVersion": "v1",
        },
        "reason": "FailedMount",
        "type": "Warning",
        "message": 'MountVolume.SetUp failed for volume "thruway-ca": configmap not found',
    }  # fmt: skip
    town.post(event, "events")
    waiting = {"waiting": {"reason": "PodInitializing"}}
    with container(town, "thruway-extproc", state=waiting):
        yield
    town.api.delete(town.path("events", "web.mount"))


@contextmanager
def refused(town: Town) -> Iterator[None]:
    """A ReplicaSet whose pods the API server does not take; its controller says so in an event."""
    labels = {"app": "hog"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "x"}]}}
    item = {
        "metadata": {"name": "hog-7f", "namespace": town.namespace},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": pod},
    }
    made = town.post(item, "replicasets")
    event = d.refusal("ReplicaSet", "hog-7f", TOO_MUCH)
    event["involvedObject"] |= {"namespace": town.namespace, "uid": made["metadata"]["uid"]}
    event["metadata"] = {"name": "hog-7f.1", "namespace": town.namespace}
    town.post(event, "events")
    try:
        yield
    finally:
        town.api.delete(town.path("replicasets", "hog-7f"))
        town.api.delete(town.path("events", "hog-7f.1"))


@contextmanager
def planted_pod(town: Town, change: Callable[[d.Object], object]) -> Iterator[None]:
    """Another pod, as somebody else's webhook or template left it."""
    item = d.sidecar_pod(town.namespace, "planted", home=town.home)
    change(item)
    pod = town.pod(item)
    try:
        yield
    finally:
        pod.delete()


def without_token(pod: d.Object) -> None:
    pod["spec"]["volumes"].pop(1)
    for item in pod["spec"]["initContainers"]:
        item["volumeMounts"] = [m for m in item["volumeMounts"] if m["name"] != "thruway-token"]


def past_the_sidecar(pod: d.Object) -> None:
    pod["spec"]["containers"][0]["env"][0]["value"] = "https://api.openai.com/v1"


def opted_out(pod: d.Object) -> None:
    pod["metadata"]["labels"] = {"thruway.dev/inject": "false"}
    pod["spec"]["initContainers"] = []
    pod["status"].pop("initContainerStatuses")


def on_the_host(pod: d.Object) -> None:
    opted_out(pod)
    pod["metadata"]["labels"] = {}
    pod["spec"]["hostNetwork"] = True


OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": None}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
NO_IMAGE = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}

FAULTS: dict[str, tuple[Any, tuple[str, ...], str, str]] = {
    "label": (misspelt, (), "injection", "has the unknown value yes: kubectl label"),
    "opted out": (
        lambda town: planted_pod(town, opted_out), ("planted",), "injection",
        "pod planted has the label thruway.dev/inject=false, so it gets no sidecar: remove the",
    ),
    "hostNetwork": (
        lambda town: planted_pod(town, on_the_host), ("planted",), "injection",
        "pod planted uses hostNetwork, so it gets no sidecar: remove hostNetwork",
    ),
    "operator not ready": (
        operator_down, (), "operator", "is ready; labelled: the image registry.invalid/thruway:1",
    ),
    "operator killed": (operator_killed, (), "operator", "is not renewed, so no status is written"),
    "no webhook": (no_webhook, (), "webhook", "there is no MutatingWebhookConfiguration of the"),
    "caBundle empty": (
        lambda town: webhook(town, ca=""), (), "webhook", "is empty, so the API server does not",
    ),
    "caBundle wrong": (
        lambda town: webhook(town, ca=d.CA), (), "webhook", "is not the operator's current CA",
    ),
    "no Service": (no_service, (), "webhook", "does not exist, which MutatingWebhookConfiguration"),
    "no endpoint": (no_endpoint, (), "webhook", "has no ready endpoint, so the injector"),
    "pods refused": (
        refused, (), "creation", "ReplicaSet hog-7f cannot create its pods: Pod",
    ),
    "no CA": (
        lambda town: authority(town, None), (), "certificate", "does not exist, so no sidecar can",
    ),
    "wrong CA": (
        lambda town: authority(town, d.CA), (), "certificate", "is not the operator's current CA",
    ),
    "route named": (route_named, (), "route", "names PassthroughRoute gone, which is not in"),
    "conflict": (
        lambda town: other_route(town, "https://a.example", "/openai", "Accepted", "False"), (),
        "route", "which keeps the path: use another path, or other hostnames\n",
    ),
    "no Secret": (
        no_secret, (), "route", ": create it\n",
    ),
    "no token": (
        lambda town: planted_pod(town, without_token), (), "containers",
        "volume thruway-token of pod planted does not exist: check which other webhooks",
    ),
    "image": (
        lambda town: container(town, "thruway-envoy", state=NO_IMAGE), (), "containers",
        "of container thruway-envoy cannot be pulled (ImagePullBackOff): not found: check",
    ),
    "memory": (
        lambda town: container(
            town, "thruway-envoy", state=BACK_OFF, lastState=OOM, restartCount=4
        ), (), "containers", "exceeded its memory limit (OOMKilled, 4 restarts): raise its limit",
    ),
    "mount": (mount, (), "containers", "pod web waits for a volume: MountVolume.SetUp failed"),
    "DNS": (
        lambda town: other_route(
            town, "https://no-such-host.invalid", "/other", "Programmed", "True"
        ), (), "upstream", "pod web: no-such-host.invalid cannot be resolved: check",
    ),
    "environment": (
        lambda town: planted_pod(town, past_the_sidecar), ("planted",), "environment",
        "points to api.openai.com, not to the sidecar: remove it from the pod's template",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(town: Town, name: str) -> None:
    plant, arguments, step, sentence = FAULTS[name]
    with plant(town):
        result = doctor(town, *arguments)
    line = fault_in(result)
    assert line.split()[1] == step, line
    assert sentence in f"{line}\n"
    well(town)


def bare(pod: d.Object) -> None:
    """As it is without the injector."""
    pod["metadata"]["annotations"] = {}
    pod["spec"]["initContainers"] = []
    pod["status"].pop("initContainerStatuses")


def second(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def test_a_pod_older_than_the_webhook_and_then_than_the_label(town: Town) -> None:
    """The API server counts whole seconds."""
    town.delete_webhook()
    with planted_pod(town, bare):
        created = second(
            town.api.get(town.path("pods", "planted"))["metadata"]["creationTimestamp"]
        )
        over = created + dt.timedelta(seconds=1)
        wait_until(lambda: dt.datetime.now(dt.UTC) > over, "the next second")
        town.post_webhook()
        webhook_is_newer = doctor(town)
        town.label(None)
        town.label("enabled")
        label_is_newer = doctor(town, "planted")

    assert "pod planted has no sidecar, because it predates the injector's" in fault_in(
        webhook_is_newer
    )
    assert "pod planted has no sidecar, because it predates its namesp" in fault_in(label_is_newer)
    well(town)


def test_a_pod_that_the_injector_did_not_see(town: Town) -> None:
    """The API server asks in vain, as nobody listens at the Service, and failurePolicy lets it."""
    with webhook(town, failurePolicy="Ignore"), planted_pod(town, bare):
        result = doctor(town)

    assert "the injector did not respond when it was created, and failurePolicy is" in fault_in(
        result
    )


def test_a_route_that_the_pod_does_not_call_is_no_fault_of_it(town: Town) -> None:
    with other_route(town, "https://a.example", "/openai", "Accepted", "False"):
        lines = well(town, "web")
        assert "(Conflicted)" in fault_in(doctor(town))
    (line,) = (line for line in lines if line.split()[1] == "route")
    assert line.endswith("; faulty, but not called by pod web: other")


def test_a_pod_that_was_never_made(town: Town) -> None:
    with refused(town):
        result = doctor(town, "hog")
        well(town, "web")
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert f"there is no pod hog in namespace {town.namespace}: ReplicaSet hog-7f cannot cr" in line
    assert (
        "must be less than or equal to memory limit of 512Mi: correct the annotations thruway.dev/"
        in line
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"token": "none"}, "is not connected to the operator: the stream keeps ending"),
        ({"server_name": "other"}, "is not connected to the operator: it does not trust the"),
    ],
)
def test_a_sidecar_that_the_operator_or_that_does_not_trust_the_other(
    town: Town, options: dict[str, Any], sentence: str
) -> None:
    """A real Envoy with a bad token, or that expects another certificate."""
    with town.sidecar("lost", **options):
        result = wait_until(lambda: shown(town, "lost", sentence), sentence)
    assert fault_in(result).split()[1] == "xds"


def shown(town: Town, pod: str, sentence: str) -> Result | None:
    result = doctor(town, *filter(None, [pod]))
    return result if sentence in result.output else None


def test_calls_that_went_through_and_calls_that_did_not(
    town: Town, upstream: OpenAIUpstream
) -> None:
    """Its access log says what happens now, whatever happened before."""
    key = {"Authorization": "Bearer any"}
    assert httpx.get(f"{town.web.url}/openai/v1/models", headers=key).status_code == 200
    (line,) = (line for line in well(town) if line.split()[1] == "upstream")
    assert line.startswith("ok ")
    address = upstream.url.removeprefix("http://")
    assert address in line
    with other_route(town, f"https://{address}", "/other", "Programmed", "True"):
        assert httpx.get(f"{town.web.url}/other/v1/models", headers=key).status_code == 502
        line = fault_in(logged(town, "of route other"))
    assert "the last call of route other through pod web failed: the TLS handshake with " in line
    assert address in line
    well(town)


def logged(town: Town, sentence: str) -> Result:
    """Return what doctor prints once Envoy has written its log."""
    found: Result = wait_until(lambda: shown(town, "", sentence), sentence)
    return found


def test_a_key_that_is_replaced_by_a_bad_one(town: Town) -> None:
    """Envoy has counted successes; the newest calls fail."""
    key = {"Authorization": "Bearer any"}
    url = f"{town.web.url}/openai/v1/models"
    assert httpx.get(url, headers=key).status_code == 200
    town.user.secret(OPENAI_API_KEY="sk-wrong")
    wait_until(lambda: httpx.get(url, headers=key).status_code == 401, "the new key is used")
    for _ in range(2):
        assert httpx.get(url, headers=key).status_code == 401
    line = fault_in(logged(town, "of route openai"))
    assert "rejects key OPENAI_API_KEY of Secret openai (route openai) with 401: put the" in line
    town.user.secret(OPENAI_API_KEY=CANARY_KEY)
    wait_until(lambda: httpx.get(url, headers=key).status_code == 200, "the old key is used")
    wait_until(lambda: doctor(town).exit_code == 0, "Envoy has logged it")


def test_an_upstream_that_goes_away(town: Town) -> None:
    key = {"Authorization": "Bearer any"}
    with ExitStack() as running:
        leaving = running.enter_context(OpenAIUpstream(accepted_keys={CANARY_KEY}))
        with other_route(town, leaving.url, "/other", "Programmed", "True", credential=CREDENTIAL):
            url = f"{town.web.url}/other/v1/models"
            for _ in range(3):
                assert httpx.get(url, headers=key).status_code == 200
            assert logged(town, "route other: 3 calls").exit_code == 0
            running.close()
            wait_until(lambda: httpx.get(url, headers=key).status_code == 502, "it is gone")
            line = fault_in(logged(town, "calls of route other through pod web failed"))
    assert "nothing accepts connections at" in line


def test_a_client_without_a_key_of_the_route(town: Town) -> None:
    with guarded_route(town):
        url = f"{town.web.url}/other/v1/models"
        wait_until(lambda: httpx.get(url).status_code == 401, "the route is served")
        for _ in range(3):
            assert httpx.get(url, headers={"Authorization": "Bearer x"}).status_code == 401
        line = fault_in(logged(town, "invalid_api_key"))
    assert "route other requires a key of its clients (clientAuth), and the request has" in line
    assert "to one of the keys in Secret openai, or remove clientAuth from the route" in line
    assert httpx.get(f"{town.web.url}/openai/v1/models").status_code == 200
    wait_until(lambda: doctor(town).exit_code == 0, "Envoy has logged it")


def guarded_route(town: Town) -> AbstractContextManager[None]:
    client_auth = {"type": "APIKey", "secretRef": {"name": "openai"}}
    url = "https://a.example"
    return other_route(town, url, "/other", "Programmed", "True", clientAuth=client_auth)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            {"credential": CREDENTIAL},
            " rejects key OPENAI_API_KEY of Secret openai (route other) with 401: put the right",
        ),
        ({}, " rejects the client's own key (route other has no credential) with 401: give the"),
    ],
    ids=["Secret", "client"],
)
def test_an_upstream_that_refuses_the_key(town: Town, spec: dict[str, Any], sentence: str) -> None:
    """Told by the statuses in Envoy's log; a key is never shown."""
    with OpenAIUpstream(accepted_keys={"sk-another"}) as strict:
        address = strict.url.removeprefix("http://")
        with other_route(town, strict.url, "/other", "Programmed", "True", **spec):
            key = {"Authorization": "Bearer sk-mine"}
            answer = httpx.get(f"{town.web.url}/other/v1/models", headers=key)
            line = fault_in(logged(town, "of route other"))
        assert answer.status_code == 401
        assert f"the last call of route other through pod web failed: {address}{sentence}" in line
        assert CANARY_KEY not in line
        well(town)


def test_a_key_with_a_newline_is_named_and_not_shown(town: Town) -> None:
    canary = "sk-canary-doctor-0123456789"
    town.user.secret(OPENAI_API_KEY=f"{canary}\n")
    lines = well(town)
    data = doctor(town, "-o", "json").output
    town.user.secret(OPENAI_API_KEY=CANARY_KEY)

    (line,) = (line for line in lines if line.split()[1] == "secret")
    assert "white space around its value, such as a trailing newline" in line
    assert canary not in "".join(lines) + data


def test_json(town: Town) -> None:
    data = json.loads(doctor(town, "-o", "json").output)
    assert (data["version"], data["namespace"], data["pod"]) == (1, town.namespace, None)
    assert data["healthy"] is True
    assert data["steps"][0]["step"] == "api"
    with misspelt(town):
        result = doctor(town, "web", "-o", "json")
    assert result.exit_code == 1
    data = json.loads(result.output)
    assert (data["pod"], data["healthy"], data["steps"][-1]["state"]) == ("web", False, "failed")


def test_a_health_port_that_nobody_leads_to_is_not_checked(town: Town) -> None:
    """The real API server's proxy: the pod has no address."""
    key = {"Authorization": "Bearer any"}
    assert httpx.get(f"{town.web.url}/openai/v1/models", headers=key).status_code == 200
    lines = logged(town, "pod web reaches").output.splitlines()
    config = town.plane.admin_kubeconfig
    result = doctor(town, "web", kubeconfig=config)

    assert [line for line in lines if line.startswith("-")] == []
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.output.splitlines() if " xds " in line)
    assert line.startswith("-  ")
    assert "1 connected proxies" in line


def test_rights(town: Town) -> None:
    """What may not be seen is named; with `view` alone the rest of the chain is walked."""
    user = f"user-{town.namespace}"
    config = town.plane.kubeconfig(user)
    nothing = doctor(town, kubeconfig=config)
    assert f"you lack permission to get namespace {town.namespace}: ask for the" in fault_in(
        nothing
    )

    rules = [
        {"apiGroups": [""],
         "resources": ["namespaces", "pods", "pods/log", "configmaps", "events"],
         "verbs": ["get", "list"]},
        {"apiGroups": ["thruway.dev"], "resources": ["passthroughroutes"], "verbs": ["list"]},
    ]  # fmt: skip
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{town.namespace}"
    town.api.post(f"{base}/roles", {"metadata": {"name": user}, "rules": rules})
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    town.api.post(f"{base}/rolebindings", binding)
    viewer = doctor(town, kubeconfig=config)
    assert viewer.exit_code == 0, viewer.output
    first, *lines, summary = viewer.output.splitlines()
    assert "you may not" in first
    blind = {line.split()[1]: line for line in lines if line.startswith("-  ")}
    assert set(blind) == {"operator", "webhook", "secret", "xds", "upstream", "requests"}
    assert "you lack permission to list pods in the whole cluster" in blind["operator"]
    assert "to list mutatingwebhookconfigurations in the whole cluster" in blind["webhook"]
    assert f"to get secrets in namespace {town.namespace}" in blind["secret"]
    assert f"to get pods/proxy in namespace {town.namespace}" in blind["xds"]
    # The API server returns an empty log of a pod without a node.
    assert "no call has passed through pod web in the last minute" in blind["upstream"]
    assert summary.startswith("No problems found, but some steps were not checked: 6")


def test_a_cluster_without_the_crd(own_control_plane: ControlPlane) -> None:
    ensure_namespace(own_control_plane.api, "shop")
    config = str(own_control_plane.admin_kubeconfig)
    result = thruway("doctor", "-n", "shop", "--kubeconfig", config)

    assert "the cluster does not know passthroughroutes.thruway.dev: install" in fault_in(result)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["-n", "default", "no-such-pod"], 2, "there is no pod no-such-pod in namespace default"),
        (["-n", "no-such-namespace"], 2, "there is no namespace no-such-namespace: name one"),
        (["-n", "../secrets"], 2, "-n is not the name of an object"),
        (["-n", "default", "A/B"], 2, "POD is not the name of an object"),
        (["-n", "default", "a", "b"], 2, "there are too many arguments"),
        (["-n", "default", "-o", "yaml"], 2, "--output must be one of text, json"),
        (["--context", "none"], 2, "no usable kubeconfig"),
    ],
)
def test_bad_arguments(
    control_plane: ControlPlane, arguments: list[str], code: int, sentence: str
) -> None:
    config = str(control_plane.admin_kubeconfig)
    result = thruway("doctor", "--kubeconfig", config, *arguments)

    assert result.exit_code == code
    (line,) = result.output.splitlines()
    assert line.startswith("thruway doctor: ")
    assert sentence in line


def test_no_kubeconfig_and_no_api_server(tmp_path: Path) -> None:
    nothing = thruway("doctor", "--kubeconfig", str(tmp_path / "nothing"))
    assert nothing.exit_code == 2
    assert "no usable kubeconfig" in nothing.output
    away = tmp_path / "away"
    config = {
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    away.write_text(json.dumps(config))
    result = thruway("doctor", "--kubeconfig", str(away))
    assert result.exit_code == 1
    assert "cannot be reached" in fault_in(result)
