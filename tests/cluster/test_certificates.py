"""Certificates that the operator makes: shared by replicas, healed, replaced under streams."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.plane.cluster_user import User
from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.kubernetes.pods import create_pod
from thruway_testing.plane.operator_process import Installation, Replica
from thruway_testing.product.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream


@pytest.fixture
def own(control_plane: ControlPlane) -> Iterator[Installation]:
    with Installation(control_plane, own_certificates=True) as found:
        yield found


def _secret(installation: Installation) -> dict[str, str]:
    path = _path(installation, "secrets", "operator-tls")
    data = installation.plane.api.get(path).get("data") or {}
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


def _path(installation: Installation, kind: str, name: str) -> str:
    namespace = installation.namespace
    return f"/api/v1/namespaces/{namespace}/{kind}/{namespace}-{name}"


def _both(installation: Installation) -> list[Replica]:
    replicas = [installation.replica().start() for _ in range(2)]
    return [replica.wait_ready() for replica in replicas]


def test_replicas_share_one_authority_and_serve_with_it(
    control_plane: ControlPlane, own: Installation, namespace: str, upstream: OpenAIUpstream
) -> None:
    replicas = _both(own)
    files = [
        {f.name: f.read_text() for f in r.tls_folder.iterdir() if f.is_file()} for r in replicas
    ]
    assert files[0] == files[1]
    secret = _secret(own)
    assert files[0]["ca.crt"] == secret["ca.crt"]
    published = control_plane.api.get(_path(own, "configmaps", "ca"))["data"]
    assert published == {"ca.crt": secret["ca.crt"]}
    for replica in replicas:
        assert secret["tls.key"] not in replica.log
        assert (replica.tls_folder / "tls.key").stat().st_mode & 0o777 == 0o600

    user = User(control_plane.api, namespace)
    user.apply("openai", upstream.url)
    pod = create_pod(control_plane.api, namespace, "app")
    authorities = replicas[0].tls_folder / "ca.crt"
    with Sidecar(pod, authorities, [replica.address for replica in replicas]) as car:
        car.wait_ready()
        user.wait_programmed("openai")

        # Somebody takes the certificate away: there is another, and nothing is heard of it.
        control_plane.api.merge(_path(own, "secrets", "operator-tls"), {"data": {"tls.crt": None}})
        wait_until(lambda: _secret(own).get("tls.crt") not in {None, secret["tls.crt"]}, "new", 30)
        fresh = _secret(own)["tls.crt"]

        def all_have_it() -> bool:
            return all((r.tls_folder / "tls.crt").read_text() == fresh for r in replicas)

        wait_until(all_have_it, "all replicas have it", 30)
        user.apply("second", upstream.url, path="/second")
        user.wait_programmed("second")
        assert httpx.get(f"{car.url}/second/models", trust_env=False).status_code == 401
        assert upstream.requests[-1].raw_path == b"/models"

        # A wrong ConfigMap heals.
        control_plane.api.merge(_path(own, "configmaps", "ca"), {"data": {"ca.crt": "nonsense"}})
        path = _path(own, "configmaps", "ca")
        wait_until(
            lambda: control_plane.api.get(path)["data"] == published, "it is right again", 30
        )


def test_without_the_objects_it_says_so_and_waits(own: Installation) -> None:
    path = _path(own, "secrets", "operator-tls")
    api = own.plane.api
    item = api.get(path)
    api.call("DELETE", path)
    replica = own.replica().start()
    wait_until(lambda: "operator-tls" in replica.log, "it says what is missing", 30)
    assert replica.exit_code is None
    assert replica.health()[0] == 503
    metadata = {"name": item["metadata"]["name"], "namespace": own.namespace}
    api.apply(path, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"})
    replica.wait_ready()
    assert "Traceback" not in replica.log
