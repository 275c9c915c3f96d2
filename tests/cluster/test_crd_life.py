"""The CRD is deleted, recreated, replaced and rolled back while the operator runs."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.kube import KubeClient, load_access
from thruway_operator.kube.reflector import Reflector
from thruway_operator.sources.kubernetes.hints import Hints
from thruway_testing.plane.cluster_user import User, code_of, wait_answer
from thruway_testing.plane.kubernetes.api import ROUTES
from thruway_testing.plane.kubernetes.pods import create_pod, ensure_namespace
from thruway_testing.plane.kubernetes.setup import install_crd
from thruway_testing.plane.operator_process import Installation, Replica
from thruway_testing.product.sidecar import Sidecar
from thruway_testing.product.up import wait_until
from thruway_testing.upstreams.openai_upstream import CANARY_KEY
from thruway_testing.wire.load import Load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

NAME = "passthroughroutes.thruway.dev"
CRD = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}"
URL = "https://api.example.com"
CHANGES = 20


@pytest.fixture
def plane(own_control_plane: ControlPlane) -> ControlPlane:
    """A control plane with the CRD, which the test may replace."""
    ensure_namespace(own_control_plane.api, "shop")
    install_crd(own_control_plane)
    return own_control_plane


def is_served(plane: ControlPlane) -> bool:
    return plane.api.call("GET", ROUTES.format("shop")).status_code == 200


def delete(plane: ControlPlane) -> None:
    plane.api.delete(CRD)
    wait_until(lambda: not is_served(plane), "the CRD is gone")
    wait_until(lambda: not watches(plane), "the API server has ended all watches")


def watches(plane: ControlPlane) -> list[str]:
    """Return the API server's count of watches of routes, unless it is 0."""
    lines = plane.api.call("GET", "/metrics").text.splitlines()
    counts = [line for line in lines if line.startswith("apiserver_longrunning_requests{")]
    ours = [line for line in counts if 'resource="passthroughroutes"' in line]
    return [line for line in ours if not line.endswith(" 0")]


def recreate(plane: ControlPlane) -> None:
    install_crd(plane)
    wait_until(lambda: is_served(plane), "the CRD is served")


def replace(plane: ControlPlane, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply the chart's CRD with a change to its only version."""
    crd = plane.api.get(CRD)
    versions = copy.deepcopy(crd["spec"]["versions"])
    change(versions)
    plane.api.merge(CRD, {"spec": {"versions": versions}})


def with_another_field(versions: Any) -> None:
    schema = versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema["ofTheNextRelease"] = {"type": "string", "maxLength": 9}


def with_a_default(versions: Any) -> None:
    schema = versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    schema["ofTheNextRelease"] = {"type": "string", "maxLength": 9, "default": "yes"}


def without_that_field(versions: Any) -> None:
    del versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][
        "ofTheNextRelease"
    ]


def with_another_version(versions: Any) -> None:
    """What is stored stays; the version that this operator reads is no longer served."""
    versions.append({**versions[0], "name": "v1", "storage": False})
    versions[0]["served"] = False


def with_this_version(versions: Any) -> None:
    versions[0]["served"] = True
    del versions[1:]


def deleted_and_recreated(plane: ControlPlane) -> None:
    delete(plane)
    recreate(plane)


def recreated_at_once(plane: ControlPlane) -> None:
    plane.api.delete(CRD)
    recreate(plane)


def replaced(plane: ControlPlane) -> None:
    replace(plane, with_another_field)


def replaced_and_rolled_back(plane: ControlPlane) -> None:
    replace(plane, with_another_field)
    replace(plane, without_that_field)


def served_again(plane: ControlPlane) -> None:
    replace(plane, with_another_version)
    wait_until(lambda: not is_served(plane), "the version is gone")
    wait_until(lambda: not watches(plane), "the API server has ended all watches")
    replace(plane, with_this_version)
    wait_until(lambda: is_served(plane), "the version is served")


FATES = [deleted_and_recreated, recreated_at_once, replaced, replaced_and_rolled_back, served_again]


def apply(plane: ControlPlane, name: str, **spec: Any) -> None:
    """Apply a route; the API server may still be preparing the CRD's storage."""
    path = f"{ROUTES.format('shop')}/{name}"

    def applied() -> bool:
        with contextlib.suppress(Exception):
            User(plane.api, "shop").apply(name, URL, **spec)
            return bool(plane.api.get(path))
        return False

    wait_until(applied, f"{name} is applied")


@contextlib.asynccontextmanager
async def client_of(plane: ControlPlane) -> AsyncIterator[KubeClient]:
    access = load_access({}, kubeconfig=str(plane.admin_kubeconfig))
    async with KubeClient(access) as client:
        yield client
    await asyncio.sleep(0.25)  # TLS connections close (aiohttp: "Graceful Shutdown")


@pytest.mark.parametrize("happen", FATES)
def test_changes_afterwards_arrive_by_the_watch(
    happen: Callable[[ControlPlane], None], plane: ControlPlane
) -> None:
    """Without lists: at most one after the API server has ended the watch of the old CRD."""
    changed = asyncio.Event()

    async def arrived(mirror: Reflector[str], name: str, path: str) -> None:
        while mirror.items.get(("shop", name)) != path:
            changed.clear()
            await changed.wait()

    async def lists_for_changes() -> int:
        async with client_of(plane) as client:
            mirror = Reflector(
                client,
                ROUTES.format("shop"),
                lambda _, item: str(item["spec"]["path"]),
                lambda _: changed.set(),
            )
            running = asyncio.create_task(mirror.run())
            await mirror.synced.wait()
            await asyncio.to_thread(apply, plane, "before")
            await arrived(mirror, "before", "/before")
            await asyncio.to_thread(happen, plane)
            await asyncio.to_thread(apply, plane, "after")
            await arrived(mirror, "after", "/after")
            lists = mirror.lists
            for number in range(CHANGES):
                await asyncio.to_thread(apply, plane, "after", path=f"/after-{number}")
                await arrived(mirror, "after", f"/after-{number}")
            assert mirror.problem is None
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return mirror.lists - lists

    assert asyncio.run(lists_for_changes()) <= 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("happen", FATES)
def test_kopfs_hints_come_again(
    happen: Callable[[ControlPlane], None], plane: ControlPlane
) -> None:
    """kopf's watcher ended with 404, and `kopf.operator` never did: its own thread kept it."""
    hints: asyncio.Queue[str] = asyncio.Queue()

    async def hint_of(name: str) -> None:
        while await hints.get() != name:
            pass

    async def main() -> None:
        async with client_of(plane) as client:
            running = asyncio.create_task(
                Hints(
                    client.access, (), lambda _, item: hints.put_nowait(item["metadata"]["name"])
                ).run()
            )
            await asyncio.to_thread(apply, plane, "before")
            await hint_of("before")
            await asyncio.to_thread(happen, plane)
            await asyncio.to_thread(apply, plane, "after")
            await hint_of("after")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_kopfs_hints_come_if_the_crd_appears_later(own_control_plane: ControlPlane) -> None:
    """kopf looks for resources once; what it does not find then, it never watches."""
    plane = own_control_plane
    ensure_namespace(plane.api, "shop")

    async def main() -> None:
        first = asyncio.Event()
        async with client_of(plane) as client:
            hints = Hints(client.access, ["shop"], lambda *_: first.set())
            running = asyncio.create_task(hints.run())
            await asyncio.to_thread(install_crd, plane)
            await asyncio.to_thread(apply, plane, "a")
            await first.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def problems(replica: Replica) -> list[str]:
    code, body = replica.health()
    assert code == 200  # proxies that reconnect need it
    return [str(problem) for problem in body["problems"]]


@pytest.fixture
def replica(plane: ControlPlane) -> Iterator[Replica]:
    with Installation(plane, watch=["shop"]) as installation:
        yield installation.replica().start().wait_ready()


@pytest.fixture
def served(
    plane: ControlPlane, replica: Replica, upstream: OpenAIUpstream
) -> Iterator[tuple[User, Sidecar]]:
    """A proxy that serves /steady."""
    user = User(plane.api, "shop")
    user.apply("steady", upstream.url)
    pod = create_pod(plane.api, "shop", "app")
    with Sidecar(pod, plane.authority.certificate, [replica.address]) as car:
        car.wait_ready()
        wait_answer(f"{car.url}/steady/models", lambda a: a.headers.get("x-upstream") == "openai")
        yield user, car


def is_serving(car: Sidecar, path: str) -> Callable[[], bool]:
    def answers() -> bool:
        answer = wait_answer(f"{car.url}{path}/models", lambda _: True)
        return bool(answer.headers.get("x-upstream") == "openai")

    return answers


def test_no_call_fails_while_the_crd_is_replaced_and_rolled_back(
    plane: ControlPlane,
    replica: Replica,
    served: tuple[User, Sidecar],
    upstream: OpenAIUpstream,
) -> None:
    user, car = served
    url, login = f"{car.url}/steady/v1/responses", {"Authorization": f"Bearer {CANARY_KEY}"}
    with Load([url], clients=4, headers=login, pause=0.01) as load:
        for number, happen in enumerate((replaced, replaced_and_rolled_back, served_again)):
            happen(plane)
            before = load.done
            wait_until(lambda: user.apply(f"new-{number}", upstream.url), "a route is applied")  # noqa: B023
            wait_until(is_serving(car, f"/new-{number}"), "a proxy serves it")
            wait_until(lambda: load.done > before + 30, "traffic")  # noqa: B023
            wait_until(lambda: problems(replica) == [], "no problem is left")
    assert not load.failures


def test_an_older_operator_keeps_the_routes_that_a_newer_crd_gives_a_default(
    plane: ControlPlane, replica: Replica, served: tuple[User, Sidecar]
) -> None:
    """As during an upgrade: the chart applies its CRD before new replicas run."""
    user, car = served
    numbers = itertools.count()

    def a_new_route_is(status: str) -> bool:
        name = f"new-{next(numbers)}"
        user.apply(name, URL)
        found = wait_until(lambda: user.condition(name, "Accepted"), f"a status of {name}")
        return bool(found["status"] == status)

    replace(plane, with_a_default)
    # For a moment, the API server still reads and watches by the old schema.
    wait_until(lambda: a_new_route_is("False"), "the operator sees the default")
    touched = {"metadata": {"annotations": {"a.example/touched": "yes"}}}
    plane.api.merge(f"{ROUTES.format('shop')}/steady", touched)
    assert a_new_route_is("False")  # so it has seen the change of the other
    assert is_serving(car, "/steady")()
    assert user.condition("steady", "Accepted")["status"] == "True"

    replace(plane, without_that_field)
    wait_until(lambda: a_new_route_is("True"), "the operator sees the old schema")
    assert is_serving(car, "/steady")()
    assert problems(replica) == []


def test_while_its_version_is_not_served_it_says_so_and_keeps_its_routes(
    plane: ControlPlane, replica: Replica, served: tuple[User, Sidecar]
) -> None:
    _, car = served
    replace(plane, with_another_version)
    wait_until(lambda: any(NAME in problem for problem in problems(replica)), "a problem")
    assert is_serving(car, "/steady")()

    replace(plane, with_this_version)
    wait_until(lambda: problems(replica) == [], "no problem is left")
    assert is_serving(car, "/steady")()


def test_a_deleted_crd_takes_its_routes_with_it_and_is_a_problem_until_it_is_back(
    plane: ControlPlane,
    replica: Replica,
    served: tuple[User, Sidecar],
    upstream: OpenAIUpstream,
) -> None:
    user, car = served
    url, login = f"{car.url}/steady/v1/responses", {"Authorization": f"Bearer {CANARY_KEY}"}
    with Load([url], clients=4, headers=login, pause=0.01) as load:
        delete(plane)  # it waits until the API server has ended the operator's watch
        wait_until(lambda: any(NAME in problem for problem in problems(replica)), "a problem")
        missing = wait_answer(f"{car.url}/steady/models", 404)
        assert code_of(missing) == "route_not_found"
    assert {text.split(": ")[1].split()[0] for text in load.failures} == {"404"}

    recreate(plane)
    wait_until(lambda: problems(replica) == [], "no problem is left")
    user.apply("steady", upstream.url)
    wait_until(is_serving(car, "/steady"), "a proxy serves it")
    user.wait_programmed("steady")
    assert "Traceback" not in replica.log
