"""What no pattern can say: names that rules may not touch, and names that stand twice.

Each raises `ValueError` with the reason and the remedy; pydantic adds the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_extproc.rule import CREDENTIAL_HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_header_removed", "check_header_written", "check_unique"]

# RFC 9110, 7.6.1, and RFC 9112; Envoy manages them for each connection.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS = ("x-envoy-", "x-thruway-")


def check_header_written(name: str) -> None:
    """Refuse to `set` or `add` a header that a rule may not write."""
    _check_header(name)
    if name.lower() in CREDENTIAL_HEADERS:
        raise ValueError(
            f"{name} carries a credential, which rules may not hold: use `credential`, "
            "so that the key stays in a Secret"
        )


def check_header_removed(name: str) -> None:
    """Refuse to `remove` a header that a rule may not touch."""
    _check_header(name)


def _check_header(name: str) -> None:
    lower = name.lower()
    if lower in _HOP_BY_HOP:
        raise ValueError(f"{name} belongs to one connection, not to the message: leave it out")
    if lower in ("host", "content-length"):
        raise ValueError(f"{name} is set from the upstream's URL or the body: leave it out")
    if lower.startswith(_OURS):
        raise ValueError(f"{name} is reserved: use a name without x-envoy- or x-thruway- in front")


def check_unique(names: list[str], key: Callable[[str], str]) -> list[str]:
    """Return the names, or refuse the first that stands twice (compared by `key`)."""
    seen: set[str] = set()
    for name in names:
        if key(name) in seen:
            raise ValueError(f"{name} stands twice: keep one")
        seen.add(key(name))
    return names
