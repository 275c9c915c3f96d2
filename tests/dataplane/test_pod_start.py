"""What a sidecar's Envoy does while the operator, or its CA, is not there yet."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import trustme
from click.testing import CliRunner

from thruway_operator.cli.main import main
from thruway_operator.envoy.fragments import assemble
from thruway_operator.xds import XdsServer
from thruway_testing.plane.envoy import Envoy, wait_until
from thruway_testing.plane.xds_plane import rendered
from thruway_testing.product.manifests import route
from thruway_testing.product.proxy_bench import ProxyBench
from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = {"Authorization": "Bearer sk-of-the-client"}


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as found:
        yield found


def test_without_an_operator_calls_are_refused_until_configuration_comes(
    upstream: OpenAIUpstream,
) -> None:
    with ProxyBench(None, patience_ms=1000) as bench:
        bench.wait_ready()
        with httpx.Client(base_url=bench.url, trust_env=False, headers=KEY) as client:
            for path in ("/r/models", "/anything"):
                answer = client.get(path)
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "config_pending"
                assert answer.headers["x-thruway-code"] == "config_pending"
                assert "x-should-retry" not in answer.headers
            bench.publish(route("r", "/r", upstream.url))
            assert client.get("/r/models").status_code == 200
            assert client.get("/anything").json()["error"]["code"] == "route_not_found"


def project(folder: Path, name: str, text: str) -> None:
    """Put a file where Envoy looks for it, as kubelet does: it swaps a link."""
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    (fresh / name).write_text(text)
    link = folder / "..new"
    link.symlink_to(fresh.name)
    link.rename(folder / "..data")


@contextlib.contextmanager
def operator(folder: Path, authority: trustme.CA) -> Iterator[int]:
    """An xDS server with a certificate of this authority; yield its port."""
    leaf = authority.issue_cert("thruway-operator")
    pair = folder / "tls.crt", folder / "tls.key"
    leaf.cert_chain_pems[0].write_to_path(pair[0])
    leaf.private_key_pem.write_to_path(pair[1])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = XdsServer(partial(assemble, keep_browsers_out=False))

    async def start() -> int:
        server.publish("", rendered(route("r", "/r", "http://127.0.0.1:1")))
        return await server.start("127.0.0.1:0", tls=pair)

    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def test_a_ca_that_comes_later_is_read_and_so_is_the_next(tmp_path: Path) -> None:
    run, tokens, ca = (tmp_path / name for name in ("run", "tokens", "ca"))
    for folder in (run, tokens, ca):
        folder.mkdir()
    (tokens / "token").write_text("token")
    authority, stranger = trustme.CA(), trustme.CA()
    with operator(tmp_path, authority) as port:
        arguments = {
            "folder": run,
            "pod": "app-1",
            "namespace": "shop",
            "operator": f"127.0.0.1:{port}",
            "token": tokens / "token",
            "authorities": ca / "..data" / "ca.crt",
            "listen": "127.0.0.1:65535",
            "patience": 1,
        }
        options = [f"--{name}={value}" for name, value in arguments.items()]
        done = CliRunner().invoke(main, ["bootstrap", *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        for file in run.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with Envoy(run / "bootstrap.pb", log_level="warning") as envoy:
            envoy.wait_ready()
            connected = partial(envoy.stat, "control_plane.connected_state")
            read = partial(envoy.stat, "sds.xds-ca.update_success")
            assert (connected(), read()) == (0, 0)
            project(ca, "ca.crt", stranger.cert_pem.bytes().decode())
            wait_until(lambda: read() >= 1, "the first CA is read")
            assert envoy.stat("listener_manager.lds.update_success") == 0
            project(ca, "ca.crt", authority.cert_pem.bytes().decode())
            wait_until(
                lambda: envoy.stat("http.thruway.rds.thruway.update_success") >= 1,
                "the right CA is read, and configuration comes",
                20,
            )
