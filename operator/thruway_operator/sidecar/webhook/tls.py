"""The certificate of the webhook: whatever its files hold when somebody connects.

kopf's own server restarts its listener for new files, and calls fail meanwhile (4 of 242).
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["server_context"]

_log = logging.getLogger("thruway.injector")

_Stamp = tuple[int, int]


class _Pair:
    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._stamp: _Stamp | None = None
        self.context = self._load()

    def refresh(self) -> None:
        """Read the files again if they have changed; keep what there is if they cannot be read."""
        try:
            if self._look() != self._stamp:
                self.context = self._load()
        except (OSError, ssl.SSLError) as error:
            # They are being replaced: the next to connect makes us look again.
            _log.debug("the new certificate cannot be read yet: %s", error)

    def _load(self) -> ssl.SSLContext:
        stamp = self._look()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files)
        self._stamp = stamp
        return context

    def _look(self) -> _Stamp:
        found = self._files[0].stat()
        return found.st_mtime_ns, found.st_ino


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context that serves what is in these PEM files, at each handshake anew.

    Raises:
        OSError: they cannot be read, or are no pair (ssl.SSLError).
    """
    pair = _Pair(certificate, key)
    context = pair.context

    def choose(
        connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        pair.refresh()
        connection.context = pair.context

    context.sni_callback = choose
    return context
