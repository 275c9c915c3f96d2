"""Finds the program that uses a port, from /proc: on Linux, for processes of the same user."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PortOwner", "listening_inodes", "port_owner"]

_Ip: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_PROC = Path("/proc")
_LISTEN = "0A"  # TCP_LISTEN in include/net/tcp_states.h


@dataclass(frozen=True, slots=True)
class PortOwner:
    """The program that listens on a port; as text `name, pid N`."""

    name: str
    pid: int
    thruway: int | None
    """The pid of the `thruway up` whose Envoy it is, if any."""

    def __str__(self) -> str:
        return f"{self.name}, pid {self.pid}"


def port_owner(host: str, port: int) -> PortOwner | None:
    """Return the program that listens there, or None if that cannot be determined."""
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            inodes |= listening_inodes((_PROC / "net" / table).read_text(), host, port)
    targets = {f"socket:[{inode}]" for inode in inodes}
    for process in _processes() if targets else ():
        with contextlib.suppress(OSError):
            if any(str(link.readlink()) in targets for link in (process / "fd").iterdir()):
                return PortOwner(_name(process), int(process.name), _thruway(process))
    return None


def listening_inodes(table: str, host: str, port: int) -> set[str]:
    """Return the sockets in a /proc/net/tcp or tcp6 (proc_net_tcp(5)) that conflict with host:port.

    They listen on the port, on the same address or with a wildcard on either side.
    """
    wanted = ipaddress.ip_address(host.partition("%")[0])
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        address, _, number = fields[1].partition(":")
        bound = _address(address)
        if int(number, 16) == port and _collide(wanted, bound):
            found.add(fields[9])
    return found


def _collide(wanted: _Ip, bound: _Ip | None) -> bool:
    if bound is None or bound == wanted:
        return True
    return wanted.is_unspecified and wanted.version == bound.version


def _address(text: str) -> _Ip | None:
    """Parse an address of the table: 32-bit words in native byte order. None: the wildcard."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    address = ipaddress.ip_address(raw)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return None if address.is_unspecified else address


def _processes() -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (entry for entry in _PROC.iterdir() if entry.name.isdigit())


def _thruway(process: Path) -> int | None:
    """Return the pid of the `thruway up` that started this process, if any."""
    command = (process / "cmdline").read_bytes()
    if not re.search(rb"/thruway-[^/\0]+/bootstrap\.pb\0", command):
        return None
    # proc_pid_stat(5): the name may contain anything and ends at the last parenthesis.
    return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])


def _name(process: Path) -> str:
    """Return the program's name from the kernel, escaped because the program chose it."""
    name = (process / "comm").read_text(errors="replace").strip()
    return "".join(char if char.isprintable() else "?" for char in name)
