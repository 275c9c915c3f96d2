"""Sidecars run as the webhook has made them: starts, ends, an operator that is away."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from thruway_testing.plane.cluster_user import User, code_of, wait_answer
from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.kubernetes.pods import ensure_namespace, ensure_service_account
from thruway_testing.plane.operator_process import Installation
from thruway_testing.product.injected_pod import InjectedPod
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

MESHED = {"linkerd.io/inject": "enabled"}


@pytest.fixture
def shop(control_plane: ControlPlane) -> str:
    """A namespace with the label."""
    name = f"shop-{uuid.uuid4().hex[:8]}"
    ensure_namespace(control_plane.api, name, {"thruway.dev/inject": "enabled"})
    ensure_service_account(control_plane.api, name, "app")
    return name


@pytest.fixture
def own(control_plane: ControlPlane, shop: str) -> Iterator[Installation]:
    with Installation(control_plane, watch=[shop], own_certificates=True, injector={}) as found:
        yield found


def pod(**annotations: str) -> dict[str, Any]:
    container = {"name": "app", "image": "registry.example/app:1"}
    return {
        "metadata": {"generateName": "app-", "annotations": annotations},
        "spec": {"serviceAccountName": "app", "containers": [container]},
    }


def answers(url: str) -> bool:
    """Whether a call succeeds."""
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def declare_route(control_plane: ControlPlane, shop: str, upstream: OpenAIUpstream) -> User:
    user = User(control_plane.api, shop)
    user.secret("openai", OPENAI_API_KEY=CANARY_KEY)
    user.apply(
        "openai",
        upstream.url,
        path="/openai_passthrough",
        provider="openai",
        credential={"secretKeyRef": {"name": "openai", "key": "OPENAI_API_KEY"}},
    )
    return user


def admitted(control_plane: ControlPlane, shop: str) -> bool:
    """Whether the webhook works; the first start of an operator takes a moment."""
    path = f"/api/v1/namespaces/{shop}/pods"
    return control_plane.api.call("POST", path, pod(), params={"dryRun": "All"}).is_success


@pytest.mark.parametrize("annotations", [{}, MESHED], ids=["alone", "in-a-mesh"])
def test_an_application_without_configuration_streams(
    control_plane: ControlPlane,
    own: Installation,
    shop: str,
    upstream: OpenAIUpstream,
    monkeypatch: pytest.MonkeyPatch,
    annotations: dict[str, str],
) -> None:
    operator = own.replica().start().wait_ready()
    wait_until(lambda: admitted(control_plane, shop), "the webhook answers", 20)
    user = declare_route(control_plane, shop, upstream)
    config_map = f"/api/v1/namespaces/{shop}/configmaps/thruway-ca"
    wait_until(lambda: control_plane.api.call("GET", config_map).is_success, "the CA is there", 20)
    with InjectedPod(control_plane, shop, pod(**annotations), operator.port) as car:
        user.wait_programmed("openai")
        for name, value in car.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        with openai.OpenAI() as client:
            stream = client.chat.completions.create(
                model="gpt-5", stream=True, messages=[{"role": "user", "content": "Hello"}]
            )
            assert list(stream)
        sent = {name.lower(): value for name, value in upstream.requests[-1].headers}
        assert sent["authorization"] == f"Bearer {CANARY_KEY}"

        ready = "thruway-extproc" if annotations else "thruway-envoy"
        assert car.probe(ready, "readinessProbe")
        assert car.probe(ready, "livenessProbe")
        # The hook finds nothing under way, and leaves the sidecar as it is.
        assert car.hook("thruway-extproc").returncode == 0
        assert car.probe(ready, "readinessProbe")

        for name in ("thruway-extproc", "thruway-envoy"):
            car.kill(name)
            wait_until(lambda: answers(f"{car.base_url}/models"), "it is back", 20)
        wait_until(lambda: car.probe(ready, "readinessProbe"), "it is ready again", 20)
        for name in ("thruway-bootstrap", "thruway-extproc", "thruway-envoy"):
            assert CANARY_KEY not in car.log(name)


def test_with_the_operator_away_a_pod_starts_and_calls_wait(
    control_plane: ControlPlane, own: Installation, shop: str, upstream: OpenAIUpstream
) -> None:
    """Admitted, then the operator is gone, before its CA has reached the namespace."""
    operator = own.replica().start().wait_ready()
    wait_until(lambda: admitted(control_plane, shop), "the webhook answers", 20)
    manifest = pod()
    made = control_plane.api.call(
        "POST", f"/api/v1/namespaces/{shop}/pods", manifest, params={"dryRun": "All"}
    ).json()
    operator.stop()
    control_plane.api.call("DELETE", own.webhook_path)
    control_plane.api.call("DELETE", f"/api/v1/namespaces/{shop}/configmaps/thruway-ca")
    metadata = {"generateName": "app-", "annotations": made["metadata"]["annotations"]}
    admitted_before = {"metadata": metadata, "spec": made["spec"]}
    with InjectedPod(control_plane, shop, admitted_before, operator.port) as car:
        assert 20 < car.started["thruway-envoy"] < 35
        answer = httpx.get(f"{car.base_url}/models", trust_env=False)
        assert (answer.status_code, code_of(answer)) == (503, "config_pending")
        assert car.probe("thruway-envoy", "livenessProbe")
        declare_route(control_plane, shop, upstream)
        operator.start().wait_ready()
        wait_until(car.project_authorities, "the CA is published", 20)
        wait_answer(f"{car.base_url}/models", 200)
