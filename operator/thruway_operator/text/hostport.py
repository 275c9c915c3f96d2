"""`HOST:PORT`, as options and settings spell addresses."""

from __future__ import annotations

__all__ = ["split_host_port"]


def split_host_port(text: str) -> tuple[str, int] | None:
    """Return host, which may be empty, and port (0 to 65535); None if there is no valid port.

    An IPv6 address stands in brackets, which are removed.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        return None
    return host.strip("[]"), int(port)
