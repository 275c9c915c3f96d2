"""An operator that cannot do its work says why, keeps trying, and tells the truth of its health."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from thruway_testing.plane.cluster_user import TOO_LARGE, User
from thruway_testing.plane.kubernetes.pods import ensure_namespace
from thruway_testing.plane.kubernetes.setup import install_crd
from thruway_testing.plane.operator_process import Installation, Replica
from thruway_testing.product.up import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane


@pytest.fixture
def plane(own_control_plane: ControlPlane) -> ControlPlane:
    ensure_namespace(own_control_plane.api, "shop")
    return own_control_plane


def warnings(replica: Replica) -> list[str]:
    return [line for line in replica.log.splitlines() if " WARNING " in line or " ERROR " in line]


def is_waiting(replica: Replica, words: str) -> bool:
    """Whether it says so once, in one line and in /readyz, and lives."""
    code, body = replica.health("/readyz")
    said = [line for line in warnings(replica) if words in line]
    return (
        code == 503
        and body["status"] == "starting"
        and any(words in problem for problem in body["problems"])
        and len(said) == 1
        and replica.health("/healthz")[0] == 200
        and replica.exit_code is None
    )


def test_without_the_crd_without_rights_and_without_an_api_server(plane: ControlPlane) -> None:
    with Installation(plane, watch=["shop"]) as installation:
        replica = installation.replica().start()
        wait_until(lambda: is_waiting(replica, "install Thruway's CRD"), "no CRD")

        installation.revoke()
        install_crd(plane)
        wait_until(lambda: is_waiting(replica, "bind the chart's roles"), "no rights")

        plane.kill_api_server()
        wait_until(lambda: is_waiting(replica, "cannot be reached"), "no API server")

        plane.start_api_server()
        installation.grant()
        replica.wait_ready()
        user = User(plane.api, "shop")
        user.apply("a", "https://api.example.com")
        user.wait_condition("a", "Accepted", "True")
        assert "Traceback" not in replica.log

        # It stays ready while the API server is away: proxies that come back need it then.
        plane.kill_api_server()
        wait_until(lambda: replica.health()[1].get("problems"), "it notices")
        assert replica.health()[0] == 200
        plane.start_api_server()
        wait_until(lambda: not replica.health()[1]["problems"], "it is well again")
        assert "Traceback" not in replica.log


def test_rights_that_are_taken_away_take_no_route_away(plane: ControlPlane) -> None:
    install_crd(plane)
    with Installation(plane, watch=["shop"]) as installation:
        replica = installation.replica().start().wait_ready()
        user = User(plane.api, "shop")
        user.apply("a", "https://api.example.com")
        user.wait_condition("a", "Accepted", "True")

        installation.revoke()
        # Watches go on with the rights that they began with: a new one is needed.
        plane.kill_api_server()
        plane.start_api_server()
        wait_until(lambda: any("does not let" in line for line in warnings(replica)), "it says so")
        assert replica.health()[0] == 200

        installation.grant()
        user.apply("a", "https://api.example.com", request=TOO_LARGE)
        user.wait_condition("a", "Accepted", "False", "RuleTooLarge")


@pytest.fixture
def bare(control_plane: ControlPlane, namespace: str) -> Iterator[Installation]:
    with Installation(control_plane, watch=[namespace]) as found:
        yield found


def ended(replica: Replica) -> str:
    """Wait for its end; return what it said at last, which is one sentence."""
    wait_until(lambda: replica.exit_code is not None, "its end")
    last = replica.log.splitlines()[-1]
    assert "Traceback" not in replica.log
    return f"{replica.exit_code}: {last}"


def test_what_it_cannot_start_with_is_said_in_one_sentence(bare: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = bare.replica(f"--health-listen=127.0.0.1:{port}").start()
        assert re.fullmatch(
            rf"1: .*port {port} .*choose another address with --health-listen", ended(busy)
        )
        xds = bare.replica(f"--xds-listen=127.0.0.1:{port}").start()
        assert re.search(rf"1: .*cannot serve xDS on 127\.0\.0\.1:{port}", ended(xds))
    wrong = bare.replica(f"--tls-key={bare.certificate}").start()
    assert ended(wrong).startswith("1: thruway-operator: cannot serve xDS:")
    gateway = bare.replica("--gateway=nonsense").start()
    assert "2: thruway operator: --gateway must be NAMESPACE/ACCOUNT" in ended(gateway)
