"""The server's certificate: read from files, and reloaded when they change.

When kubelet replaces the files of a Secret, the server uses the new ones without a restart, and
streams that began with the old certificate go on.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any, Final

import grpc

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CertificateError", "CertificateFiles", "PemPair"]

_log = logging.getLogger("thruway.xds")

_Signature = tuple[tuple[int, ...], ...]
_TRIES: Final = 5


class CertificateError(Exception):
    """Certificate and key are unusable; the message is a sentence and quotes neither of them."""


class PemPair:
    """A certificate chain and its key, both PEM files that may be replaced at any time."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._seen: _Signature = ()

    @property
    def changed(self) -> bool:
        """Whether the files differ from those that `load` last read."""
        return self._signature() != self._seen

    def load(self) -> tuple[bytes, bytes, ssl.SSLContext]:
        """Return the chain, the key, and a server's context with both, all read consistently.

        Raises:
            CertificateError: the current files are unusable.
        """
        for _ in range(_TRIES):  # the two files may be replaced between the two reads
            self._seen = self._signature()
            try:
                # OpenSSL must not prompt for an encrypted key's password at the terminal.
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self._certificate, self._key, password="")
                chain, key = self._certificate.read_bytes(), self._key.read_bytes()
            except (OSError, ValueError) as error:
                if self.changed:
                    continue
                raise CertificateError(
                    f"certificate {self._certificate} with key {self._key} cannot be used "
                    f"({_cause(error)})"
                ) from None
            if not self.changed:
                return chain, key, context
        raise CertificateError(f"certificate {self._certificate} keeps changing while it is read")

    def _signature(self) -> _Signature:
        return tuple(_stat(path) for path in (self._certificate, self._key))


class CertificateFiles:
    """The certificate of a gRPC server.

    gRPC requests it at each handshake, in its own thread. If the new files are unusable, gRPC keeps
    the previous certificate.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._pair = PemPair(certificate, key)
        self._certificate = certificate

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials for a server's port.

        Raises:
            CertificateError: the current files are unusable.
        """
        fetcher: Any = self._changed  # the stubs do not know that it may return None
        return grpc.dynamic_ssl_server_credentials(self._load(), fetcher)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new pair if there is a usable one, or None to keep the old one."""
        if not self._pair.changed:
            return None
        try:
            pair = self._load()
        except CertificateError as error:
            _log.warning("%s: xDS keeps using the previous certificate", error)
            return None
        _log.info("xDS now uses the new certificate in %s", self._certificate)
        return pair

    def _load(self) -> grpc.ServerCertificateConfiguration:
        chain, key, _ = self._pair.load()
        return grpc.ssl_server_certificate_configuration([(key, chain)])


def _cause(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return getattr(error, "strerror", None) or type(error).__name__


def _stat(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
