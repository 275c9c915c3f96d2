"""What an upstream must show: a certificate by the right CA for the right name, and no old TLS."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trustme

from thruway_testing.product.manifests import Document, route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up, wait_until
from thruway_testing.upstreams.tls_front import TlsFront, server_context, speak_only

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream


@pytest.fixture(scope="module")
def trusted() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def other() -> trustme.CA:
    """A CA that the machine does not know."""
    return trustme.CA()


@dataclass
class Bench:
    """TLS servers in front of one upstream, and routes to them."""

    backend: int
    stack: ExitStack
    documents: list[Document] = field(default_factory=list)

    def serve(self, context: ssl.SSLContext, address: str = "127.0.0.1") -> TlsFront:
        return self.stack.enter_context(TlsFront(self.backend, context, address=address))

    def lead(self, name: str, to: str | TlsFront, server_name: str = "", **tls: Any) -> None:
        """Add a route to a URL, or to a server by its address."""
        url = to if isinstance(to, str) else f"https://127.0.0.1:{to.port}"
        if server_name:
            tls["serverName"] = server_name
        document = route(name, f"/{name}", url)
        if tls:
            document["spec"]["upstream"]["tls"] = tls
        self.documents.append(document)

    @contextmanager
    def up(self, authority: trustme.CA, folder: Path) -> Iterator[ThruwayUp]:
        bundle = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        write(folder / "routes.yaml", *self.documents)
        arguments = ("-f", str(folder / "routes.yaml"))
        with thruway_up(*arguments, environment={"SSL_CERT_FILE": str(bundle)}) as up:
            yield up


@pytest.fixture
def bench(native_upstream: OpenAIUpstream) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(native_upstream.port, stack)


def outcomes(up: ThruwayUp, bench: Bench) -> dict[str, int | str]:
    return {
        name: outcome(up, name)
        for document in bench.documents
        if document["kind"] == "PassthroughRoute"
        for name in [document["metadata"]["name"]]
    }


def outcome(up: ThruwayUp, name: str) -> int | str:
    """The status; of an error of Thruway's own its code."""
    answer = httpx.get(
        f"{up.url}/{name}/models",
        headers={"Authorization": "Bearer sk-client"},
        trust_env=False,
        timeout=20,
    )
    code = "" if answer.status_code == 200 else answer.json()["error"]["code"]
    return code or answer.status_code


# Routes to these go by address: of a name with several addresses Envoy tells the last one's failure
# only, which may be that nothing listens there.
UNTRUSTED = "upstream_certificate_invalid"


def test_names_and_addresses_must_be_in_the_certificate(
    bench: Bench, trusted: trustme.CA, other: trustme.CA, tmp_path: Path
) -> None:
    named = bench.serve(server_context(trusted, "localhost", "api.corp.test"))
    bench.lead("by-name", f"https://localhost:{named.port}")
    bench.lead("by-server-name", named, "api.corp.test")
    bench.lead("no-address", f"https://127.0.0.1:{named.port}")
    bench.lead("wrong-server-name", named, "x.corp.test")
    four = bench.serve(server_context(trusted, "127.0.0.1"))
    bench.lead("by-ipv4", f"https://127.0.0.1:{four.port}")
    bench.lead("no-name", four, "localhost")
    six = bench.serve(server_context(trusted, "::1"), address="::1")
    bench.lead("by-ipv6", f"https://[::1]:{six.port}")
    unknown = bench.serve(server_context(other, "localhost"))
    bench.lead("unknown-ca", unknown, "localhost")
    with bench.up(trusted, tmp_path) as up:
        assert outcomes(up, bench) == {
            "by-name": 200,
            "by-server-name": 200,
            "no-address": UNTRUSTED,
            "wrong-server-name": UNTRUSTED,
            "by-ipv4": 200,
            "no-name": UNTRUSTED,
            "by-ipv6": 200,
            "unknown-ca": UNTRUSTED,
        }
    assert {item.server_name for item in named.handshakes} == {"localhost", "api.corp.test"}
    assert {item.server_name for item in (*four.handshakes, *six.handshakes)} == {None}


def test_a_routes_own_ca_is_trusted_by_it_alone_and_instead_of_the_machines(
    bench: Bench, trusted: trustme.CA, other: trustme.CA, tmp_path: Path
) -> None:
    private = bench.serve(server_context(other, "localhost"))
    public = bench.serve(server_context(trusted, "localhost"))
    ref = {"name": "ca"}
    bench.lead("own-ca", private, "localhost", caCertificateRef=ref)
    of_secret = {"kind": "Secret", "name": "ca", "key": "bundle.pem"}
    bench.lead(
        "own-ca-secret",
        f"https://127.0.0.1:{private.port}",
        serverName="localhost",
        caCertificateRef=of_secret,
    )
    bench.lead("machines-ca", private, "localhost")
    bench.lead("instead", public, "localhost", caCertificateRef=ref)
    bench.lead(
        "missing",
        f"https://127.0.0.1:{private.port}",
        serverName="localhost",
        caCertificateRef={"name": "lost"},
    )
    pem = other.cert_pem.bytes().decode()
    bench.documents += [secret("ca", **{"bundle.pem": pem}), config_map(pem)]
    with bench.up(trusted, tmp_path) as up:
        assert outcomes(up, bench) == {
            "own-ca": 200,
            "own-ca-secret": 200,
            "machines-ca": UNTRUSTED,
            "instead": UNTRUSTED,
            "missing": "ca_missing",
        }
        # Another bundle takes effect while it runs.
        bench.documents[-1] = config_map(trusted.cert_pem.bytes().decode())
        write(tmp_path / "routes.yaml", *bench.documents)
        wait_until(lambda: outcome(up, "instead") == 200, "the new bundle")
        assert outcome(up, "own-ca") == UNTRUSTED


def config_map(pem: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ca"},
        "data": {"ca.crt": pem},
    }


def test_old_versions_of_tls_are_refused(bench: Bench, trusted: trustme.CA, tmp_path: Path) -> None:
    eleven = bench.serve(server_context(trusted, "localhost", only="TLSv1_1"))
    twelve = bench.serve(server_context(trusted, "localhost", only="TLSv1_2"))
    newest = bench.serve(server_context(trusted, "localhost"))
    bench.lead("eleven", eleven, "localhost")
    bench.lead("twelve", twelve, "localhost")
    bench.lead(
        "twelve-too-old",
        f"https://127.0.0.1:{twelve.port}",
        serverName="localhost",
        minVersion="TLSv1.3",
    )
    bench.lead("thirteen", newest, "localhost", minVersion="TLSv1.3")
    with bench.up(trusted, tmp_path) as up:
        assert outcomes(up, bench) == {
            "eleven": "upstream_tls_failed",
            "twelve": 200,
            "twelve-too-old": "upstream_tls_failed",
            "thirteen": 200,
        }
    assert [item.version for item in eleven.handshakes] == []
    assert {item.version for item in twelve.handshakes} == {"TLSv1.2"}
    assert {item.version for item in newest.handshakes} == {"TLSv1.3"}
    # That 1.1 would have been agreed on with a client that takes it.
    assert old_client(eleven.port) == "TLSv1.1"


def old_client(port: int) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    speak_only(context, "TLSv1_1")
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as tls,
    ):
        return tls.version()
