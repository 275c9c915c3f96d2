"""What one replica's proxies hold, as it reports it to the others."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thruway_operator.xds.protocol.publisher import GroupStatus

__all__ = ["GroupTally", "Share", "TallyError", "changes", "decode", "encode", "take_in"]

VERSION: Final = 1
"""The version of messages between replicas, whose releases may differ during an upgrade."""


class TallyError(ValueError):
    """A message from another replica cannot be read."""


@dataclass(frozen=True, slots=True)
class Share:
    """One route in one group: the wanted content, and how many proxies hold it."""

    digest: str
    proxies: int
    rejected: str = ""
    """Envoy's message if it rejects this content."""


@dataclass(frozen=True, slots=True)
class GroupTally:
    """One group of a replica's proxies; `shares` by the route's id."""

    connected: int = 0
    shares: Mapping[str, Share] = field(default_factory=dict)

    @classmethod
    def of(cls, status: GroupStatus, digests: Callable[[str], str | None]) -> GroupTally:
        """Return the tally of a group's status, given the digest of each route's content."""
        shares = {}
        for name, item in status.fragments.items():
            wanted = digests(name)
            if wanted is not None:
                message = item.rejected or status.error or ""
                shares[name] = Share(wanted, item.proxies, message)
        return cls(status.connected, shares)


def changes(before: GroupTally | None, now: GroupTally) -> set[str] | None:
    """Return the routes that changed, or None if the whole group did."""
    if before is None or before.connected != now.connected:
        return None
    names = before.shares.keys() | now.shares.keys()
    return {name for name in names if before.shares.get(name) != now.shares.get(name)}


def encode(before: Mapping[str, GroupTally], now: Mapping[str, GroupTally]) -> bytes:
    """Return a message that updates a peer from `before` to `now`, both by the group's name."""
    groups: dict[str, Any] = {}
    for name, tally in now.items():
        old = before.get(name, GroupTally())
        if old == tally and name in before:
            continue
        groups[name] = {
            "connected": tally.connected,
            "shares": {
                route: [share.digest, share.proxies, share.rejected]
                for route, share in tally.shares.items()
                if old.shares.get(route) != share
            },
            "gone": [route for route in old.shares if route not in tally.shares],
        }
    gone = [name for name in before if name not in now]
    return json.dumps({"version": VERSION, "groups": groups, "gone": gone}).encode()


def decode(message: bytes) -> dict[str, Any]:
    """Read a message; raise TallyError if it is not a valid one."""
    try:
        found = json.loads(message)
        if found["version"] != VERSION:
            raise TallyError(f"it sends version {found['version']}, not {VERSION}")
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, TallyError):
            raise
        raise TallyError("it sends an invalid message") from error
    return dict(found)


def take_in(known: dict[str, GroupTally], message: Mapping[str, Any]) -> dict[str, set[str] | None]:
    """Update what is known about a peer; return the changes by group, as `changes` does."""
    news: dict[str, set[str] | None] = {}
    try:
        for name in message["gone"]:
            if known.pop(name, None) is not None:
                news[name] = None
        for name, group in message["groups"].items():
            before = known.get(name)
            shares = dict(before.shares) if before else {}
            for route in group["gone"]:
                shares.pop(route, None)
            for route, (found, proxies, rejected) in group["shares"].items():
                shares[route] = Share(str(found), int(proxies), str(rejected))
            known[name] = GroupTally(int(group["connected"]), shares)
            news[name] = changes(before, known[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TallyError("it sends an invalid message") from error
    return news
