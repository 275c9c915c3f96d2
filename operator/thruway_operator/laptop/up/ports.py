"""Decides on which addresses `thruway up` listens, with a sentence for each reason why it cannot.

The check binds like Envoy (SO_REUSEADDR, so that TIME_WAIT does not matter) but without
SO_REUSEPORT, which would silently let two proxies share one port. Another program may still take
the port between the check and Envoy's own bind: the check only serves the error message.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from typing import TYPE_CHECKING, TypeAlias

from thruway_operator.laptop.up.portowner import PortOwner, port_owner

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ListenError", "PortInUseError", "listen_addresses"]

Address: TypeAlias = tuple[str, int]

_LOOPBACK = ("127.0.0.1", "::1")
_DEFAULT_PORT = 4000
_TRIES = 50  # for a port that is free on all addresses, or a free one to suggest
_NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


class ListenError(Exception):
    """Cannot listen on an address; the message is one sentence that says what to do."""


class PortInUseError(ListenError):
    """Another program uses the port. `suggestion`: a port that was free just now."""

    def __init__(self, host: str, port: int, suggestion: int, owner: PortOwner | None) -> None:
        by = f" ({owner})" if owner else ""
        said = f"Port {port} of {host} is in use by another program{by}; choose"
        if owner and owner.thruway:
            said = (
                f"Thruway already runs on port {port} of {host} (pid {owner.thruway}); end it, or "
                "choose"
            )
        super().__init__(f"{said} another with --port, e.g. {_as_typed(suggestion)}.")
        self.host, self.port, self.suggestion = host, port, suggestion


def listen_addresses(bind: Sequence[str] | None, port: int) -> list[Address]:
    """Return the (host, port) pairs to listen on, each found free a moment ago.

    `bind`: IP addresses or `localhost`; None or empty: 127.0.0.1 and, if the host has it, ::1.
    `port`: 1 to 65535; 0: one free port, the same for all. Raises ListenError.
    """
    if not 0 <= port <= 65535:
        raise ListenError(
            f"{port} is not a port; choose one from 1 to 65535, or 0 for any free one."
        )
    hosts = _hosts(bind or ["localhost"])
    with contextlib.ExitStack() as stack:
        if port:
            for host in hosts:
                stack.enter_context(_bound(host, port))
            return [(host, port) for host in hosts]
    return _any_port(hosts)


def _any_port(hosts: Sequence[str]) -> list[Address]:
    """Return a port that the system assigns for the first address and that the others have free."""
    for attempt in range(_TRIES):
        with contextlib.ExitStack() as stack:
            port: int = stack.enter_context(_bound(hosts[0], 0)).getsockname()[1]
            try:
                for host in hosts[1:]:
                    stack.enter_context(_bound(host, port))
            except PortInUseError:
                if attempt == _TRIES - 1:
                    raise
                continue
            return [(host, port) for host in hosts]
    raise AssertionError  # the last attempt returned or raised


def _hosts(bind: Sequence[str]) -> list[str]:
    """Return the addresses in canonical form, each once, in the given order."""
    hosts: dict[str, None] = {}
    for text in bind:
        if text == "localhost":
            hosts.update(dict.fromkeys(host for host in _LOOPBACK if _has(host)))
            continue
        try:
            hosts[str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))] = None
        except ValueError:
            raise ListenError(
                f"{text!r} is not an IP address; give one such as 127.0.0.1, ::1 or 0.0.0.0."
            ) from None
    return list(hosts)


def _has(host: str) -> bool:
    """Whether the machine has this loopback address: many containers have no IPv6."""
    try:
        with _socket(host, 0):
            return True
    except OSError as error:
        return error.errno not in _NO_IPV6


def _socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Resolves a zone (fe80::1%eth0) to its number; no name is looked up.
    target = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Like Envoy (ipv4_compat off): `::` leaves 0.0.0.0 to others.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(target[0][4])
    except OSError:
        bound.close()
        raise
    return bound


def _bound(host: str, port: int) -> socket.socket:
    try:
        return _socket(host, port)
    except OSError as error:
        raise _explained(error, host, port) from error


def _explained(error: OSError, host: str, port: int) -> ListenError:
    match error.errno:
        case errno.EADDRINUSE:
            return PortInUseError(host, port, _free_port(host, port), port_owner(host, port))
        case errno.EADDRNOTAVAIL:
            return ListenError(
                f"{host} is not an address of this machine; "
                f"use one of its own, such as 127.0.0.1 or 0.0.0.0."
            )
        case errno.EACCES | errno.EPERM:
            return ListenError(
                f"Port {port} of {host} is reserved for the administrator; "
                f"choose one above 1023 with --port, e.g. {_as_typed(_DEFAULT_PORT)}."
            )
        case errno.EAFNOSUPPORT | errno.EPROTONOSUPPORT:
            return ListenError(f"This machine has no IPv6, so it cannot listen on {host}.")
        case _:
            reason = error.strerror or type(error).__name__
            return ListenError(f"Cannot listen on port {port} of {host}: {reason}.")


def _free_port(host: str, taken: int) -> int:
    """Return the next free port above `taken`, or any free one."""
    for port in [*range(taken + 1, min(taken + _TRIES, 65536)), 0]:
        with contextlib.suppress(OSError), _socket(host, port) as bound:
            return int(bound.getsockname()[1])
    return _DEFAULT_PORT


def _as_typed(port: int) -> str:
    """Return how the user passes a port: under `make up` through ARGS (make sets MAKELEVEL)."""
    return f'make up ARGS="--port {port}"' if "MAKELEVEL" in os.environ else f"--port {port}"
