"""`thruway-pod` and the gateway's listener with a real Envoy, as kubelet would run and ask them."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx
import pytest
import trustme
from h2.connection import H2Connection
from hyperframe.frame import Frame

from thruway_operator.envoy.downstream import Certificate, Downstream
from thruway_pod import health
from thruway_pod.admin import Admin, AdminError
from thruway_pod.health import PATIENCE, is_local, serving
from thruway_testing.plane.envoy import wait_until
from thruway_testing.product.manifests import route
from thruway_testing.product.proxy_bench import ProxyBench
from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # a real Envoy

KEY = {"Authorization": "Bearer sk-of-the-client"}
COMMAND = [sys.executable, "-I", "-m", "thruway_pod"]


class Pod:
    """`thruway-pod serve` with two workers; Envoy is started by the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sockets = [str(folder / f"extproc-{number}.sock") for number in range(2)]
        self.log = folder / "log"

    def start(self) -> None:
        command = [*COMMAND, "serve", "--folder", str(self.folder), "--workers", "2"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--health-listen", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self._port() or self.process.poll() is not None, "it says its port", 20)
        assert self.process.poll() is None, self.log.read_text()
        wait_until(lambda: self.get("/healthz").status_code == 200, "the workers answer", 20)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)

    def _port(self) -> str:
        found = re.search(r"on port (\d+)", self.log.read_text())
        return found[1] if found else ""

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self._port()}{path}", trust_env=False, timeout=10)

    def beside(self, bench: ProxyBench) -> None:
        """Share Envoy's admin socket, as the pod's volume does."""
        (self.folder / "admin.sock").symlink_to(bench.envoy.folder / "admin.sock")

    def drain(self, *limits: str) -> subprocess.Popen[str]:
        command = [*COMMAND, "drain", "--folder", str(self.folder), *limits]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def workers(self) -> list[int]:
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        return [int(line) for line in found.stdout.split()]


@pytest.fixture
def pod() -> Iterator[Pod]:
    folder = Path(tempfile.mkdtemp(prefix="thruway-pod-"))
    found = Pod(folder)
    found.start()
    yield found
    found.stop()
    shutil.rmtree(folder)


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as found:
        yield found


def test_ready_once_envoy_is(pod: Pod, upstream: OpenAIUpstream) -> None:
    assert pod.get("/readyz").json() == {
        "ok": False,
        "problems": ["Envoy does not respond (No such file or directory)"],
    }
    assert pod.get("/metrics").status_code == 503
    with ProxyBench([route("r", "/r", upstream.url)], extproc=pod.sockets) as bench:
        pod.beside(bench)
        assert pod.get("/readyz").json() == {"ok": True, "problems": []}
        assert httpx.get(f"{bench.url}/r/models", headers=KEY, trust_env=False).status_code == 200
        metrics = pod.get("/metrics")
        assert "envoy_http_downstream_rq_total" in metrics.text
        assert pod.get("/anything").status_code == 404


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.7", False),
        ("::ffff:10.0.0.7", False),
        ("fe80::1%eth0", False),
    ],
)
def test_clients_in_the_same_pod(address: str, local: bool) -> None:
    assert is_local(address) is local


@pytest.mark.parametrize(("inside", "status"), [(True, 503), (False, 403)])
def test_private_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool, status: int
) -> None:
    """There is no Envoy, so a client that may read them gets 503."""
    monkeypatch.setattr(health, "is_local", lambda _: inside)
    admin = Admin(tmp_path / "admin.sock")
    with serving("127.0.0.1", 0, admin, list, private_metrics=True) as port:
        found = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
        assert found.status_code == status
        assert ("injector.metrics" in found.text) is not inside
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200


def test_metrics_that_were_never_set_are_left_out(pod: Pod, upstream: OpenAIUpstream) -> None:
    with ProxyBench([route("r", "/r", upstream.url)], extproc=pod.sockets) as bench:
        pod.beside(bench)
        assert httpx.get(f"{bench.url}/r/models", headers=KEY, trust_env=False).status_code == 200
        text = pod.get("/metrics").text
    for name in ("upstream_rq_total", "upstream_cx_total", "upstream_cx_active"):
        assert f"envoy_cluster_{name}{{" in text
    assert "envoy_cluster_upstream_rq_retry{" not in text
    assert len(text) < 80_000


def probe(pod: Pod, what: str) -> subprocess.CompletedProcess[str]:
    port = pod.get("/healthz").url.port
    command = [*COMMAND, "probe", what, "--port", str(port)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_said_of_a_start(pod: Pod) -> None:
    """An Envoy without configuration lives, but has not started; with patience it has."""
    for path in ("/livez", "/startz"):
        assert pod.get(path).status_code == 503
    assert probe(pod, "livez").returncode == 1
    with ProxyBench(None, extproc=pod.sockets) as bench:
        pod.beside(bench)
        wait_until(lambda: pod.get("/livez").status_code == 200, "Envoy answers")
        assert pod.get("/startz").status_code == 503
        assert pod.get("/readyz").status_code == 503
        bench.publish(route("r", "/r", "http://127.0.0.1:1"))
        wait_until(lambda: pod.get("/startz").status_code == 200, "Envoy serves")
        for what in ("healthz", "livez", "startz", "readyz"):
            done = probe(pod, what)
            assert (done.returncode, done.stdout) == (0, '{"ok": true, "problems": []}\n')


def test_a_start_waits_for_no_operator_for_ever(tmp_path: Path) -> None:
    class Lonely(Admin):
        age = PATIENCE - 1

        def ready(self) -> None:
            raise AdminError("Envoy returned 503 PRE_INITIALIZING")

        def uptime(self) -> float:
            return self.age

    admin = Lonely(tmp_path)
    with serving("", 0, admin, list) as port:
        for host in ("127.0.0.1", "[::1]"):
            url = f"http://{host}:{port}/startz"
            assert httpx.get(url, trust_env=False).status_code == 503
        admin.age = PATIENCE
        assert httpx.get(url, trust_env=False).status_code == 200


def test_a_probe_of_nobody() -> None:
    command = [*COMMAND, "probe", "readyz", "--port", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_that_dies_is_started_again(pod: Pod) -> None:
    before = pod.workers()
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(set(pod.workers()) - {before[0]}) == 2, "a worker has taken its place")
    wait_until(lambda: pod.get("/healthz").status_code == 200, "all workers answer", 20)
    assert "exited with -9: restarting it" in pod.log.read_text()


def test_a_request_waits_until_what_was_killed_is_back(pod: Pod, upstream: OpenAIUpstream) -> None:
    """A sidecar has one worker; kubelet takes some seconds to start its container again."""
    with ProxyBench([route("r", "/r", upstream.url)], extproc=pod.sockets[:1]) as bench:
        for pid in (pod.process.pid, *pod.workers()):
            os.kill(pid, signal.SIGKILL)
        pod.process.wait(20)

        def tries() -> int:
            return bench.envoy.stat("cluster.thruway-extproc.upstream_rq_retry")

        with ThreadPoolExecutor(1) as pool:
            url = f"{bench.url}/r/models"
            answer = pool.submit(httpx.get, url, headers=KEY, trust_env=False, timeout=60)
            wait_until(lambda: tries() > 25 or answer.done(), "it is tried again and again", 20)
            assert not answer.done()
            pod.start()
            assert answer.result().status_code == 200


def test_it_ends_with_its_workers(pod: Pod) -> None:
    workers = pod.workers()
    assert pod.stop() == 0
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_drain_waits_for_a_stream_and_lets_new_requests_in(
    pod: Pod, upstream: OpenAIUpstream
) -> None:
    with ProxyBench([route("r", "/r", upstream.url)], extproc=pod.sockets) as bench:
        pod.beside(bench)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", bench.port)) as stream:
            stream.putrequest("POST", "/r/files")
            stream.putheader("Content-Length", "3")
            stream.endheaders(b"a")  # under way until the other two bytes come
            bench.envoy.request("GET", "/ready")
            limits = ("--at-least", "0", "--quiet", "0", "--at-most", "60")
            with pod.drain(*limits) as draining:
                wait_until(lambda: bench.envoy.request("GET", "/ready")[0] == 503, "it drains")
                assert pod.get("/readyz").status_code == 503
                late = httpx.get(f"{bench.url}/r/models", headers=KEY, trust_env=False)
                assert late.status_code == 200
                assert late.headers["connection"] == "close"
                assert draining.poll() is None
                stream.send(b"bc")
                stream.getresponse().read()
                assert draining.wait(20) == 0
                assert draining.stderr
                assert "still in flight: 0" in draining.stderr.read()


def test_a_drain_that_only_waits(pod: Pod, upstream: OpenAIUpstream) -> None:
    with ProxyBench([route("r", "/r", upstream.url)], extproc=pod.sockets) as bench:
        pod.beside(bench)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", bench.port)) as stream:
            stream.putrequest("POST", "/r/files")
            stream.putheader("Content-Length", "3")
            stream.endheaders(b"a")
            wait_until(lambda: _active(bench) == 1, "the request has come")
            limits = ("--at-least", "0", "--quiet", "0", "--at-most", "60")
            with pod.drain("--keep-ready", *limits) as draining:
                late = httpx.get(f"{bench.url}/r/models", headers=KEY, trust_env=False)
                assert "connection" not in late.headers
                assert draining.poll() is None
                stream.send(b"bc")
                stream.getresponse().read()
                assert draining.wait(20) == 0
        assert pod.get("/readyz").status_code == 200


def test_a_drain_has_an_end(pod: Pod, upstream: OpenAIUpstream) -> None:
    with ProxyBench([route("r", "/r", upstream.url)], extproc=pod.sockets) as bench:
        pod.beside(bench)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", bench.port)) as stream:
            stream.putrequest("POST", "/r/files")
            stream.putheader("Content-Length", "3")
            stream.endheaders(b"a")
            wait_until(lambda: _active(bench) == 1, "the request has come")
            with pod.drain("--at-least", "0", "--quiet", "0", "--at-most", "1") as draining:
                assert draining.wait(20) == 0
                assert draining.stderr
                assert "still in flight: 1" in draining.stderr.read()


def _active(bench: ProxyBench) -> int:
    return _stat(bench, "downstream_rq_active")


def _stat(bench: ProxyBench, name: str) -> int:
    _, body = bench.envoy.request("GET", f"/stats?filter=^http.thruway.{name}$")
    return int(body.split(b":")[1])


def test_an_old_connection_ends_after_its_answer_and_never_before(
    pod: Pod, upstream: OpenAIUpstream
) -> None:
    """A connection older than its age ends, but a stream that is under way on it does not."""
    with (
        ProxyBench(
            [route("r", "/r", upstream.url)],
            extproc=pod.sockets,
            downstream=Downstream(connection_age_ms=300),
        ) as bench,
        httpx.Client(trust_env=False, headers=KEY) as client,
    ):
        url = f"{bench.url}/r/v1/lockstep/age"
        with client.stream("GET", url, params={"events": 2}) as answer:
            lines = (line for line in answer.iter_lines() if line)
            assert "0" in next(lines)
            _let_it_end(bench, url)
            assert "1" in next(lines)
            assert list(lines) == []
        # That answer had begun before the connection was old: the next one has not.
        assert client.get(f"{bench.url}/r/models").headers["connection"] == "close"
        assert "connection" not in client.get(f"{bench.url}/r/models").headers


def test_a_stream_on_an_old_http2_connection_is_not_cut(pod: Pod, upstream: OpenAIUpstream) -> None:
    with (
        ProxyBench(
            [route("r", "/r", upstream.url)],
            extproc=pod.sockets,
            downstream=Downstream(connection_age_ms=300),
        ) as bench,
        socket.create_connection(("127.0.0.1", bench.port), 20) as plain,
    ):
        plain.sendall(_http2_request("/r/v1/lockstep/age?events=2"))
        frames = _frames(plain.makefile("rb"))
        assert b"0" in next(data for name, data in frames if name == "DATA")
        _let_it_end(bench, f"{bench.url}/r/v1/lockstep/age")
        rest = list(frames)
        assert "GOAWAY" in [name for name, _ in rest]
        assert b"1" in b"".join(data for name, data in rest if name == "DATA")


def _http2_request(path: str) -> bytes:
    connection = H2Connection()
    connection.initiate_connection()
    key = ("authorization", KEY["Authorization"])
    pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "x"), (":path", path)]
    connection.send_headers(1, [*pseudo, key], end_stream=True)
    return connection.data_to_send()


def _frames(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield name and body of frames up to the end of the stream.

    Not by h2, which takes a GOAWAY for the end of all streams.
    """
    while True:
        frame, length = Frame.parse_frame_header(memoryview(stream.read(9)))
        body = stream.read(length)
        yield type(frame).__name__.removesuffix("Frame").upper(), body
        if "END_STREAM" in frame.flags and frame.stream_id == 1:
            return


def _let_it_end(bench: ProxyBench, url: str) -> None:
    wait_until(lambda: _stat(bench, "downstream_cx_max_duration_reached"), "a connection is old")
    for number in range(2):
        httpx.post(f"{url}/ack", json={"n": number}, headers=KEY, trust_env=False)


def test_the_listeners_certificate_is_replaced_under_way(
    pod: Pod, upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    authority = trustme.CA()
    folder = tmp_path / "tls"
    folder.mkdir()

    def issue(name: str) -> None:
        """Replace the pair as kubelet does: by swapping a link."""
        fresh = Path(tempfile.mkdtemp(dir=folder))
        leaf = authority.issue_cert(name, "127.0.0.1")
        leaf.private_key_pem.write_to_path(fresh / "tls.key")
        leaf.cert_chain_pems[0].write_to_path(fresh / "tls.crt")
        (folder / "..new").symlink_to(fresh)
        (folder / "..new").rename(folder / "..data")
        for file in ("tls.crt", "tls.key"):
            if not (folder / file).is_symlink():
                (folder / file).symlink_to(f"..data/{file}")

    issue("first.example")
    downstream = Downstream(
        Certificate(str(folder / "tls.crt"), str(folder / "tls.key"), str(tmp_path))
    )
    documents = [route("r", "/r", upstream.url)]
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def names(port: int) -> list[str]:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            certificate = secure.getpeercert()
            assert certificate is not None
            return [str(item[1]) for item in certificate["subjectAltName"] if item[0] == "DNS"]

    with ProxyBench(documents, extproc=pod.sockets, downstream=downstream) as bench:
        url = f"https://127.0.0.1:{bench.port}/r/models"
        with httpx.Client(verify=context, http2=True, trust_env=False) as client:
            assert client.get(url, headers=KEY).http_version == "HTTP/2"
            assert names(bench.port) == ["first.example"]
            issue("second.example")
            wait_until(lambda: names(bench.port) == ["second.example"], "the new one is served")
            assert client.get(url, headers=KEY).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "--folder", "/no/such"], "the folder /no/such does not exist"),
        (["serve", "--workers", "0"], "'0' is not a whole number from 1 to 64"),
        (["serve", "--health-listen", "4001"], "'4001' is not ADDRESS:PORT"),
        (["drain", "--at-most", "soon"], "'soon' is not a number of seconds from 0 to 86400"),
        (["drain", "--at-least", "nan"], "'nan' is not a number of seconds"),
        ([], "required: COMMAND"),
    ],
)
def test_bad_arguments(arguments: list[str], sentence: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in {1, 2}
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [*COMMAND, "serve", "--folder", str(tmp_path), "--health-listen", address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert address in done.stderr
    assert "Traceback" not in done.stderr


def test_answers(upstream: OpenAIUpstream) -> None:
    good = f"401={upstream.url}/v1/models"
    done = subprocess.run([*COMMAND, "answers", good], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:4]) == (0, "ok  ")
    bad = [f"404={upstream.url}/v1/models", "200=http://127.0.0.1:1/"]
    done = subprocess.run([*COMMAND, "answers", *bad], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.count("FAIL") == 2
