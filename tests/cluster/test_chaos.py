"""What may go wrong around the operator, with traffic running: no request fails.

`THRUWAY_CHAOS_SECONDS`: how long outages last; 2 in `make test`, 30 in `make chaos`.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from thruway_testing.plane.cluster_user import User, wait_answer
from thruway_testing.plane.kubernetes.api import ROUTES
from thruway_testing.plane.kubernetes.control_plane import ControlPlane
from thruway_testing.plane.kubernetes.pods import create_pod, ensure_namespace
from thruway_testing.plane.kubernetes.setup import install_crd
from thruway_testing.plane.operator_process import Installation, Replica
from thruway_testing.product.sidecar import Sidecar
from thruway_testing.product.up import wait_until
from thruway_testing.upstreams.openai_upstream import OpenAIUpstream
from thruway_testing.wire.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTAGE = float(os.environ.get("THRUWAY_CHAOS_SECONDS", "2"))

pytestmark = pytest.mark.timeout(180 + 10 * OUTAGE)


@pytest.fixture(scope="module")
def plane(binaries: object) -> Iterator[ControlPlane]:
    """A control plane that these tests may break, and mend again."""
    with ControlPlane(binaries) as found:  # type: ignore[arg-type]
        install_crd(found)
        yield found


@dataclass
class Scene:
    """A namespace with a proxy that serves /steady, under load, and the replicas behind it."""

    plane: ControlPlane
    user: User
    replicas: list[Replica]
    car: Sidecar
    upstream: OpenAIUpstream
    load: Load

    def goes_on(self) -> None:
        """Wait for more traffic."""
        before = self.load.done
        wait_until(lambda: self.load.done > before + 30, "traffic")

    def last(self) -> None:
        """Let traffic run for as long as an outage is to last."""
        until = time.monotonic() + OUTAGE
        wait_until(lambda: time.monotonic() > until, "the outage", deadline=OUTAGE + 30)

    def header(self, path: str) -> str | None:
        """Return what the route at this path marks its answers with."""
        answer = wait_answer(f"{self.car.url}{path}/models", lambda _: True)
        found = answer.headers.get("x-mark")
        return None if found is None else str(found)

    def mark(self, name: str, value: str) -> None:
        """Apply a route that marks its answers."""
        headers = {"set": [{"name": "x-mark", "value": value}]}
        self.user.apply(name, self.upstream.url, response={"headers": headers})

    def remark(self, name: str, value: str) -> None:
        """Change the mark of a route: a patch costs the API server less than an apply."""
        path = f"{ROUTES.format(self.user.namespace)}/{name}"
        headers = {"set": [{"name": "x-mark", "value": value}]}
        self.plane.api.merge(path, {"spec": {"response": {"headers": headers}}})


@contextlib.contextmanager
def scene(plane: ControlPlane, number: int, pause: float = 0.0) -> Iterator[Scene]:
    namespace = f"chaos-{uuid.uuid4().hex[:8]}"
    ensure_namespace(plane.api, namespace)
    user = User(plane.api, namespace)
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(OpenAIUpstream())
        installation = stack.enter_context(Installation(plane, watch=[namespace]))
        replicas = [installation.replica().start() for _ in range(number)]
        for replica in replicas:
            replica.wait_ready()
        user.apply("steady", upstream.url)
        pod = create_pod(plane.api, namespace, "app")
        addresses = [replica.address for replica in replicas]
        car = stack.enter_context(Sidecar(pod, installation.authorities, addresses)).wait_ready()
        url = f"{car.url}/steady/v1/responses"
        wait_answer(f"{car.url}/steady/models", lambda a: a.headers.get("x-upstream") == "openai")
        headers = {"Authorization": "Bearer any"}
        load = stack.enter_context(Load([url], clients=4, headers=headers, pause=pause))
        found = Scene(plane, user, replicas, car, upstream, load)
        found.goes_on()
        yield found
        found.goes_on()
    assert not load.failures


def test_the_operator_is_killed_and_started_again(plane: ControlPlane) -> None:
    with scene(plane, 1) as it:
        it.replicas[0].kill()
        it.mark("meanwhile", "one")
        it.goes_on()
        it.replicas[0].start().wait_ready()
        wait_until(lambda: it.header("/meanwhile") == "one", "what was applied meanwhile")


def test_both_replicas_are_down_for_long(plane: ControlPlane) -> None:
    with scene(plane, 2) as it:
        it.mark("goes", "one")
        wait_until(lambda: it.header("/goes") == "one", "the route")
        for replica in it.replicas:
            replica.kill()
        it.user.delete("goes")
        it.last()
        assert it.header("/goes") == "one"  # nobody has told the proxy yet
        for replica in it.replicas:
            replica.start()
        wait_until(lambda: it.header("/goes") is None, "the deletion")
        it.user.wait_programmed("steady")


def test_the_api_server_is_down_while_a_route_goes_and_another_changes(plane: ControlPlane) -> None:
    """The operator is frozen while the API server is back, so that it misses all events."""
    with scene(plane, 1) as it:
        it.mark("goes", "one")
        it.mark("changes", "one")
        wait_until(lambda: (it.header("/goes"), it.header("/changes")) == ("one", "one"), "both")
        plane.kill_api_server()
        it.last()
        assert it.header("/goes") == "one"
        assert it.replicas[0].is_ready()  # it serves on
        it.replicas[0].pause()
        try:
            plane.start_api_server()
            it.user.delete("goes")
            it.mark("changes", "two")
            # What it would resume its watches from is forgotten: 410.
            plane.compact()
            plane.kill_api_server()
            plane.start_api_server()
        finally:
            it.replicas[0].resume()
        wait_until(lambda: it.header("/goes") is None, "the deletion that nobody told of")
        wait_until(lambda: it.header("/changes") == "two", "the change")
        it.user.wait_programmed("steady", "changes")
        assert not it.replicas[0].health()[1]["problems"]


def test_the_api_server_hangs(plane: ControlPlane) -> None:
    with scene(plane, 1) as it:
        plane.pause_api_server()
        try:
            it.last()
        finally:
            plane.resume_api_server()
        it.mark("after", "one")
        wait_until(lambda: it.header("/after") == "one", "a route after that")


def test_many_changes_a_second_end_in_the_last_state(plane: ControlPlane) -> None:
    """With less traffic, so that two cores are enough for 200 changes a second."""
    with scene(plane, 1, pause=0.2) as it:
        before = memory(it.replicas[0].pid)
        for number in range(10):
            it.mark(f"r{number}", "first")
        names = [f"r{number}" for number in range(10)]
        stop = time.monotonic() + max(OUTAGE * 2, 4)

        def change(mine: list[str]) -> None:
            number = 0
            while time.monotonic() < stop:
                number += 1
                for name in mine:
                    it.remark(name, f"{number}")
            for name in mine:
                it.mark(name, "last")

        threads = [threading.Thread(target=change, args=([name],)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in names:
            wait_until(lambda name=name: it.header(f"/{name}") == "last", f"the last of {name}")  # type: ignore[misc]
        it.user.wait_programmed(*names)
        assert memory(it.replicas[0].pid) < before + 64 * 1024


def memory(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def test_what_envoy_refuses_among_good_ones_is_said_on_its_route_alone(plane: ControlPlane) -> None:
    """A CA certificate of a version that OpenSSL takes and BoringSSL does not."""
    der = ssl.PEM_cert_to_DER_cert(plane.authority.certificate.read_text())
    strange = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")
    assert strange != der
    tls = {"caCertificateRef": {"kind": "Secret", "name": "ca", "key": "ca.crt"}}
    with scene(plane, 2) as it:
        it.user.secret("ca", **{"ca.crt": ssl.DER_cert_to_PEM_cert(strange)})
        upstream = {"url": "https://api.example.com", "tls": tls}
        it.user.apply("refused", "", upstream=upstream)
        it.mark("good", "one")

        found = it.user.wait_condition("refused", "Programmed", "False", "Rejected")
        assert "trusted CA" in found["message"]
        wait_until(lambda: it.header("/good") == "one", "the good one")
        it.user.wait_programmed("steady", "good")

        it.user.secret("ca", **{"ca.crt": plane.authority.certificate.read_text()})
        it.user.wait_programmed("refused")
