"""Reads an upstream's URL and options."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from thruway_operator.translate.verdict import Refused

if TYPE_CHECKING:
    from thruway_operator.api.route import Upstream

__all__ = ["Address", "check_upstream", "read_url"]

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_BASE = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*")
_DOTS = re.compile(r"(\.|%2e){1,2}", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of an upstream's URL. `base` has no trailing slash, `host` no brackets."""

    secure: bool
    host: str
    port: int
    base: str
    authority: str
    """The Host header for the upstream: with the port unless it is the scheme's default."""

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address, which takes neither DNS nor SNI."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


def read_url(url: str, field: str) -> Address:
    """Return the parts of an upstream's URL; errors name `field`.

    Raises:
        Refused: the URL is not valid for an upstream. The message never repeats the URL,
            which may contain a password.
    """
    if not url.isascii() or any(character <= " " for character in url):
        raise _invalid(field, "may only contain printable ASCII characters, without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _invalid(field, "is not a URL, or its port is not between 1 and 65535") from None
    if parts.scheme not in _PORTS:
        raise _invalid(field, "must begin with http:// or https://")
    if "@" in parts.netloc:
        raise _invalid(field, "must not contain a user and password: use `credential`")
    if "?" in url:
        raise _invalid(field, "must not contain a query: use `request.query`")
    if "#" in url:
        raise _invalid(field, "must not contain a fragment: remove what follows the #")
    if port == 0 or parts.netloc.endswith(":"):
        raise _invalid(field, "has no valid port: use 1 to 65535, or remove the colon")
    host = _host(parts.hostname or "", field, literal="[" in parts.netloc)
    base = parts.path.rstrip("/")
    if not _BASE.fullmatch(base) or "//" in base:
        raise _invalid(field, "has an invalid base path: use segments such as /openai")
    if any(_DOTS.fullmatch(segment) for segment in base.split("/")):
        raise _invalid(field, "must not contain dot segments: write the path without them")
    standard = _PORTS[parts.scheme]
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port in (None, standard) else f"{shown}:{port}"
    return Address(parts.scheme == "https", host, port or standard, base, authority)


def check_upstream(upstream: Upstream, address: Address, field: str) -> None:
    """Reject options that do not fit the URL, instead of ignoring them.

    Raises:
        Refused: TLS options on a plain-text upstream.
    """
    if address.secure or not upstream.tls.model_fields_set:
        return
    raise Refused(
        "Invalid",
        f"{field}.tls has no effect on an http:// upstream: remove it, or use https://",
    )


def _host(host: str, field: str, *, literal: bool) -> str:
    if literal:
        if "%" in host:
            raise _invalid(field, "must not contain a zone in its IPv6 address: remove the % part")
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise _invalid(field, "has no valid IPv6 address between its brackets") from None
    if not host or len(host) > 253 or not _HOST.fullmatch(host):
        raise _invalid(field, "has no valid host name")
    if host.replace(".", "").isdigit():
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise _invalid(field, "has no valid IPv4 address: write it as 192.0.2.1") from None
    return host.lower()


def _invalid(field: str, why: str) -> Refused:
    return Refused("Invalid", f"{field} {why}")
