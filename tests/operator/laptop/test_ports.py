"""Addresses that are free are given; each reason why one is not comes as one sentence."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from thruway_operator.laptop.up import ports
from thruway_operator.laptop.up.portowner import listening_inodes, port_owner
from thruway_operator.laptop.up.ports import ListenError, PortInUseError, listen_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_ipv6 = pytest.mark.skipif(not ports._has("::1"), reason="the host has no IPv6")


@pytest.fixture(autouse=True)
def not_under_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAKELEVEL", raising=False)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@needs_ipv6
def test_the_default_is_both_loopbacks_on_one_port() -> None:
    (four, port), (six, other) = listen_addresses(None, 0)
    assert (four, six) == ("127.0.0.1", "::1")
    assert port == other > 0
    assert listen_addresses([], port) == [("127.0.0.1", port), ("::1", port)]


def test_without_ipv6_the_default_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(host: str, port: int, real: object = ports._socket) -> socket.socket:
        if ":" in host:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return real(host, port)  # type: ignore[operator,no-any-return]

    monkeypatch.setattr(ports, "_socket", refuse)
    ((host, port),) = listen_addresses(None, 0)
    assert host == "127.0.0.1"
    assert listen_addresses(None, port) == [(host, port)]


@needs_ipv6
def test_a_port_that_is_taken_on_one_address_only_is_tried_again() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"^Port {port} of ::1 "):
            listen_addresses(None, port)
        assert listen_addresses(None, 0)[0][1] != port


def test_a_port_in_use_names_the_program_and_a_free_port(taken: int) -> None:
    with pytest.raises(PortInUseError) as caught:
        listen_addresses(["127.0.0.1"], taken)
    error = caught.value
    assert listen_addresses(["127.0.0.1"], error.suggestion) == [("127.0.0.1", error.suggestion)]
    owner = f" ({port_owner('127.0.0.1', taken)})" if sys.platform == "linux" else ""
    assert str(error) == (
        f"Port {taken} of 127.0.0.1 is in use by another program{owner}; "
        f"choose another with --port, e.g. --port {error.suggestion}."
    )
    if sys.platform == "linux":
        assert f"pid {os.getpid()}" in str(error)


def test_under_make_the_advice_is_for_make(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    with pytest.raises(PortInUseError, match=r'make up ARGS="--port \d+"\.$'):
        listen_addresses(["127.0.0.1"], taken)


def test_a_wildcard_listener_keeps_the_loopback_and_is_named() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            PortInUseError, match=f"pid {os.getpid()}" if sys.platform == "linux" else ""
        ):
            listen_addresses(["127.0.0.1"], port)


def test_time_wait_does_not_matter() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the server closes first, so its side goes to TIME_WAIT
        assert client.recv(1) == b""
        client.close()
    assert listen_addresses(["127.0.0.1"], port) == [("127.0.0.1", port)]


def test_reuse_port_does_not_hide_a_second_proxy() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortInUseError):
            listen_addresses(["127.0.0.1"], other.getsockname()[1])


@pytest.mark.parametrize(
    ("bind", "port", "sentence"),
    [
        (["192.0.2.1"], 4000, "192.0.2.1 is not an address of this machine; use one of its own"),
        (["example.com"], 4000, "'example.com' is not an IP address; give one such as 127.0.0.1"),
        (["127.0.0.1:80"], 4000, "'127.0.0.1:80' is not an IP address; give one such as"),
        (None, 65536, "65536 is not a port; choose one from 1 to 65535, or 0 for any free one."),
        (None, -1, "-1 is not a port; choose one from 1 to 65535"),
    ],
)
def test_what_cannot_be_listened_on_is_one_sentence(
    bind: list[str] | None, port: int, sentence: str
) -> None:
    with pytest.raises(ListenError) as caught:
        listen_addresses(bind, port)
    assert str(caught.value).startswith(sentence)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EACCES, "Port 80 of ::1 is reserved for the administrator; choose one above 1023 "),
        (errno.EAFNOSUPPORT, "This machine has no IPv6, so it cannot listen on ::1."),
        (errno.EINVAL, "Cannot listen on port 80 of ::1: Invalid argument."),
    ],
)
def test_the_other_refusals_of_the_system(number: int, sentence: str) -> None:
    error = ports._explained(OSError(number, os.strerror(number)), "::1", 80)
    assert str(error).startswith(sentence)


def test_addresses_are_made_canonical_and_each_is_listed_once() -> None:
    hosts = ports._hosts(["127.0.0.1", "[::1]", "0:0:0:0:0:0:0:1", "localhost"])
    assert hosts == ["127.0.0.1", "::1"]


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0FA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1 0
   1: 0200007F:0FA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 222 1 0
   2: 00000000:0FA1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 333 1 0
   3: 0100007F:0FA0 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 444 1 0
   4: garbage
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is in the machine's byte order")
def test_the_owner_is_looked_for_on_the_right_address() -> None:
    assert listening_inodes(TCP, "127.0.0.1", 4000) == {"111"}
    assert listening_inodes(TCP, "0.0.0.0", 4000) == {"111", "222"}
    assert listening_inodes(TCP, "::", 4000) == set()
    assert listening_inodes(TCP, "127.0.0.1", 4001) == {"333"}
    assert listening_inodes(TCP, "127.0.0.1", 4002) == set()
