"""`upstream.tls.clientCertificateRef`: what Thruway shows to an upstream that asks for it."""

from __future__ import annotations

import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest
import trustme
from cryptography import x509

from thruway_testing.product.manifests import Document, route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up, wait_until
from thruway_testing.upstreams.tls_front import TlsFront, server_context
from thruway_testing.wire.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

HEADERS = {"Authorization": "Bearer sk-client"}
CLIENT = {"clientCertificateRef": {"name": "client"}}


@pytest.fixture(scope="module")
def servers() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def clients() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pair(authority: trustme.CA, name: str = "client") -> Document:
    """A Secret as `kubectl create secret tls` makes it."""
    issued = authority.issue_cert("client@shop.test")
    document = secret(
        name,
        **{
            "tls.crt": "".join(blob.bytes().decode() for blob in issued.cert_chain_pems),
            "tls.key": issued.private_key_pem.bytes().decode(),
        },
    )
    return {**document, "type": "kubernetes.io/tls"}


def serial(document: Document) -> str:
    text = document["stringData"]["tls.crt"].encode()
    number = x509.load_pem_x509_certificate(text).serial_number
    hexadecimal = f"{number:X}"
    return hexadecimal.rjust(len(hexadecimal) + len(hexadecimal) % 2, "0")


def leading(name: str, to: TlsFront, **tls: object) -> Document:
    document = route(name, f"/{name}", f"https://127.0.0.1:{to.port}")
    document["spec"]["upstream"]["tls"] = {"serverName": "localhost", **tls}
    return document


def started(
    stack: ExitStack, folder: Path, authority: trustme.CA, *documents: Document, debug: bool = False
) -> ThruwayUp:
    bundle = folder / "servers.pem"
    authority.cert_pem.write_to_path(str(bundle))
    write(folder / "routes.yaml", *documents)
    more = ("--log-level", "debug") if debug else ()
    environment = {"SSL_CERT_FILE": str(bundle)}
    arguments = ("-f", str(folder / "routes.yaml"), *more)
    return stack.enter_context(thruway_up(*arguments, environment=environment))


def outcome(up: ThruwayUp, name: str) -> int | str:
    answer = httpx.get(
        f"{up.url}/{name}/models",
        headers=HEADERS,
        trust_env=False,
        timeout=20,
    )
    return answer.headers.get("x-thruway-code") or answer.status_code


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_the_upstream_sees_the_certificate(
    stack: ExitStack,
    tmp_path: Path,
    servers: trustme.CA,
    clients: trustme.CA,
    native_upstream: OpenAIUpstream,
    version: str,
) -> None:
    context = server_context(servers, "localhost", clients=clients)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    front = stack.enter_context(TlsFront(native_upstream.port, context))
    client, stranger = pair(clients), pair(servers, "stranger")
    up = started(
        stack,
        tmp_path,
        servers,
        leading("known", front, **CLIENT),
        leading("bare", front),
        leading("stranger", front, clientCertificateRef={"name": "stranger"}),
        client,
        stranger,
    )
    assert outcome(up, "known") == 200
    assert {shaken.client for shaken in front.handshakes} == {serial(client)}
    # By TLS 1.3 the client's side is done before the server has looked; Envoy only sees it close.
    code = {"TLSv1_2": "upstream_tls_failed", "TLSv1_3": "upstream_reset"}[version]
    assert {name: outcome(up, name) for name in ("bare", "stranger")} == {
        "bare": code,
        "stranger": code,
    }


def test_it_is_rotated_under_load_without_a_failed_request(
    stack: ExitStack,
    tmp_path: Path,
    servers: trustme.CA,
    clients: trustme.CA,
    native_upstream: OpenAIUpstream,
) -> None:
    context = server_context(servers, "localhost", clients=clients)
    front = stack.enter_context(TlsFront(native_upstream.port, context))
    old, new = pair(clients), pair(clients)
    documents = [leading("a", front, **CLIENT)]
    up = started(stack, tmp_path, servers, *documents, old)

    def shown() -> set[str | None]:
        return {shaken.client for shaken in front.handshakes}

    with Load([f"{up.url}/a/responses"], headers=HEADERS) as load:
        wait_until(lambda: load.done > 50, "traffic")
        assert shown() == {serial(old)}
        write(tmp_path / "routes.yaml", *documents, new)
        wait_until(lambda: "credentials changed" in up.text, "the change")
        seen = load.done
        wait_until(lambda: load.done > seen + 50, "more traffic")
    assert load.failures == []
    # Connections that were open live on with the old one; a new one shows the new.
    with Load([f"{up.url}/a/responses"], headers=HEADERS, clients=64) as load:
        wait_until(lambda: serial(new) in shown(), "the new certificate")
    assert load.failures == []


def test_a_bad_one_stops_its_own_route_alone_until_it_is_mended(
    stack: ExitStack,
    tmp_path: Path,
    servers: trustme.CA,
    clients: trustme.CA,
    native_upstream: OpenAIUpstream,
) -> None:
    context = server_context(servers, "localhost", clients=clients)
    front = stack.enter_context(TlsFront(native_upstream.port, context))
    good, other = pair(clients), pair(clients)
    mixed = pair(clients, "mixed")
    mixed["stringData"]["tls.key"] = other["stringData"]["tls.key"]
    documents = [
        leading("a", front, **CLIENT),
        leading("mixed", front, clientCertificateRef={"name": "mixed"}),
        leading("missing", front, clientCertificateRef={"name": "nowhere"}),
    ]
    up = started(stack, tmp_path, servers, *documents, good, mixed)
    assert {name: outcome(up, name) for name in ("a", "mixed", "missing")} == {
        "a": 200,
        "mixed": "client_certificate_missing",
        "missing": "client_certificate_missing",
    }
    assert "is not the key of the first certificate in tls.crt" in up.text
    assert "there is no Secret nowhere" in up.text
    mended = {**pair(clients), "metadata": {"name": "nowhere"}}
    write(tmp_path / "routes.yaml", *documents, good, mixed, mended)
    wait_until(lambda: outcome(up, "missing") == 200, "the new Secret")
    # It goes and comes back with another certificate.
    write(tmp_path / "routes.yaml", *documents, good, mixed)
    wait_until(lambda: outcome(up, "missing") != 200, "the Secret to go")
    again = {**pair(clients), "metadata": {"name": "nowhere"}}
    write(tmp_path / "routes.yaml", *documents, good, mixed, again)
    wait_until(lambda: outcome(up, "missing") == 200, "the Secret again")
    with Load([f"{up.url}/missing/responses"], headers=HEADERS, clients=64) as load:
        wait_until(
            lambda: serial(again) in {shaken.client for shaken in front.handshakes},
            "a new connection with the new certificate",
        )
    assert load.failures == []


def test_the_key_is_shown_nowhere(
    stack: ExitStack,
    tmp_path: Path,
    servers: trustme.CA,
    clients: trustme.CA,
    native_upstream: OpenAIUpstream,
) -> None:
    context = server_context(servers, "localhost", clients=clients)
    front = stack.enter_context(TlsFront(native_upstream.port, context))
    client = pair(clients)
    up = started(stack, tmp_path, servers, leading("a", front, **CLIENT), client, debug=True)
    assert outcome(up, "a") == 200
    dumps = [up.admin(path) for path in ("/config_dump?include_eds", "/certs", "/clusters")]
    assert "certificate:default/client@" in dumps[0]
    files = [
        file.read_bytes().decode(errors="replace")
        for file in up.run_folder.iterdir()
        if file.is_file()
    ]
    lines = client["stringData"]["tls.key"].splitlines()[1:-1]
    for text in (*dumps, *files, up.text, up.output):
        assert not [line for line in lines if line in text]
