"""xDS over TLS: the certificate is replaced under way, and nobody notices."""

from __future__ import annotations

import asyncio
import functools
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

import grpc
import pytest
import trustme

from thruway_operator.xds import CLUSTER, ROUTE, Fragment, Resource, Snapshot, XdsError, XdsServer
from thruway_operator.xds import snapshot_of as snapshot
from thruway_testing.plane.fragments import fragment_of
from thruway_testing.plane.xds_client import XdsClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path

P = ParamSpec("P")
NAME = "thruway-operator"


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def assemble(fragments: Sequence[Fragment]) -> Snapshot:
    return snapshot([Resource.of(ROUTE, "thruway", "".join(f.id for f in fragments).encode())])


def routes(name: str) -> dict[str, Fragment]:
    return {name: fragment_of(name)}


class Files:
    """A certificate and its key in a folder, replaced as kubelet does it."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.pair = folder / "tls.crt", folder / "tls.key"
        self._folder = folder
        self._authority = authority
        self._count = 0
        self.renew()

    @property
    def authorities(self) -> bytes:
        return self._authority.cert_pem.bytes()

    def renew(self) -> bytes:
        """Put a new pair there; return its certificate."""
        leaf = self._authority.issue_cert(NAME)
        [certificate] = leaf.cert_chain_pems
        self.project(certificate.bytes(), leaf.private_key_pem.bytes())
        return certificate.bytes()

    def project(self, certificate: bytes, key: bytes) -> None:
        self._count += 1
        fresh = self._folder / f"..{self._count}"
        fresh.mkdir()
        (fresh / "tls.crt").write_bytes(certificate)
        (fresh / "tls.key").write_bytes(key)
        link = self._folder / "..new"
        link.symlink_to(fresh.name)
        link.rename(self._folder / "..data")
        for path in self.pair:
            if not path.is_symlink():
                path.symlink_to(f"..data/{path.name}")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path, authority)


@asynccontextmanager
async def serving(files: Files) -> AsyncIterator[tuple[XdsServer, str]]:
    server = XdsServer(assemble, linger=0.0)
    port = await server.start("127.0.0.1:0", tls=files.pair)
    server.publish("", routes("one"))
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop()


async def served(address: str, files: Files) -> bytes:
    """Return the certificate that a new connection gets, in PEM."""
    context = ssl.create_default_context(cadata=files.authorities.decode())
    context.set_alpn_protocols(["h2"])
    host, port = address.split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=NAME)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return ssl.DER_cert_to_PEM_cert(found).encode()


def same(one: bytes, other: bytes) -> bool:
    return b"".join(one.split()) == b"".join(other.split())


@in_loop
async def test_a_new_certificate_under_an_open_stream(files: Files) -> None:
    """New connections get it; a stream that began with the old one goes on."""
    async with (
        serving(files) as (server, address),
        XdsClient(address, authorities=files.authorities) as proxy,
    ):
        await proxy.start("a")
        await proxy.take_until(b"one")
        for _ in range(3):
            new = files.renew()
            assert same(await served(address, files), new)
        server.publish("", routes("two"))
        await proxy.take_until(b"two")
        async with XdsClient(address, authorities=files.authorities) as another:
            await another.start("b")
            await another.take_until(b"two")


@in_loop
async def test_a_broken_pair_changes_nothing(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """The old pair is served on, one sentence says why, and the next good pair is taken."""
    async with serving(files) as (_, address):
        old = await served(address, files)
        certificate, key = (path.read_bytes() for path in files.pair)
        other = trustme.CA().issue_cert(NAME).private_key_pem.bytes()
        for broken in [(certificate, other), (certificate, b"nonsense"), (b"", key)]:
            caplog.clear()
            files.project(*broken)
            for _ in range(3):
                assert same(await served(address, files), old)
            [line] = [r.getMessage() for r in caplog.records if "cannot be used" in r.message]
            assert "tls.crt" in line
            assert "BEGIN" not in line
        files.project(certificate, key)
        assert same(await served(address, files), old)
        files.pair[1].unlink()
        caplog.clear()
        for _ in range(3):
            assert same(await served(address, files), old)
        assert len([r for r in caplog.records if "No such file" in r.message]) == 1
        new = files.renew()
        assert same(await served(address, files), new)


@in_loop
async def test_a_start_without_a_usable_pair(files: Files) -> None:
    """It fails, in a sentence; it never asks at the terminal for a key's password."""
    files.pair[1].unlink()
    with pytest.raises(XdsError, match=r"tls.crt with key .*tls.key cannot be used \(No such"):
        await XdsServer(assemble).start("127.0.0.1:0", tls=files.pair)


@in_loop
async def test_no_tls_no_answer(files: Files) -> None:
    """Who speaks no TLS to a TLS port gets nothing."""
    async with serving(files) as (_, address), XdsClient(address) as proxy:
        await proxy.ask(CLUSTER, node="a")
        assert (await proxy.ended())[0] == grpc.StatusCode.UNAVAILABLE
