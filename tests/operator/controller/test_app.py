"""Invariant: a route reaches its proxies and gets its status, and a part that fails ends the whole.

The parts are the real ones: xDS over TLS with certificates that the operator made, and HTTP. Only
the API server is a fake, and kopf, whose events are mere hints, is missing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import functools
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import aiohttp
import pytest
from aiohttp import web

from thruway_operator.controller.app import Operator, OperatorError
from thruway_operator.controller.certificates import CertificateKeeper
from thruway_operator.controller.options import Injector, OperatorOptions, OwnCertificates
from thruway_operator.controller.status import StatusKeeper
from thruway_operator.sidecar.decide import Settings
from thruway_operator.sidecar.decide.settings import Images
from thruway_operator.sidecar.webhook import AdmissionServer
from thruway_operator.sources.kubernetes.cluster import ClusterSource
from thruway_operator.translate import Translator
from thruway_operator.xds import CLUSTER, ROUTE, SECRET
from thruway_testing.plane.fake_api import FakeApi, running
from thruway_testing.plane.fake_api.hints import without_hints
from thruway_testing.plane.kubernetes.control_plane import free_ports
from thruway_testing.plane.xds_client import XdsClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from thruway_testing.plane.fake_api.troubles import Trouble

P = ParamSpec("P")

ROUTES = "/apis/thruway.dev/v1alpha1/namespaces/shop/passthroughroutes"
SECRETS = "/api/v1/namespaces/shop/secrets"
OPS = "/api/v1/namespaces/ops"
REVIEWS = "/tokenreviews"
CANARY = "sk-canary-of-the-wiring"


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            async with asyncio.timeout(20):
                await test(*args, **kwargs)

        asyncio.run(main())

    return run


def route(name: str, **spec: Any) -> dict[str, Any]:
    credential = {"secretKeyRef": {"name": "openai", "key": "KEY"}}
    return {
        "apiVersion": "thruway.dev/v1alpha1",
        "kind": "PassthroughRoute",
        "metadata": {"name": name},
        "spec": {"path": f"/{name}", "provider": "openai", "credential": credential, **spec},
    }


def secret(name: str = "openai", value: str = CANARY) -> dict[str, Any]:
    data = {"KEY": base64.b64encode(value.encode()).decode()}
    return {"metadata": {"name": name}, "type": "Opaque", "data": data}


def token(namespace: str) -> str:
    claims = {"aud": ["thruway-xds"], "exp": time.time() + 3600, "namespace": namespace}
    return "h." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode() + ".s"


async def review(request: web.Request) -> web.StreamResponse:
    """Believe each token."""
    _, payload, _ = (await request.json())["spec"]["token"].split(".")
    namespace = json.loads(base64.urlsafe_b64decode(payload))["namespace"]
    extra = {
        "authentication.kubernetes.io/pod-name": ["web-0"],
        "authentication.kubernetes.io/pod-uid": ["1234"],
    }
    user = {"username": f"system:serviceaccount:{namespace}:app", "extra": extra}
    status = {"authenticated": True, "audiences": ["thruway-xds"], "user": user}
    return web.json_response({"status": status})


@pytest.fixture(autouse=True)
def _no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    without_hints(monkeypatch)


class World:
    def __init__(self, api: FakeApi, client: Any, options: OperatorOptions) -> None:
        self.api = api
        self.options = options
        self.operator = Operator(options, client, "PEM")
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self.operator.run(self.stop))
        self.http = aiohttp.ClientSession()
        self.troubles: list[Trouble] = []

    async def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.options.health_port}{path}"
        async with self.http.get(url) as response:
            return response.status, await response.text()

    async def until_ready(self, wanted: int = 200) -> list[str]:
        """Wait until /readyz has this status; return its problems."""
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                status, text = await self.get("/readyz")
                if status == wanted:
                    problems: list[str] = json.loads(text)["problems"]
                    return problems
            assert not self.task.done(), self.task
            await asyncio.sleep(0.01)

    def end_troubles(self) -> None:
        for trouble in self.troubles:
            trouble.end()

    def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        found = self.api.objects.get(ROUTES, name).get("status", {}).get("conditions", [])
        return {item["type"]: (item["status"], item["reason"]) for item in found}

    def proxy(self, namespace: str = "shop") -> XdsClient:
        return XdsClient(
            self.options.xds_listen,
            authorities=self.options.authorities.read_bytes(),
            token=token(namespace),
        )


@pytest.fixture
def options(tmp_path: Path) -> Iterator[OperatorOptions]:
    (tmp_path / "token").write_text(token("ops"))
    with tempfile.TemporaryDirectory(prefix="thruway-") as folder:  # a short path, for the socket
        yield options_in(tmp_path, f"unix:{folder}/xds")


def options_in(tmp_path: Path, xds: str) -> OperatorOptions:
    return OperatorOptions(
        replica="operator-0",
        namespace="ops",
        service_account="operator",
        address="127.0.0.1:1",
        certificate=tmp_path / "tls.crt",
        key=tmp_path / "tls.key",
        authorities=tmp_path / "ca.crt",
        own_certificates=OwnCertificates("certificates", "authorities", ("thruway-operator",)),
        token=tmp_path / "token",
        xds_listen=xds,
        health_host="127.0.0.1",
        health_port=free_ports(1)[0],
    )


@contextlib.asynccontextmanager
async def started(options: OperatorOptions, *troubles: tuple[int, str]) -> AsyncIterator[World]:
    """Start the operator in a cluster with one route and its Secret."""
    async with running() as (api, client):
        kind = {"type": "kubernetes.io/tls"}
        api.objects.create(f"{OPS}/secrets", {"metadata": {"name": "certificates"}} | kind)
        api.objects.create(f"{OPS}/configmaps", {"metadata": {"name": "authorities"}})
        api.objects.create(ROUTES, route("a"))
        api.objects.create(SECRETS, secret())
        api.trouble(review, path=REVIEWS)
        world = World(api, client, options)
        world.troubles = [api.trouble(status, path=path) for status, path in troubles]
        try:
            yield world
        finally:
            world.stop.set()
            await asyncio.gather(world.task, return_exceptions=True)
            await world.http.close()


def routes_held(proxy: XdsClient) -> bytes:
    return proxy.held.get((ROUTE, "thruway"), b"")


async def take_until(proxy: XdsClient, condition: Callable[[bytes], bool]) -> None:
    while not condition(routes_held(proxy)):
        await proxy.take()


@in_loop
async def test_a_route_reaches_a_proxy_and_its_status_says_so(options: OperatorOptions) -> None:
    async with started(options) as w:
        assert await w.until_ready() == []
        async with w.proxy() as proxy:
            await proxy.start("web-0.shop")
            await take_until(proxy, lambda held: b"/a" in held)
            await proxy.ask(SECRET, "*")
            while CANARY.encode() not in proxy.received:
                await proxy.take()
            await w.api.until(lambda: w.conditions("a").get("Programmed") == ("True", "Programmed"))

            w.api.objects.create(ROUTES, route("new"))
            await take_until(proxy, lambda held: b"/new" in held)
            w.api.objects.delete(ROUTES, "a")
            await take_until(proxy, lambda held: b"/a" not in held)
            _, metrics = await w.get("/metrics")
        assert "thruway_operator_routes 1\n" in metrics
        assert "thruway_operator_proxies 1\n" in metrics
        assert "thruway_operator_writes_status 1\n" in metrics


@in_loop
async def test_a_proxy_gets_the_routes_of_its_own_namespace_only(options: OperatorOptions) -> None:
    async with started(options) as w:
        await w.until_ready()
        w.api.objects.create(ROUTES.replace("shop", "bank"), route("b"))
        w.api.objects.create(SECRETS.replace("shop", "bank"), secret(value="sk-of-the-bank"))
        async with w.proxy("bank") as proxy:
            await proxy.start("web-0.bank")
            await take_until(proxy, lambda held: b"/b" in held)
            await proxy.ask(SECRET, "*")
            while b"sk-of-the-bank" not in proxy.received:
                await proxy.take()
            assert CANARY.encode() not in proxy.received
            assert b"/a" not in routes_held(proxy)


@pytest.mark.parametrize("kind", ["passthroughroutes", "secrets", "configmaps"])
@in_loop
async def test_without_a_complete_list_proxies_wait(options: OperatorOptions, kind: str) -> None:
    """They keep what they have, rather than be told that there are no routes."""
    async with started(options, (503, f"/shop/{kind}"), (503, f"1/{kind}")) as w:
        problems = await w.until_ready(503)
        while not problems:
            problems = await w.until_ready(503)
        async with w.proxy() as proxy:
            await proxy.ask(CLUSTER, node="web-0.shop")
            first = asyncio.ensure_future(proxy.take())
            await w.api.until(lambda: bool(w.api.asked("POST", REVIEWS)))
            assert await w.until_ready(503) == problems
            assert not first.done()
            w.end_troubles()
            await first
            await proxy.ask(ROUTE, "thruway")
            await take_until(proxy, lambda held: b"/a" in held)
            assert await w.until_ready() == []


@in_loop
async def test_an_outage_takes_nothing_away_and_is_reported(options: OperatorOptions) -> None:
    async with started(options) as w:
        await w.until_ready()
        async with w.proxy() as proxy:
            await proxy.start("web-0.shop")
            await take_until(proxy, lambda held: b"/a" in held)
            outage = w.api.trouble(503, path="/")
            w.api.send("/", None)  # ends the watches
            while not await w.until_ready():
                await asyncio.sleep(0.01)
            outage.end()
            w.api.objects.create(ROUTES, route("new"))
            await take_until(proxy, lambda held: b"/new" in held)
            assert b"/a" in routes_held(proxy)
            while await w.until_ready():
                await asyncio.sleep(0.01)


@in_loop
async def test_a_new_route_waits_for_its_secret_instead_of_being_rejected(
    options: OperatorOptions,
) -> None:
    async with started(options) as w:
        await w.until_ready()
        w.api.objects.create(SECRETS, secret("second"))
        reference = {"secretKeyRef": {"name": "second", "key": "KEY"}}
        w.api.objects.create(ROUTES, route("late", credential=reference))
        await w.api.until(lambda: "ResolvedRefs" in w.conditions("late"))
        written = [
            condition["status"]
            for seen in w.api.asked("PATCH", "/passthroughroutes/late")
            for condition in seen.body["status"]["conditions"]
            if condition["type"] == "ResolvedRefs"
        ]
        assert set(written) == {"True"}


@in_loop
async def test_with_an_injector_it_is_ready_when_pods_can_be_admitted(
    options: OperatorOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = asyncio.Event()

    async def serve(server: AdmissionServer) -> None:
        await bound.wait()
        server.listening = True
        await asyncio.Event().wait()

    monkeypatch.setattr(AdmissionServer, "run", serve)
    settings = Settings(
        version="1.0",
        namespace="ops",
        operator="operator:18000",
        images=Images("thruway", "envoy"),
    )
    injector = Injector(settings, "127.0.0.1", 0)
    async with started(dataclasses.replace(options, injector=injector)) as w:
        socket = Path(options.xds_listen.removeprefix("unix:"))
        while not socket.exists():  # it is created after the certificates
            await w.until_ready(503)
        async with w.proxy() as proxy:
            await proxy.start("web-0.shop")
            await take_until(proxy, lambda held: b"/a" in held)
        assert await w.until_ready(503) == []
        bound.set()
        assert await w.until_ready() == []


@pytest.mark.parametrize(
    ("part", "owner", "method"),
    [
        ("source", ClusterSource, "run"),
        ("translation", Translator, "translate"),
        ("status", StatusKeeper, "run"),
        ("certificates", CertificateKeeper, "run"),
    ],
)
@in_loop
async def test_a_part_that_fails_ends_the_operator_which_names_it(
    options: OperatorOptions,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    owner: type,
    method: str,
) -> None:
    """kubelet restarts it; a partly working operator would serve outdated configuration."""

    def fail(*_: object) -> None:
        raise RuntimeError(CANARY)

    async def run(*_: object) -> None:
        fail()

    monkeypatch.setattr(owner, method, run if method == "run" else fail)
    async with started(options) as w:
        with pytest.raises(OperatorError, match=f"its {part} failed") as caught:
            await w.task
        assert CANARY not in str(caught.value)
        with pytest.raises(aiohttp.ClientConnectionError):
            await w.get("/healthz")


@in_loop
async def test_a_stop_before_the_certificates_exist_ends_it_too(options: OperatorOptions) -> None:
    async with started(options, (403, "/ops/secrets")) as w:
        await w.api.until(lambda: bool(w.api.asked("GET", "/ops/secrets")))
        w.stop.set()
        await w.task
