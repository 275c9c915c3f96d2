"""Every failure of docs/errors.md: how it is brought about, and how a client runs into it.

A failure is either an `Ask`, a request that any client can send, or `Raw` bytes. Both name the
`bench` on which it happens; `Benches` sets those up when they are first needed.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import ssl
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import trustme
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from thruway_operator.envoy.fragments import assemble
from thruway_operator.xds import CLUSTER, ROUTE, SECRET, Fragment, Resource, Snapshot
from thruway_testing.plane import fake_extproc
from thruway_testing.plane.fake_extproc import FakeExtProc
from thruway_testing.product.manifests import Document, route, secret
from thruway_testing.product.proxy_bench import ProxyBench
from thruway_testing.upstreams import rude_upstream
from thruway_testing.upstreams.connect_proxy import ConnectProxy
from thruway_testing.upstreams.rude_upstream import RudeUpstream, deaf_port, refusing_port
from thruway_testing.upstreams.tls_front import speak_only

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thruway_testing.wire.rawhttp import Headers

__all__ = ["CLIENTS_KEY", "EARLY", "FAILURES", "REAL_KEY", "WAYS", "Ask", "Benches", "Raw"]

CLIENTS_KEY = "sk-clients-own-key-3kQ"
REAL_KEY = "sk-real-key-of-the-upstream-8Zp"

WAYS = ("HTTP/1.1", "HTTP/1.0", "HTTP/2", "HEAD", "WebSocket", "gRPC", "gRPC+proto", "SDK")
_NOT_SDK = tuple(way for way in WAYS if way != "SDK")  # whose library would tidy it up
_ANY_METHOD = tuple(way for way in _NOT_SDK if way not in {"HEAD", "WebSocket"})
_SLOW = ("HTTP/1.1", "SDK")

_MAIN = "main"


@dataclass(frozen=True)
class Ask:
    """A request. `ways` are those that make sense."""

    path: str = "/answers/models"
    method: str = "GET"
    headers: Headers = ()
    host: str = "localhost"
    bench: str = _MAIN
    ways: tuple[str, ...] = WAYS


@dataclass(frozen=True)
class Raw:
    """Bytes that are sent as they are."""

    data: bytes
    bench: str = _MAIN


def _request(line: bytes = b"GET /answers/models HTTP/1.1", *fields: bytes) -> bytes:
    key = b"Authorization: Bearer " + CLIENTS_KEY.encode()
    return b"\r\n".join([line, b"Host: localhost", key, *fields, b"", b""])


_POST = b"POST /answers/models HTTP/1.1"
_HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
_HALF_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
_TLS_HELLO = bytes.fromhex("16030100c5010000c10303") + bytes(200)
_BIG = (b"x-big", b"a" * 70_000)
_MANY_BIG = tuple((b"x-%d" % number, b"a" * 1000) for number in range(70))
_MANY = tuple((b"x-%d" % number, b"a") for number in range(250))
_HANDSHAKE = ("WebSocket by HTTP/2",)
_HTTP1 = tuple(way for way in WAYS if way != "HTTP/2")  # by HTTP/2: see EARLY
_WITH_HOST = tuple(way for way in WAYS if way != "HTTP/1.0")


def _answering(**changes: Any) -> pb.ProcessingResponse:
    """An answer as extproc gives it, with these headers set."""
    answer = pb.ProcessingResponse()
    for name, value in changes.items():
        option = answer.request_headers.response.header_mutation.set_headers.add()
        option.header.key, option.header.raw_value = name.replace("_", "-"), value
    answer.dynamic_metadata.fields["thruway"].struct_value.update({"processed": True})
    return answer


def _unprocessed() -> pb.ProcessingResponse:
    answer = pb.ProcessingResponse()
    answer.request_headers.SetInParent()
    return answer


def _to_a_body() -> pb.ProcessingResponse:
    answer = pb.ProcessingResponse()
    answer.request_body.SetInParent()
    return answer


def _of_its_own() -> pb.ProcessingResponse:
    answer = pb.ProcessingResponse()
    answer.immediate_response.status.code = 200
    answer.immediate_response.body = b"made up"
    answer.immediate_response.details = "read from /run/secret.sock"
    return answer


_EXTPROC: dict[str, Callable[..., Any]] = {
    "extproc ends with an error": fake_extproc.end_with_error,
    "extproc sends an invalid message": fake_extproc.say(b"\xff\xff\xfenonsense"),
    "extproc sends an empty message": fake_extproc.say(b""),
    "extproc responds to a body": fake_extproc.say(_to_a_body()),
    "extproc sets an invalid header": fake_extproc.say(_answering(x_a=b"a\r\nb: c")),
    "extproc sets one of Envoy's headers": fake_extproc.say(_answering(x_envoy_a=b"a")),
    "headers that are too large after extproc adds to them": fake_extproc.say(
        _answering(x_a=b"a" * 100_000)
    ),
    "extproc closes without a response": fake_extproc.close_without_answer,
    "extproc responds without having processed": fake_extproc.say(_unprocessed()),
    "extproc sends a response of its own": fake_extproc.say(_of_its_own()),
}

_EARLY_CLOSE = "the upstream closes while the body is being sent"
_NO_WEBSOCKET = "the upstream responds to a handshake by HTTP/2 with a success or a redirect"
# By the name of the failure: what the upstream of its route does.
_PLAIN: dict[str, Callable[[rude_upstream.Peer], None]] = {
    "the upstream resets before it responds": rude_upstream.reset_after_request,
    "the upstream closes before it responds": rude_upstream.close_after_request,
    "the upstream closes within its headers": rude_upstream.say(b"HTTP/1.1 200 OK\r\nConte"),
    "the upstream's response is not HTTP": rude_upstream.say(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "the upstream's headers are too large": rude_upstream.say(
        b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 300_000 + b"\r\n\r\n"
    ),
    _EARLY_CLOSE: rude_upstream.reset_after_request,
    _NO_WEBSOCKET: rude_upstream.say(b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 1\r\n\r\na"),
    "it resets within its body": rude_upstream.say_and_reset(_HALF),
    "it resets between chunks": rude_upstream.say_and_reset(_HALF_CHUNKS),
    "it closes within its body": rude_upstream.say(_HALF),
    "it sends a chunk without a size": rude_upstream.say(_HALF_CHUNKS + b"zz\r\n"),
}
_WITH_TLS = {
    "the upstream's certificate is for another name": "elsewhere.test",
    "the upstream's certificate is from an unknown CA": "unknown",
    "the upstream's certificate has expired": "expired",
}
_UPSTREAM_FAILURES = (
    *_PLAIN,
    *_WITH_TLS,
    "the upstream's name does not resolve",
    "the upstream refuses connections",
    "the upstream's address cannot be reached",
    "the upstream accepts no connection in time",
    "the TLS handshake with the upstream takes too long",
    "the upstream only speaks older TLS versions",
    "the upstream does not speak TLS",
    "the upstream speaks TLS, and the route does not",
    "the forward proxy cannot be reached",
    "the forward proxy refuses the upstream",
    "the forward proxy requires a login",
    "the forward proxy does not respond",
    "the upstream does not respond in time",
    "the upstream sends nothing",
    "it begins and does not end in time",
    "it begins and then sends nothing",
)


_NO_HTTP2 = "the upstream responds with HTTP/1.1 instead of HTTP/2"


def _path(name: str) -> str:
    return "/" + "".join(letter if letter.isalnum() else "-" for letter in name)


def _upstream(name: str) -> Ask:
    return Ask(f"{_path(name)}/models")


FAILURES: dict[str, Ask | Raw] = {
    "a path that no route serves": Ask("/answersX/models"),
    "a host name that no route serves": Ask("/named/models", host="other.test", ways=_WITH_HOST),
    "`OPTIONS *`": Raw(_request(b"OPTIONS * HTTP/1.1")),
    "a method that the route does not list": Ask("/reads/models", method="DELETE"),
    "CONNECT, as to a forward proxy": Raw(
        b"CONNECT api.corp.test:443 HTTP/1.1\r\nHost: api.corp.test:443\r\n\r\n"
    ),
    "dot segments in the path": Ask("/answers/../named/models", ways=_NOT_SDK),
    "escaped dot segments in the path": Ask("/answers/%2e%2E/models"),
    "a fragment in the path": Raw(_request(b"GET /answers/models#x HTTP/1.1")),
    "raw UTF-8 in the path": Raw(_request("GET /answers/modèles HTTP/1.1".encode())),
    "a first line that is not HTTP": Raw(b"HELLO\r\n\r\n"),
    "TLS to the plain-text port": Raw(_TLS_HELLO),
    "a header without a colon": Raw(_request(_POST, b"no colon")),
    "a header with a NUL": Raw(_request(_POST, b"X-A: a\0b")),
    "no Host": Raw(b"GET /answers/models HTTP/1.1\r\n\r\n"),
    "an invalid Host": Raw(b"GET /answers/models HTTP/1.1\r\nHost: a@b/c\r\n\r\n"),
    "two Hosts": Raw(_request(_POST, b"Host: other.test")),
    "a length that is not a number": Raw(_request(_POST, b"Content-Length: x")),
    "both a length and chunks": Raw(
        _request(_POST, b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"
    ),
    "a transfer coding other than chunked": Raw(_request(_POST, b"Transfer-Encoding: gzip")),
    "a chunk without a size": Raw(
        _request(b"POST /waits/models HTTP/1.1", b"Transfer-Encoding: chunked") + b"zz\r\n"
    ),
    "headers that do not end": Raw(_request()[:-2]),
    "one header that is too large": Ask(headers=(_BIG,), ways=_HTTP1),
    "headers that are too large in total": Ask(headers=_MANY_BIG, ways=_HTTP1),
    "too many headers": Ask(headers=_MANY, ways=_HTTP1),
    "a first line that is too long": Ask("/answers/models?" + "a" * 63_000, ways=_HTTP1),
    "no key": Ask("/locked/models", headers=((b"authorization", b""),)),
    "a wrong key": Ask("/locked/models"),
    "a web page of another origin": Ask(
        headers=((b"origin", b"https://elsewhere.test"),), bench="loopback"
    ),
    "a preflight from a page that the route does not allow": Ask(
        "/locked/models",
        method="OPTIONS",
        headers=(
            (b"origin", b"https://elsewhere.test"),
            (b"access-control-request-method", b"POST"),
        ),
        ways=_ANY_METHOD,
    ),
    "a host name that is not this machine's": Ask(
        host="rebound.test", bench="loopback", ways=_WITH_HOST
    ),
    "the Secret is missing": Ask("/no-secret/models"),
    "the Secret has not arrived yet": Ask(bench="no secrets"),
    "the CA bundle is missing": Ask("/no-ca/models"),
    "the client certificate is missing": Ask("/no-certificate/models"),
    "the clients' Secret is missing": Ask("/no-clients/models"),
    "the upstream's configuration has not arrived yet": Ask(bench="no clusters"),
    "every worker of extproc is dead": Ask(bench="dead extproc"),
    "every worker of extproc hangs": Ask(bench="hanging extproc", ways=_SLOW),
    **{name: Ask(bench=name) for name in _EXTPROC},
    "extproc has another version": Ask(bench="old extproc"),
    **{name: _upstream(name) for name in _UPSTREAM_FAILURES if name.startswith("the ")},
    _NO_WEBSOCKET: replace(_upstream(_NO_WEBSOCKET), ways=_HANDSHAKE),
    _EARLY_CLOSE: Raw(
        _request(f"POST {_path(_EARLY_CLOSE)}/files HTTP/1.1".encode(), b"Content-Length: 100000")
        + b"half"
    ),
    # Its WebSockets go by HTTP/1.1 whatever is meant.
    _NO_HTTP2: replace(_upstream(_NO_HTTP2), ways=tuple(way for way in WAYS if way != "WebSocket")),
}
"""By their names in the docs."""

EARLY: dict[str, tuple[str, Ask]] = {
    "it resets within its body": ("upstream_cut_off", _upstream("it resets within its body")),
    "it resets between chunks": ("upstream_cut_off", _upstream("it resets between chunks")),
    "it closes within its body": ("upstream_cut_off", _upstream("it closes within its body")),
    "it sends a chunk without a size": (
        "upstream_cut_off",
        _upstream("it sends a chunk without a size"),
    ),
    "it begins and does not end in time": (
        "upstream_timeout",
        _upstream("it begins and does not end in time"),
    ),
    "it begins and then sends nothing": (
        "idle_timeout",
        _upstream("it begins and then sends nothing"),
    ),
}
"""Upstreams whose answer begins and does not end, with the code in the log."""


class Benches:
    """All that failures happen on. A context manager; of the benches only two run at a time."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._other = contextlib.ExitStack()
        self._name = ""
        self._running: dict[str, ProxyBench] = {}
        self.upstreams: dict[str, RudeUpstream] = {}
        self._authority = trustme.CA()
        self._strangers = trustme.CA()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fail-")))
            self._enter = stack.enter_context
            documents = self._documents()
            authorities = self._authority.cert_pem.bytes().decode()
            self._running[_MAIN] = stack.enter_context(ProxyBench(documents, system_ca=authorities))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._other.close()

    def get(self, name: str) -> ProxyBench:
        """Return the bench of this name; any other than the main one ends with the next."""
        if name not in self._running:
            self._running = {_MAIN: self._running[_MAIN]}
            self._other.close()
            self._running[name] = self._start(name)
        return self._running[name]

    def forget(self) -> None:
        """Forget what the upstreams have received."""
        for upstream in self.upstreams.values():
            upstream.forget()

    def received(self) -> list[bytes]:
        """What all upstreams have received."""
        return [head for upstream in self.upstreams.values() for head in upstream.received]

    def _start(self, name: str) -> ProxyBench:
        simple = [_keyed("answers", self.upstreams["answers"].url), secret("real", KEY=REAL_KEY)]
        enter = self._other.enter_context
        if name in _EXTPROC:
            socket = str(self._folder / "extproc.sock")
            enter(FakeExtProc(socket, _EXTPROC[name]))
            return enter(ProxyBench(simple, extproc=[socket]))
        bench = enter(ProxyBench(simple, assemble=_ASSEMBLIES.get(name, assemble)))
        if name.endswith("extproc") and bench.worker and name != "old extproc":
            if name == "dead extproc":
                bench.worker.kill()
                bench.worker.wait()
            else:
                _freeze(bench.worker.pid)
        return bench

    # The routes of the main bench

    def _documents(self) -> list[Document]:
        add = self._add
        waits = add("waits", rude_upstream.wait)
        answers = add("answers", rude_upstream.answer)
        clients = {"clientAuth": {"type": "APIKey", "secretRef": {"name": "clients"}}}
        missing = {"secretKeyRef": {"name": "missing", "key": "KEY"}}
        certificate = {"name": "missing"}
        bundle = {"kind": "ConfigMap", "name": "missing", "key": "ca.crt"}
        strangers = {"type": "APIKey", "secretRef": {"name": "missing"}}
        return [
            secret("real", KEY=REAL_KEY),
            secret("clients", shop="vk-shop-key-77"),
            _keyed("answers", answers.url),
            _keyed("waits", waits.url),
            _keyed("named", answers.url, hostnames=["api.test"]),
            _keyed("reads", answers.url, request={"methods": ["GET", "POST"]}),
            _keyed("locked", answers.url, **clients),
            _keyed("no-clients", answers.url, clientAuth=strangers),
            _keyed("no-secret", answers.url, credential=missing),
            _with_tls(
                _keyed("no-certificate", "https://127.0.0.1:1"), clientCertificateRef=certificate
            ),
            _with_tls(_keyed("no-ca", "https://127.0.0.1:1"), caCertificateRef=bundle),
            *(self._failing(name) for name in _PLAIN),
            *(self._untrusted(name) for name in _WITH_TLS),
            *self._odd(),
            *self._proxied(),
        ]

    def _add(
        self, name: str, behave: Callable[[rude_upstream.Peer], None], **more: Any
    ) -> RudeUpstream:
        upstream = self._enter(RudeUpstream(behave, **more))
        self.upstreams[name] = upstream
        return upstream

    def _failing(self, name: str) -> Document:
        return _keyed(name, self._add(name, _PLAIN[name]).url)

    def _untrusted(self, name: str) -> Document:
        kind = _WITH_TLS[name]
        upstream = self._add(name, rude_upstream.answer, tls=self._tls(kind))
        return _with_tls(_keyed(name, upstream.url), serverName="api.corp.test")

    def _tls(self, kind: str = "") -> ssl.SSLContext:
        authority = self._strangers if kind == "unknown" else self._authority
        name = kind if kind == "elsewhere.test" else "api.corp.test"
        now = datetime.datetime.now(datetime.UTC)
        days = datetime.timedelta(days=-1 if kind == "expired" else 1)
        certificate = authority.issue_cert(
            name, not_before=now - datetime.timedelta(days=9), not_after=now + days
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    def _odd(self) -> list[Document]:
        add = self._add
        waits = self.upstreams["waits"]
        old = self._tls()
        speak_only(old, "TLSv1_1")
        short = {"connect": "300ms"}
        talks = add(
            "the upstream does not speak TLS", rude_upstream.say_at_once(b"HTTP/1.1 400 \r\n\r\n")
        )
        safe = add("the upstream speaks TLS, and the route does not", _read, tls=self._tls())
        elder = add("the upstream only speaks older TLS versions", _read, tls=old)
        http1 = add("HTTP/1.1", rude_upstream.say(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        slow = add("the upstream does not respond in time", rude_upstream.wait)
        dumb = add("the upstream sends nothing", rude_upstream.wait)
        begins = add("it begins", rude_upstream.say_and_wait(_HALF))
        corp = {"serverName": "api.corp.test"}
        return [
            _keyed("the upstream's name does not resolve", "http://nowhere.invalid"),
            _keyed(
                "the upstream refuses connections",
                f"http://127.0.0.1:{self._enter(refusing_port())}",
            ),
            _keyed("the upstream's address cannot be reached", "http://[fe80::1]"),
            _keyed(
                "the upstream accepts no connection in time",
                f"http://127.0.0.1:{self._enter(deaf_port())}",
                timeouts=short,
            ),
            _with_tls(
                _keyed(
                    "the TLS handshake with the upstream takes too long",
                    f"https://127.0.0.1:{waits.port}",
                    timeouts=short,
                ),
                **corp,
            ),
            _with_tls(
                _keyed("the upstream does not speak TLS", f"https://127.0.0.1:{talks.port}"), **corp
            ),
            _with_tls(_keyed("the upstream only speaks older TLS versions", elder.url), **corp),
            _keyed(
                "the upstream speaks TLS, and the route does not", f"http://127.0.0.1:{safe.port}"
            ),
            _speaking_http2(_keyed(_NO_HTTP2, http1.url)),
            _keyed(
                "the upstream does not respond in time", slow.url, timeouts={"request": "400ms"}
            ),
            _keyed("the upstream sends nothing", dumb.url, timeouts={"idle": "400ms"}),
            _keyed("it begins and does not end in time", begins.url, timeouts={"request": "400ms"}),
            _keyed("it begins and then sends nothing", begins.url, timeouts={"idle": "400ms"}),
            _keyed("begins", begins.url),
        ]

    def _proxied(self) -> list[Document]:
        enter, target = self._enter, {"api.corp.test:443": 1}
        proxies = {
            "the forward proxy cannot be reached": f"http://127.0.0.1:{enter(refusing_port())}",
            "the forward proxy refuses the upstream": enter(ConnectProxy(target, refuse=403)).url,
            "the forward proxy requires a login": enter(ConnectProxy(target, login="a:b")).url,
            "the forward proxy does not respond": enter(ConnectProxy(target, mute=True)).url,
        }
        documents = []
        for name, url in proxies.items():
            document = _keyed(name, "https://api.corp.test", timeouts={"connect": "300ms"})
            document["spec"]["upstream"]["proxy"] = {"url": url}
            documents.append(document)
        return documents


def _read(peer: rude_upstream.Peer) -> None:
    peer.read_head()


def _keyed(name: str, url: str, **spec: Any) -> Document:
    own = {"credential": {"secretKeyRef": {"name": "real", "key": "KEY"}}}
    number = sum(map(ord, name))
    identifier = "".join(letter for letter in name.lower() if letter.isalnum())[:40]
    return route(f"{identifier}-{number}", _path(name), url, **own | spec)


def _with_tls(document: Document, **tls: Any) -> Document:
    document["spec"]["upstream"]["tls"] = tls
    return document


def _speaking_http2(document: Document) -> Document:
    document["spec"]["upstream"]["protocol"] = "HTTP2"
    return document


def _without(kind: str, fragments: Sequence[Fragment]) -> Snapshot:
    return {**assemble(fragments), kind: {}}


def _of_another_version(fragments: Sequence[Fragment]) -> Snapshot:
    snapshot = assemble(fragments)
    routes = {}
    for name, resource in snapshot[ROUTE].items():
        assert b'"v":1' in resource.body
        body = resource.body.replace(b'"v":1', b'"v":9')  # of the same length
        routes[name] = Resource.of(ROUTE, name, body)
    return {**snapshot, ROUTE: routes}


def _freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


_ASSEMBLIES: dict[str, Callable[[Sequence[Fragment]], Snapshot]] = {
    "loopback": partial(assemble, keep_browsers_out=True),
    "no secrets": partial(_without, SECRET),
    "no clusters": partial(_without, CLUSTER),
    "old extproc": _of_another_version,
}
