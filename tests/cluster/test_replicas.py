"""Two replicas: both serve, one writes, and either may vanish."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from thruway_testing.plane.cluster_user import TOO_LARGE, User, wait_answer
from thruway_testing.plane.kubernetes.pods import create_pod
from thruway_testing.product.sidecar import Sidecar
from thruway_testing.product.up import wait_until
from thruway_testing.upstreams.openai_upstream import OpenAIUpstream
from thruway_testing.wire.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.plane.operator_process import Installation, Replica

Pair = tuple["Replica", "Replica"]
HOLDS = "holds the Lease"


@pytest.fixture
def pair(installation: Installation) -> Pair:
    one = installation.replica().start()
    two = installation.replica().start()
    return one.wait_ready(), two.wait_ready()


@pytest.fixture
def cars(control_plane: ControlPlane, namespace: str, pair: Pair) -> Iterator[list[Sidecar]]:
    """One sidecar on each replica, each knowing both."""
    with contextlib.ExitStack() as stack:
        found = []
        for number, replica in enumerate(pair):
            other = pair[1 - number]
            pod = create_pod(control_plane.api, namespace, f"app-{number}")
            authorities = control_plane.authority.certificate
            addresses = [replica.address, other.address]
            found.append(stack.enter_context(Sidecar(pod, authorities, addresses)))
        yield found


def leader(pair: Pair) -> int:
    """Wait until one of them holds the Lease; return which."""

    def holder() -> str:
        states = ["does not" not in _last_word(replica) for replica in pair]
        return str(states.index(True)) if any(states) else ""

    return int(wait_until(holder, "a leader"))


def _last_word(replica: Replica) -> str:
    lines = [line for line in replica.log.splitlines() if "the Lease" in line]
    return lines[-1] if lines else "does not"


def proxies(user: User, name: str) -> dict[str, int]:
    found: dict[str, int] = user.get(name).get("status", {}).get("proxies", {})
    return found


def test_counts_are_over_both_and_status_goes_on_when_either_is_killed(
    control_plane: ControlPlane, namespace: str, pair: Pair, cars: list[Sidecar]
) -> None:
    user = User(control_plane.api, namespace)
    with OpenAIUpstream() as upstream:
        user.apply("a", upstream.url)
        for car in cars:
            car.wait_ready()
            wait_answer(f"{car.url}/a/models", lambda a: a.headers.get("x-upstream") == "openai")
        everybody = {"connected": 2, "programmed": 2}
        wait_until(lambda: proxies(user, "a") == everybody, "both proxies are counted")
        user.wait_programmed("a")

        urls = [f"{car.url}/a/v1/responses" for car in cars]
        with Load(urls, clients=4, headers={"Authorization": "Bearer any"}) as load:
            first = leader(pair)
            for victim in (first, 1 - first):
                pair[victim].kill()
                user.apply("a", upstream.url, path="/a", timeouts={"idle": f"{victim + 100}s"})
                user.wait_programmed("a")
                wait_until(lambda: proxies(user, "a") == everybody, "both are counted again")
                pair[victim].start().wait_ready()
        assert load.done > 50
        assert not load.failures


def test_who_was_frozen_writes_nothing_once_another_holds_the_lease(
    control_plane: ControlPlane, namespace: str, pair: Pair
) -> None:
    user = User(control_plane.api, namespace)
    user.apply("a", "https://api.example.com")
    user.wait_condition("a", "Accepted", "True")
    first = leader(pair)
    pair[first].pause()
    try:
        wait_until(lambda: HOLDS in _last_word(pair[1 - first]), "the other takes over")
        user.apply("a", "https://api.example.com", request=TOO_LARGE)
        user.wait_condition("a", "Accepted", "False", "RuleTooLarge")
        before = user.get("a")["metadata"]["resourceVersion"]
    finally:
        pair[first].resume()
    wait_until(lambda: "does not hold" in _last_word(pair[first]), "it notices")
    # Whatever it would have written, it would have tried to before it writes this again.
    user.apply("b", "https://api.example.com")
    user.wait_condition("b", "Accepted", "True")

    assert user.get("a")["metadata"]["resourceVersion"] == before
    assert "does not hold" not in _last_word(pair[1 - first])


def test_a_replica_that_ends_lets_go_of_the_lease_at_once(
    control_plane: ControlPlane, namespace: str, pair: Pair
) -> None:
    user = User(control_plane.api, namespace)
    first = leader(pair)

    assert pair[first].stop() == 0

    wait_until(lambda: HOLDS in _last_word(pair[1 - first]), "the other takes over")
    user.apply("a", "https://api.example.com")
    user.wait_condition("a", "Accepted", "True")
    leases = control_plane.api.get(
        f"/apis/coordination.k8s.io/v1/namespaces/{pair[0].pod.namespace}/leases"
    )["items"]
    names = {lease["metadata"]["name"] for lease in leases}
    assert names == {"thruway-operator", f"thruway-replica-{pair[1 - first].pod.name}"}


def test_the_lease_of_a_replica_that_vanished_is_taken_away(
    control_plane: ControlPlane, installation: Installation
) -> None:
    replica = installation.replica().start().wait_ready()
    path = f"/apis/coordination.k8s.io/v1/namespaces/{installation.namespace}/leases"
    metadata = {
        "name": "thruway-replica-gone",
        "labels": {"thruway.dev/replica": "true"},
        "annotations": {"thruway.dev/address": "127.0.0.1:1"},
    }
    control_plane.api.post(path, {"metadata": metadata, "spec": {"holderIdentity": "gone"}})

    def names() -> set[str]:
        return {item["metadata"]["name"] for item in control_plane.api.get(path)["items"]}

    wait_until(
        lambda: names() == {"thruway-operator", f"thruway-replica-{replica.pod.name}"},
        "only the living have a Lease",
    )


def test_both_serve_the_same_bytes(
    control_plane: ControlPlane, namespace: str, pair: Pair, cars: list[Sidecar]
) -> None:
    user = User(control_plane.api, namespace)
    methods = {"methods": ["GET", "POST"], "headers": {"set": [{"name": "x-a", "value": "1"}]}}
    for name in ("c", "a", "b"):
        user.apply(name, "https://api.example.com", request=methods)
    for car in cars:
        car.wait_ready()
    user.wait_programmed("a", "b", "c")

    assert served(cars[0]) == served(cars[1])


def served(car: Sidecar) -> list[object]:
    """Return the routes and clusters that a proxy was given, without when and by which stream."""
    routes = car.envoy.get_json("/config_dump?resource=dynamic_route_configs")["configs"]
    clusters = car.envoy.get_json("/config_dump?resource=dynamic_active_clusters")["configs"]
    return [
        *(item["route_config"] for item in routes),
        *sorted((item["cluster"] for item in clusters), key=lambda item: str(item["name"])),
    ]
