"""The server's certificate: read from files, and read again when they change.

kubelet replaces the files of a Secret under way; what is served then follows without a restart, and
without an end to streams that began with the old certificate.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any, Final

import grpc

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CertificateError", "CertificateFiles"]

_log = logging.getLogger("thruway.xds")

_Signature = tuple[tuple[int, ...], ...]
_TRIES: Final = 5


class CertificateError(Exception):
    """Certificate and key cannot be used; the message is a sentence and holds nothing of them."""


class CertificateFiles:
    """A certificate chain and its key, both PEM files.

    gRPC asks for them at each handshake, in a thread of its own, and goes on with what it has if
    what it is given cannot be used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._seen: _Signature = ()

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a server's port takes.

        Raises:
            CertificateError: the files as they are now cannot be used.
        """
        fetcher: Any = self._changed  # the stubs do not know that it may return None
        return grpc.dynamic_ssl_server_credentials(self._load(), fetcher)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new pair if there is one that can be used; None: go on with the old."""
        if self._signature() == self._seen:
            return None
        try:
            pair = self._load()
        except CertificateError as error:
            _log.warning("%s; xDS is served with the one before", error)
            return None
        _log.info("xDS is served with the new certificate in %s", self._certificate)
        return pair

    def _load(self) -> grpc.ServerCertificateConfiguration:
        for _ in range(_TRIES):  # the files are two, and may be replaced between two reads
            self._seen = self._signature()
            error = self._problem()
            if error is None:
                key, certificate = self._key.read_bytes(), self._certificate.read_bytes()
            if self._signature() != self._seen:
                continue
            if error is not None:
                raise CertificateError(
                    f"certificate {self._certificate} with key {self._key} cannot be used ({error})"
                )
            return grpc.ssl_server_certificate_configuration([(key, certificate)])
        raise CertificateError(f"certificate {self._certificate} does not stop changing")

    def _problem(self) -> str | None:
        try:
            # An encrypted key must not make OpenSSL ask at the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self._certificate, self._key, password=""
            )
        except ssl.SSLError as error:
            return (error.reason or "no PEM").replace("_", " ").lower()
        except (OSError, ValueError) as error:
            return getattr(error, "strerror", None) or type(error).__name__
        return None

    def _signature(self) -> _Signature:
        return tuple(_stat(path) for path in (self._certificate, self._key))


def _stat(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
