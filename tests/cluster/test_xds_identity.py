"""Who gets what over xDS, with real tokens: a pod its own namespace's, and nobody anything else."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, ParamSpec

import grpc
import pytest

from thruway_operator.translate.groups import GATEWAY, namespace_group
from thruway_operator.xds import CLUSTER, ROUTE, SECRET, Fragment, Resource, Snapshot, snapshot_of
from thruway_testing.plane.fragments import fragment_of
from thruway_testing.plane.kubernetes.pods import Pod, create_pod
from thruway_testing.plane.kubernetes.tokens import forged, lasting, unsigned
from thruway_testing.plane.xds_plane import XdsPlane

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

P = ParamSpec("P")
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def assemble(fragments: Sequence[Fragment]) -> Snapshot:
    resources = [r for f in fragments for r in (*f.clusters, *f.secrets)]
    body = "".join(str(f.routes) for f in fragments).encode()
    return snapshot_of([*resources, Resource.of(ROUTE, "thruway", body)])


def belongings(owner: str) -> dict[str, Fragment]:
    """What a group has: names and contents hold its own name."""
    return {
        owner: fragment_of(
            owner,
            (Resource.of(CLUSTER, f"cluster-of-{owner}", f"<{owner}>".encode()),),
            (Resource.of(SECRET, f"secret-of-{owner}", f"<{owner}>".encode()),),
            f"<{owner}>",
        )
    }


def serving(plane: ControlPlane, **options: Any) -> XdsPlane:
    return XdsPlane(plane, make=assemble, **options)


def publish(xds: XdsPlane, *namespaces: str) -> None:
    for namespace in namespaces:
        xds.server.publish(namespace_group(namespace), belongings(namespace))
    xds.server.publish(GATEWAY, belongings("gateway"))


async def verdict(
    xds: XdsPlane, token: str | None, node: str = ""
) -> tuple[grpc.StatusCode, str, bytes]:
    """Return how a stream ends that asks for everything, and what it got until then."""
    while True:
        async with xds.client(token) as proxy:
            await proxy.ask(CLUSTER, "*", node=node)
            code, text = await proxy.ended()
            # Where a refusal is there before the request is out, grpc's client tells of that only.
            if (code, text) != (grpc.StatusCode.INTERNAL, "Internal error from Core"):
                return code, text, proxy.received


async def gets(xds: XdsPlane, pod: Pod, owner: str, *foreign: str) -> None:
    """Assert that a pod is given what is of `owner`, and no byte else, whatever it asks for."""
    async with xds.client(pod.token()) as proxy:
        await proxy.ask(CLUSTER, "*", *(f"cluster-of-{name}" for name in foreign), node=pod.node_id)
        await proxy.take()
        secrets = [f"secret-of-{name}" for name in (owner, *foreign)]
        await proxy.ask(SECRET, "*", *secrets, claims=dict.fromkeys(secrets[1:], "1"))
        await proxy.ask(ROUTE, "*", "thruway", *foreign, node=f"{pod.name}.{foreign[0]}")
        await proxy.take_until(f"<{owner}>".encode())
        async with asyncio.timeout(10):
            while (SECRET, f"secret-of-{owner}") not in proxy.held:
                await proxy.take()
        assert all(f"<{name}>".encode() not in proxy.received for name in foreign)


@in_loop
async def test_a_proxy_gets_its_own_namespaces(control_plane: ControlPlane, namespace: str) -> None:
    """Whatever it subscribes to, says it has or calls itself in later requests."""
    other = f"{namespace}-b"
    pods = [create_pod(control_plane.api, name, "web") for name in (namespace, other)]
    async with serving(control_plane) as xds:
        publish(xds, namespace, other)
        await gets(xds, pods[0], namespace, other, "gateway")
        await gets(xds, pods[1], other, namespace, "gateway")


@in_loop
async def test_the_gateway_is_a_service_account(
    control_plane: ControlPlane, namespace: str
) -> None:
    """Namespace and name of it both count; other pods beside it are like any others."""
    other = f"{namespace}-b"
    gateway = create_pod(control_plane.api, namespace, "gateway", "thruway-gateway")
    beside = create_pod(control_plane.api, namespace, "beside", "app")
    like_it = create_pod(control_plane.api, other, "gateway", "thruway-gateway")
    async with serving(control_plane, gateway=(namespace, "thruway-gateway")) as xds:
        publish(xds, namespace, other)
        await gets(xds, gateway, "gateway", namespace, other)
        await gets(xds, beside, namespace, "gateway", other)
        await gets(xds, like_it, other, "gateway", namespace)


@in_loop
async def test_a_node_id_of_others(control_plane: ControlPlane, namespace: str) -> None:
    """A good token and another pod's node id, or another namespace's: refused, with the reason."""
    other = f"{namespace}-b"
    pod = create_pod(control_plane.api, namespace, "web")
    create_pod(control_plane.api, other, "web")
    async with serving(control_plane) as xds:
        publish(xds, namespace, other)
        for claim in (f"web.{other}", f"web2.{namespace}", "", "laptop", f"{pod.node_id}.{other}"):
            code, text, received = await verdict(xds, pod.token(), claim)
            assert code == grpc.StatusCode.PERMISSION_DENIED
            assert f"its node id must be {pod.node_id!r}" in text
            assert received == b""


def tokens(plane: ControlPlane, pod: Pod) -> dict[str, str | None]:
    good, key = pod.token(), plane.authority.service_account_key
    head, payload, signature = good.split(".")
    return {
        "none": None,
        "empty": "",
        "garbage": "garbage",
        "another audience": pod.token("other"),
        "the API server's audience": pod.token("https://kubernetes.default.svc"),
        "not bound to a pod": pod.token(bound=False),
        "expired long ago": lasting(good, -600, key),
        # The API server takes it for another minute (go-jose's leeway).
        "expired just now": lasting(good, -1, key),
        "forged": forged(good),
        "unsigned": unsigned(good),
        "signature altered": f"{head}.{payload}.{signature[:-8]}AAAAAAAA",
        "signature cut": f"{head}.{payload}.",
    }


@in_loop
async def test_tokens_that_are_refused(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """UNAUTHENTICATED, nothing sent, and neither log nor peer sees any part of the token."""
    pod = create_pod(control_plane.api, namespace, "web")
    async with serving(control_plane) as xds:
        publish(xds, namespace)
        bad = tokens(control_plane, pod)
        for name, token in bad.items():
            code, text, received = await verdict(xds, token, pod.node_id)
            assert (code, received) == (UNAUTHENTICATED, b""), name
            for part in (token or "").split("."):
                assert len(part) < 20 or part not in text + caplog.text
        assert xds.server.status(namespace_group(namespace)).connected == 0
        await gets(xds, pod, namespace, "gateway")
        # Proves that the tokens above fail for what they are: signed by us, but good.
        key = control_plane.authority.service_account_key
        async with xds.client(lasting(pod.token(), 60, key)) as proxy:
            await proxy.start(pod.node_id)


@in_loop
async def test_a_deleted_pods_token(control_plane: ControlPlane, namespace: str) -> None:
    """It is refused, even when a pod of the same name has come; that one's own token is good."""
    api = control_plane.api
    pod = create_pod(api, namespace, "web")
    token = pod.token()
    pod.delete()
    async with serving(control_plane, fresh=0.0) as xds:
        publish(xds, namespace)
        async with asyncio.timeout(20):  # the API server looks at a cache of its own
            while (await verdict(xds, token))[0] != UNAUTHENTICATED:
                await asyncio.sleep(0.1)
        again = create_pod(api, namespace, "web")
        await gets(xds, again, namespace, "gateway")
        assert (await verdict(xds, token, pod.node_id))[0] == UNAUTHENTICATED


@in_loop
async def test_a_live_streams_pod_is_deleted(control_plane: ControlPlane, namespace: str) -> None:
    """Its stream is ended at a next review; its neighbour's goes on."""
    pod = create_pod(control_plane.api, namespace, "web")
    neighbour = create_pod(control_plane.api, namespace, "neighbour")
    async with (
        serving(control_plane, review_every=0.2, fresh=0.0) as xds,
        xds.client(pod.token()) as proxy,
        xds.client(neighbour.token()) as other,
    ):
        publish(xds, namespace)
        await proxy.start(pod.node_id)
        await other.start(neighbour.node_id)
        await other.take_until(f"<{namespace}>".encode())
        pod.delete()
        code, text = await proxy.ended(30)
        assert code == UNAUTHENTICATED
        assert "its pod" in text
        xds.server.publish(namespace_group(namespace), belongings("next"))
        await other.take_until(b"<next>")


@in_loop
async def test_a_token_expires_under_a_stream(control_plane: ControlPlane, namespace: str) -> None:
    """The stream ends before; the same pod's next token opens the next stream."""
    pod = create_pod(control_plane.api, namespace, "web")
    short = lasting(pod.token(), 4, control_plane.authority.service_account_key)
    async with serving(control_plane) as xds:
        publish(xds, namespace)
        async with xds.client(short) as proxy:
            await proxy.start(pod.node_id)
            code, text = await proxy.ended()
            assert (code, "about to expire" in text) == (UNAUTHENTICATED, True)
        await gets(xds, pod, namespace, "gateway")


async def accepted(xds: XdsPlane, token: str, node: str) -> bool:
    """Whether a stream gets in; if not, then because that cannot be told at the moment."""
    async with xds.client(token) as proxy:
        try:
            await proxy.ask(CLUSTER, node=node)
            await proxy.take()
        except grpc.aio.AioRpcError as error:
            # Where the refusal is there before the request is out, grpc's client says only that.
            if "SendMessageOperation" not in (error.debug_error_string() or ""):
                assert (await proxy.ended())[0] == grpc.StatusCode.UNAVAILABLE
            return False
        return True


@pytest.mark.parametrize("how", ["killed", "frozen"])
@in_loop
async def test_the_api_server_is_away(own_control_plane: ControlPlane, how: str) -> None:
    """Accepted streams live on and get news; new ones are bidden to come back, and then get in."""
    plane = own_control_plane
    pod, late = (create_pod(plane.api, "team", name) for name in ("web", "late"))
    tokens = [pod.token(), late.token()]
    async with (
        serving(plane, review_every=0.1, fresh=0.0) as xds,
        xds.client(tokens[0]) as proxy,
    ):
        publish(xds, "team")
        await proxy.start(pod.node_id)
        await proxy.take_until(b"<team>")
        plane.kill_api_server() if how == "killed" else plane.pause_api_server()
        try:
            code, text, received = await verdict(xds, tokens[1], late.node_id)
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "at the moment" in text
            assert received == b""
            xds.server.publish(namespace_group("team"), belongings("next"))
            await proxy.take_until(b"<next>")
            assert proxy.alive
        finally:
            if how == "killed":
                await asyncio.to_thread(plane.start_api_server)
            else:
                plane.resume_api_server()
        async with asyncio.timeout(30):
            while not await accepted(xds, tokens[1], late.node_id):
                pass
        assert proxy.alive
