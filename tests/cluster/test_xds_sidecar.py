"""A real Envoy and xDS as in a cluster, where tokens, certificates and replicas come and go."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ParamSpec

import httpx
import trustme

from thruway_operator.translate.groups import namespace_group
from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.kubernetes.pods import create_pod
from thruway_testing.plane.kubernetes.tokens import lasting
from thruway_testing.plane.xds_plane import SERVER_NAME, XdsPlane, rendered
from thruway_testing.product.manifests import route
from thruway_testing.product.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.plane.kubernetes.pods import Pod

P = ParamSpec("P")
in_thread = asyncio.to_thread


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def publish(xds: XdsPlane, url: str, namespace: str, *names: str) -> None:
    """Give a namespace's proxies these routes."""
    documents = [route(name, f"/{name}", url) for name in names]
    xds.server.publish(namespace_group(namespace), rendered(*documents))


@contextmanager
def sidecar(pod: Pod, *planes: XdsPlane, **options: Any) -> Iterator[Sidecar]:
    options.setdefault("authorities", planes[0].authorities)
    operators = options.pop("operators", [xds.address for xds in planes])
    with Sidecar(pod, operators=operators, server_name=SERVER_NAME, **options) as car:
        yield car


def status(car: Sidecar, path: str) -> int:
    return httpx.get(f"{car.url}{path}/models", trust_env=False).status_code


async def until_served(car: Sidecar, path: str) -> float:
    """Wait until a path is served; return for how many seconds."""
    started = time.monotonic()
    await in_thread(wait_until, lambda: status(car, path) == 200, f"{path} is served", 40)
    return time.monotonic() - started


def streams_begun(car: Sidecar) -> int:
    """How many streams Envoy has begun, and others may have ended, so far."""
    try:
        return car.envoy.stat("cluster.thruway-xds.upstream_rq_total")
    except OSError:  # its admin interface is not up yet
        return 0


class Requests:
    """Requests one after the other, from a thread, until the end of the context."""

    def __init__(self, car: Sidecar, path: str) -> None:
        self._car, self._path = car, path
        self._end = threading.Event()
        self.answers: list[int] = []

    def __enter__(self) -> Requests:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(trust_env=False) as client:
            url = f"{self._car.url}{self._path}/models"
            while not (self.answers and self._end.is_set()):
                self.answers.append(client.get(url).status_code)


class Relay:
    """A TCP relay whose far side can fall silent, as that of a node that lost its power."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._alive = asyncio.Event()
        self._alive.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Pass nothing on any more; connections stay open, and new ones are taken."""
        self._alive.clear()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # One that is cancelled before its first step closes nothing by itself.
        task.add_done_callback(lambda _: writer.close())

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self.connections += 1
        try:
            with contextlib.suppress(OSError):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._copy(reader, far_writer))
                    tasks.create_task(self._copy(far_reader, writer))
        except* OSError:
            pass
        finally:
            self.connections -= 1
            for end in (writer, far_writer):
                end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self._alive.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def serving(plane: ControlPlane, **options: Any) -> AsyncIterator[XdsPlane]:
    async with XdsPlane(plane, **options) as xds:
        yield xds


@in_loop
async def test_a_namespace_is_served_its_own(control_plane: ControlPlane, namespace: str) -> None:
    """And one that calls itself another's pod is served nothing, by neither namespace."""
    other = f"{namespace}-b"
    own, foreign = (create_pod(control_plane.api, name, "web") for name in (namespace, other))
    with upstream() as url:
        async with serving(control_plane) as xds:
            publish(xds, url, namespace, "mine")
            publish(xds, url, other, "theirs")
            by_name = [("localhost", xds.port)]
            with (
                sidecar(own, xds, operators=by_name) as car,
                sidecar(own, xds, node_id=foreign.node_id) as liar,
            ):
                await in_thread(car.wait_ready)
                assert await in_thread(status, car, "/mine") == 200
                assert await in_thread(status, car, "/theirs") == 404
                await in_thread(wait_until, lambda: streams_begun(liar) >= 3, "it has tried", 30)
                assert (await in_thread(liar.envoy.request, "GET", "/ready"))[0] != 200
                dump = await in_thread(liar.envoy.get, "/config_dump?include_eds")
                assert "theirs" not in dump
                assert "mine" not in dump
            assert xds.server.status(namespace_group(other)).connected == 0


@in_loop
async def test_tokens_are_rotated(control_plane: ControlPlane, namespace: str) -> None:
    """Swapped files are presented by the next stream, no request fails, no restart is needed."""
    pod = create_pod(control_plane.api, namespace, "web")
    key = control_plane.authority.service_account_key
    with upstream() as url:
        async with serving(control_plane) as xds:
            publish(xds, url, namespace, "one")
            with sidecar(pod, xds, token=lasting(pod.token(), 5, key)) as car:
                await in_thread(car.wait_ready)
                with Requests(car, "/one") as requests:
                    for number in range(3):
                        begun = await in_thread(streams_begun, car)
                        # As kubelet does: well before the old one expires.
                        car.project(lasting(pod.token(), 5 if number < 2 else 3600, key))
                        await in_thread(next_stream, car, begun)
                    publish(xds, url, namespace, "one", "two")
                    await until_served(car, "/two")
                assert set(requests.answers) == {200}
                assert await in_thread(streams_begun, car) <= 5


def next_stream(car: Sidecar, begun: int) -> None:
    wait_until(lambda: streams_begun(car) > begun, "the next stream", 20)


@in_loop
async def test_an_expired_token_heals(control_plane: ControlPlane, namespace: str) -> None:
    """A proxy whose token was not replaced in time goes on serving, and is back once it is."""
    pod = create_pod(control_plane.api, namespace, "web")
    key = control_plane.authority.service_account_key
    with upstream() as url:
        async with serving(control_plane) as xds:
            publish(xds, url, namespace, "one")
            with sidecar(pod, xds, token=lasting(pod.token(), 3, key)) as car:
                await in_thread(car.wait_ready)
                group = namespace_group(namespace)
                await in_thread(
                    wait_until, lambda: xds.server.status(group).connected == 0, "it ends", 20
                )
                assert await in_thread(status, car, "/one") == 200
                publish(xds, url, namespace, "one", "two")
                car.project(pod.token())
                assert await until_served(car, "/two") < 10


@in_loop
async def test_certificate_and_authority_are_replaced(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """A new CA, first added to the bundle, then used: Envoy follows the file."""
    pod = create_pod(control_plane.api, namespace, "web")
    authorities = [trustme.CA(), trustme.CA()]
    old_pem, new_pem = (a.cert_pem.bytes().decode() for a in authorities)
    served, bundle = (tmp_path / "tls.crt", tmp_path / "tls.key"), tmp_path / "bundle"
    serve_certificate(authorities[0], served)
    project(bundle, "ca.crt", old_pem)
    with upstream() as url:
        async with serving(control_plane, pair=served) as xds:
            publish(xds, url, namespace, "one")
            with sidecar(pod, xds, authorities=bundle / "ca.crt") as car:
                await in_thread(car.wait_ready)
                updates = "cluster.thruway-xds.client_ssl_socket_factory.ssl_context_update_by_sds"
                before = await in_thread(car.envoy.stat, updates)
                project(bundle, "ca.crt", old_pem + new_pem)
                await in_thread(
                    wait_until, lambda: car.envoy.stat(updates) > before, "the bundle is read", 20
                )
                serve_certificate(authorities[1], served)
                await xds.server.stop()
                await xds.start()
                publish(xds, url, namespace, "one", "two")
                await until_served(car, "/two")


def serve_certificate(authority: trustme.CA, files: tuple[Path, Path]) -> None:
    leaf = authority.issue_cert(SERVER_NAME)
    leaf.cert_chain_pems[0].write_to_path(str(files[0]))
    leaf.private_key_pem.write_to_path(str(files[1]))


def project(folder: Path, name: str, text: str) -> None:
    """Write a file as kubelet does."""
    folder.mkdir(exist_ok=True)
    fresh = folder / f"..{time.monotonic_ns()}"
    fresh.mkdir()
    (fresh / name).write_text(text)
    (folder / "..new").symlink_to(fresh.name)
    (folder / "..new").rename(folder / "..data")
    if not (folder / name).is_symlink():
        (folder / name).symlink_to(f"..data/{name}")


@in_loop
async def test_a_replica_stops(control_plane: ControlPlane, namespace: str) -> None:
    """The stream is on the other one at once, and no request fails."""
    pod = create_pod(control_plane.api, namespace, "web")
    with upstream() as url:
        async with serving(control_plane) as one, serving(control_plane) as two:
            replicas = [one, two]
            for xds in replicas:
                publish(xds, url, namespace, "one")
            with sidecar(pod, *replicas) as car:
                await in_thread(car.wait_ready)
                group = namespace_group(namespace)
                for _ in range(2):
                    [here] = [r for r in replicas if r.server.status(group).connected]
                    [there] = [r for r in replicas if r is not here]
                    name = f"after-{here.port}"
                    publish(there, url, namespace, "one", name)
                    with Requests(car, "/one") as requests:
                        await here.server.stop()
                        took = await until_served(car, f"/{name}")
                    assert set(requests.answers) == {200}
                    assert took < 5
                    await here.start()


@in_loop
async def test_a_replica_falls_silent(control_plane: ControlPlane, namespace: str) -> None:
    """Its node is gone: that is noticed within seconds, and the stream moves."""
    pod = create_pod(control_plane.api, namespace, "web")
    with upstream() as url:
        async with (
            serving(control_plane) as one,
            serving(control_plane) as two,
            Relay(one.address) as first,
            Relay(two.address) as second,
        ):
            for xds in (one, two):
                publish(xds, url, namespace, "one")
            with sidecar(pod, one, operators=[first.address, second.address]) as car:
                await in_thread(car.wait_ready)
                group = namespace_group(namespace)
                on_first = one.server.status(group).connected == 1
                publish(two if on_first else one, url, namespace, "one", "two")
                with Requests(car, "/one") as requests:
                    (first if on_first else second).freeze()
                    took = await until_served(car, "/two")
                assert set(requests.answers) == {200}
                # Pings every 5 s, 3 s for the answer; then half of the first tries find it silent.
                assert took < 20
