"""The webhook's certificate, replaced while somebody connects."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
import trustme

from thruway_operator.sidecar.webhook.tls import server_context
from thruway_operator.xds.tls import CertificateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Server:
    """Shakes hands with whoever connects."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with plain, contextlib.suppress(OSError):
                self._context.wrap_socket(plain, server_side=True).close()


class Folder:
    """Where the certificate is, each time one of another authority."""

    def __init__(self, path: Path) -> None:
        self.certificate, self.key = path / "tls.crt", path / "tls.key"

    def issue(self) -> trustme.CA:
        authority = trustme.CA()
        leaf = authority.issue_cert("thruway-injector.thruway-system.svc")
        for path, pem in (
            (self.key, leaf.private_key_pem),
            (self.certificate, leaf.cert_chain_pems[0]),
        ):
            fresh = path.with_suffix(".new")
            pem.write_to_path(fresh)
            fresh.rename(path)
        return authority


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def served(folder: Folder) -> Iterator[tuple[int, trustme.CA]]:
    authority = folder.issue()
    with Server(server_context(folder.certificate, folder.key)) as port:
        yield port, authority


def shake_hands(port: int, authority: trustme.CA) -> bool:
    """Whether a client that trusts this authority alone connects, with and without a name."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    for name in ("thruway-injector.thruway-system.svc", None):
        context.check_hostname = name is not None
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            try:
                context.wrap_socket(plain, server_hostname=name).close()
            except ssl.SSLCertVerificationError:
                return False
    return True


def test_the_next_to_connect_gets_what_is_there(
    folder: Folder, served: tuple[int, trustme.CA]
) -> None:
    port, first = served
    assert shake_hands(port, first)
    second = folder.issue()
    assert shake_hands(port, second)
    assert not shake_hands(port, first)


@pytest.mark.parametrize("damage", ["missing", "nonsense", "another key"])
def test_while_files_are_replaced_the_last_good_one_is_served(
    folder: Folder, served: tuple[int, trustme.CA], damage: str
) -> None:
    port, first = served
    if damage == "missing":
        folder.certificate.unlink()
    elif damage == "nonsense":
        folder.certificate.write_text("nonsense")
    else:
        old = folder.key.with_suffix(".old")
        shutil.copy(folder.key, old)
        folder.issue()
        old.rename(folder.key)
    assert shake_hands(port, first)
    second = folder.issue()
    assert shake_hands(port, second)


def test_without_a_certificate_it_does_not_start(folder: Folder) -> None:
    with pytest.raises(CertificateError, match=r"cannot be used \(No such file"):
        server_context(folder.certificate, folder.key)
