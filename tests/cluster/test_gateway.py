"""The shared gateway's proxies: `exposure: Cluster` of selected namespaces, and nothing else."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.plane.cluster_user import User, code_of, wait_answer
from thruway_testing.plane.kubernetes.pods import create_pod, ensure_namespace
from thruway_testing.plane.operator_process import Installation, Replica
from thruway_testing.product.sidecar import Sidecar
from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

KEYS = {"type": "APIKey", "secretRef": {"name": "clients"}}
LABEL = "thruway.dev/gateway"


@pytest.fixture
def installation(control_plane: ControlPlane) -> Iterator[Installation]:
    """One that watches all namespaces, with the rights for it."""
    with Installation(control_plane, gateway=True) as found:
        yield found


@pytest.fixture
def operator(installation: Installation) -> Replica:
    account = f"--gateway={installation.namespace}/gateway"
    url = "--gateway-url=http://gateway.example:4000"
    return installation.replica(
        account, url, f"--gateway-selector={LABEL}={installation.namespace}",
        "--allow-private-upstreams",
    ).start().wait_ready()  # fmt: skip


@pytest.fixture
def gateway(
    control_plane: ControlPlane, installation: Installation, operator: Replica
) -> Iterator[Sidecar]:
    pod = create_pod(control_plane.api, installation.namespace, "gateway-0", "gateway")
    with Sidecar(pod, installation.authorities, [operator.address]) as found:
        yield found


def test_a_namespace_is_selected_and_its_routes_are_served_to_who_has_a_key(
    control_plane: ControlPlane, installation: Installation, gateway: Sidecar
) -> None:
    api = control_plane.api
    shop, blog = (f"{name}-{uuid.uuid4().hex[:6]}" for name in ("shop", "blog"))
    for name in (shop, blog):
        ensure_namespace(api, name)
    user, other = User(api, shop), User(api, blog)
    with OpenAIUpstream() as upstream:
        for who in (user, other):
            who.secret("clients", alice=f"tw-{who.namespace}")
            path = f"/{who.namespace}"
            who.apply("shared", upstream.url, path=path, exposure="Cluster", clientAuth=KEYS)
            who.apply("own", upstream.url, path=f"{path}-own")
        refused = user.wait_condition("shared", "Accepted", "False", "NotAllowed")
        assert f"namespace {shop}" in refused["message"]

        label = {"metadata": {"labels": {LABEL: installation.namespace}}}
        api.merge(f"/api/v1/namespaces/{shop}", label)

        user.wait_condition("shared", "Accepted", "True")
        gateway.wait_ready()
        url = f"{gateway.url}/{shop}/models"
        mine = {"Authorization": f"Bearer tw-{shop}"}
        answer = wait_answer(url, lambda a: a.headers.get("x-upstream") == "openai", headers=mine)
        assert answer.headers["x-upstream"] == "openai"
        assert httpx.get(url, trust_env=False).status_code == 401
        theirs = {"Authorization": f"Bearer tw-{blog}"}
        assert httpx.get(url, headers=theirs, trust_env=False).status_code == 401
        for path in (f"/{shop}-own", f"/{blog}", f"/{blog}-own"):
            nothing = httpx.get(f"{gateway.url}{path}/models", headers=mine, trust_env=False)
            assert code_of(nothing) == "route_not_found"
        user.wait_programmed("shared")
        assert user.get("shared")["status"]["url"] == f"http://gateway.example:4000/{shop}"
        other.wait_condition("shared", "Accepted", "False", "NotAllowed")

        api.merge(f"/api/v1/namespaces/{shop}", {"metadata": {"labels": {LABEL: None}}})
        user.wait_condition("shared", "Accepted", "False", "NotAllowed")
        assert code_of(wait_answer(url, 404, headers=mine)) == "route_not_found"
