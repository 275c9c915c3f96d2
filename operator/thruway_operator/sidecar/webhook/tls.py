"""The webhook's certificate: what its files hold when a client connects.

kopf's own server restarts its listener for new files, and calls fail meanwhile (4 of 242).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from thruway_operator.xds.tls import CertificateError, PemPair

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

__all__ = ["server_context"]

_log = logging.getLogger("thruway.injector")


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context that serves the content of these PEM files, read again when they change.

    Raises:
        CertificateError: they cannot be used.
    """
    pair = PemPair(certificate, key)
    _, _, context = pair.load()
    current = context

    def choose(
        connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        nonlocal current
        if pair.changed:
            try:
                _, _, current = pair.load()
            except CertificateError as error:
                # They are being replaced: the next connection looks again.
                _log.debug("%s; the previous certificate is served", error)
        connection.context = current

    context.sni_callback = choose
    return context
