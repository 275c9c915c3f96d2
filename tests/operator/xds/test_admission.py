"""Who gets a stream, for how long, and what of: with identities that the test makes up."""

from __future__ import annotations

import asyncio
import functools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

import grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from thruway_operator.xds import (
    CLUSTER,
    ROUTE,
    SECRET,
    Fragment,
    Identity,
    Node,
    Resource,
    Snapshot,
    Unavailable,
    XdsServer,
    snapshot_of,
)
from thruway_operator.xds.admission import _leave_at
from thruway_operator.xds.ratelimit import RateLimitedLog
from thruway_testing.plane.fragments import fragment_of
from thruway_testing.plane.xds_client import XdsClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    import pytest

P = ParamSpec("P")

TYPES = (CLUSTER, SECRET, ROUTE)
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
    """What a namespace has: names and contents begin with its own."""
    return {
        owner: fragment_of(
            owner,
            (Resource.of(CLUSTER, f"{owner}-cluster", f"{owner}-body".encode()),),
            (Resource.of(SECRET, f"{owner}-secret", f"{owner}-key".encode()),),
            f"{owner}-routes",
        )
    }


class Reviewer:
    """Takes a token `pod.namespace` at its word, unless it is told otherwise."""

    def __init__(self, expires_in: float | None = None) -> None:
        self.refusal: Exception | None = None
        self.asked = 0
        self._expires = None if expires_in is None else time.time() + expires_in

    async def __call__(self, context: Any) -> Identity:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        metadata = dict(context.invocation_metadata())
        if "authorization" not in metadata:
            raise PermissionError("no token")
        pod, namespace = metadata["authorization"].removeprefix("Bearer ").split(".")
        return Identity(namespace, "app", pod, f"uid-of-{pod}", self._expires)


def by_namespace(node: Node) -> str:
    assert node.identity is not None
    return node.identity.namespace


@asynccontextmanager
async def serving(reviewer: Reviewer, **options: Any) -> AsyncIterator[tuple[XdsServer, str]]:
    server = XdsServer(
        assemble, group_of=by_namespace, authenticate=reviewer, linger=0.0, **options
    )
    port = await server.start("127.0.0.1:0")
    server.publish("a", belongings("aaa"))
    server.publish("b", belongings("bbb"))
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@in_loop
async def test_strangers_are_turned_away_before_they_have_said_anything() -> None:
    """The answer comes although the stranger sends no request at all."""
    async with serving(Reviewer()) as (server, address), XdsClient(address) as stranger:
        assert await stranger.ended() == (UNAUTHENTICATED, "no token")
        assert server.status("a").connected == 0


@in_loop
async def test_a_server_that_cannot_tell() -> None:
    """The proxy is bidden to come back: UNAVAILABLE, not a refusal."""
    reviewer = Reviewer()
    reviewer.refusal = Unavailable("not now")
    async with serving(reviewer) as (_, address), XdsClient(address, token="p.a") as proxy:
        assert await proxy.ended() == (grpc.StatusCode.UNAVAILABLE, "not now")


@in_loop
async def test_the_node_id_has_to_be_the_pods() -> None:
    """Any other is refused, in a sentence that names the right one; nothing is sent before."""
    async with serving(Reviewer()) as (_, address):
        for claim in ("p.b", "q.a", "p", "p.a.", "P.a", "a.p", "", "x" * 100_000, "p.a\nforged"):
            async with XdsClient(address, token="p.a") as proxy:
                await proxy.ask(CLUSTER, node=claim)
                code, text = await proxy.ended()
                assert code == grpc.StatusCode.PERMISSION_DENIED
                assert "must be 'p.a'" in text
                assert len(text) < 400
                assert "\n" not in text
                assert not proxy.received


@in_loop
async def test_what_a_proxy_says_of_itself_decides_nothing() -> None:
    """Metadata, cluster and claimed versions: it gets its own namespace's, and no byte of b's."""
    versions = {r.name: r.version for f in belongings("bbb").values() for r in f.clusters}
    async with (
        serving(Reviewer()) as (_, address),
        XdsClient(address, token="p.a") as proxy,
    ):
        lies = {"namespace": "b", "group": "b", "identity": "p.b"}
        await proxy.ask(CLUSTER, "*", "bbb-cluster", node="p.a", metadata=lies, claims=versions)
        await proxy.ask(SECRET, "*", "aaa-secret", "bbb-secret", claims={"bbb-key": "1"})
        await proxy.ask(ROUTE, "*", "thruway", "bbb", "namespace/b", node="p.b")
        await proxy.take_until(b"aaa-routes")
        await until_held(proxy, (SECRET, "aaa-secret"))
        names = {name for _, name in proxy.held}
        assert names <= {"aaa-cluster", "aaa-secret", "thruway", "bbb-secret", "bbb-key"}
        for foreign in (b"bbb-body", b"bbb-key\n", b"bbb-routes"):
            assert foreign not in proxy.received


async def until_held(proxy: XdsClient, key: tuple[str, str]) -> None:
    async with asyncio.timeout(10):
        while key not in proxy.held:
            await proxy.take()


@in_loop
async def test_a_slow_first_request() -> None:
    """A peer that says nothing does not keep its stream."""
    async with (
        serving(Reviewer(), first_within=0.05) as (_, address),
        XdsClient(address, token="p.a") as proxy,
    ):
        code, text = await proxy.ended()
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert "no request arrived within 0.05 s" in text


@in_loop
async def test_a_stream_ends_before_its_token_does() -> None:
    """It was served until then; the peer is told to come back."""
    reviewer = Reviewer(expires_in=1.0)
    async with (
        serving(reviewer) as (server, address),
        XdsClient(address, token="p.a") as proxy,
    ):
        await proxy.start("p.a")
        await proxy.take_until(b"aaa-routes")
        code, text = await proxy.ended()
        assert code == UNAUTHENTICATED
        assert "about to expire" in text
        await until(lambda: server.status("a").connected == 0)


@in_loop
async def test_a_proxy_that_does_not_read_is_ended_too() -> None:
    """Even in the midst of a response that it does not take."""
    reviewer = Reviewer()
    async with (
        serving(reviewer, review_every=0.05) as (server, address),
        XdsClient(address, token="p.a") as proxy,
    ):
        await proxy.start("p.a")
        await proxy.take_until(b"aaa-routes")
        for i in range(20):
            big = Resource.of(CLUSTER, "big", bytes([i]) * 4_000_000)
            server.publish("a", {"big": fragment_of("big", (big,))})
            await asyncio.sleep(0.01)
        assert server.status("a").connected == 1
        reviewer.refusal = PermissionError("gone")
        await until(lambda: server.status("a").connected == 0)
        assert await proxy.ended() == (UNAUTHENTICATED, "gone")


@in_loop
async def test_live_streams_are_looked_at_again() -> None:
    """A review that cannot be made changes nothing; one that fails ends the stream."""
    reviewer = Reviewer()
    async with (
        serving(reviewer, review_every=0.02) as (server, address),
        XdsClient(address, token="p.a") as proxy,
    ):
        await proxy.start("p.a")
        await proxy.take_until(b"aaa-routes")
        reviewer.refusal = Unavailable("the API server is away")
        before = reviewer.asked
        await until(lambda: reviewer.asked > before + 5)
        server.publish("a", belongings("aab"))
        await proxy.take_until(b"aab-routes")
        reviewer.refusal = PermissionError("the pod is gone")
        assert await proxy.ended() == (UNAUTHENTICATED, "the pod is gone")


@in_loop
async def test_a_pod_has_a_few_streams_only() -> None:
    """One pod cannot count as many proxies; those that it has are not touched."""
    async with serving(Reviewer()) as (server, address):
        proxies = [XdsClient(address, token="p.a") for _ in range(8)]
        for proxy in proxies:
            await proxy.__aenter__()
            await proxy.start("p.a")
        async with XdsClient(address, token="p.a") as one_more:
            await one_more.ask(CLUSTER, node="p.a")
            assert (await one_more.ended())[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert all(proxy.alive for proxy in proxies)
        await proxies[0].__aexit__()
        await until(lambda: server.status("a").connected == 7)
        async with XdsClient(address, token="p.a") as next_one:
            await next_one.start("p.a")
        for proxy in proxies[1:]:
            await proxy.__aexit__()
        await until(lambda: server.status("a").connected == 0)


@given(lifetime=st.floats(0.0, 1e6), now=st.floats(0.0, 2e9))
def test_when_a_stream_leaves(lifetime: float, now: float) -> None:
    """In the last 6 % of what the token has left, never after its end."""
    expires = now + lifetime
    end = _leave_at(expires, now)
    assert expires - 0.061 * lifetime - 1e-3 <= end <= expires
    assert _leave_at(None, now) == float("inf")


def test_the_log_is_spared(caplog: pytest.LogCaptureFixture) -> None:
    """Strangers cannot fill it."""
    log = RateLimitedLog("thruway.xds")
    for number in range(1000):
        log.warning("refused %d", number)
    assert len(caplog.records) == 20


NAMES = st.sampled_from(
    ["*", "", "thruway", "nothing"]
    + [f"{owner}-{what}" for owner in ("aaa", "bbb") for what in ("cluster", "secret", "routes")]
)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from([*TYPES, "type.googleapis.com/envoy.config.listener.v3.Listener", ""]),
        st.lists(NAMES, max_size=4),
        st.dictionaries(NAMES, st.sampled_from(["", "?", "v"]), max_size=3),
        st.sampled_from(["", "1", "2", "9"]),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(requests=REQUESTS, again=st.booleans())
def test_a_stream_sends_its_own_snapshot_only(requests: list[Any], again: bool) -> None:
    """Whatever it asks for, unsubscribes, claims, ACKs or NACKs: no content but that snapshot's."""
    from envoy.service.discovery.v3 import discovery_pb2

    from thruway_operator.xds.protocol.resources import revoked
    from thruway_operator.xds.protocol.stream import Stream

    own = assemble(list(belongings("aaa").values()))
    allowed = {(t, r.name): r.body for t in TYPES for r in own[t].values()}
    stream = Stream(linger=0.0)
    stream.offer(1, own)
    now, sent = 0.0, list[bytes]()
    for type_url, names, claims, nonce, nack in requests:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=names,
            resource_names_unsubscribe=names[:1] if again else [],
            initial_resource_versions=claims,
            response_nonce=nonce,
        )
        if nack:
            request.error_detail.message = "no"
        stream.receive(request)
        now += 1.0
        sent += stream.advance(now)
    for data in sent:
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
        for resource in response.resources:
            expected = allowed.get((response.type_url, resource.name))
            if expected is None:  # a secret that the proxy claims to have is emptied
                assert response.type_url == SECRET
                expected = revoked(resource.name).body
            assert resource.resource.value == expected
        assert b"bbb-body" not in data
        assert b"bbb-key" not in data
