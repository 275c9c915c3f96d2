"""Rewrites one request: a pure function of its headers and its route's rule.

Path and query are handled as the bytes that the client sent, decoded as Latin-1, so that every byte
that is not rewritten passes unchanged (`%2F`, `//`, `;`, the case of escapes, repeated query
parameters and their order).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from thruway_extproc.mask import mask_query
from thruway_extproc.rule import CLIENT_HEADER, KEPT_ASIDE, KEY_SUBPROTOCOL, VERSION_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thruway_extproc.rule import Pairs, Rule

__all__ = ["Mutation", "RewriteError", "join_path", "rewrite"]

Header = tuple[str, bytes]


# Never removed by `forwardOnly`: they frame the message or describe its body (RFC 9110, sections 6
# and 8), or carry an upgrade (RFC 6455, 4.1).
_FRAMING = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Pseudo headers, and the headers that Envoy adds: changing them makes Envoy return an error.
_KEPT = (":", "sec-websocket-", "x-envoy-")
_PROTOCOLS = "sec-websocket-protocol"


class RewriteError(ValueError):
    """The request does not fit the rule: the route's match and its rule disagree."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """What Envoy must change: first `remove`, then `set` (replace all), then `add` (append)."""

    set: tuple[Header, ...]
    add: tuple[Header, ...]
    remove: tuple[str, ...]
    log_path: str
    """The client's path in loggable form: without query values."""
    client: str = ""
    """The id of the authenticated client."""


def rewrite(headers: Sequence[Header], rule: Rule) -> Mutation:
    """Return the changes to a request with these headers: lower-case names, pseudo headers too.

    Raises:
        RewriteError: there is no `:path`, or it is not below the rule's `strip`.
    """
    path = next((value for name, value in headers if name == ":path"), None)
    if path is None:
        raise RewriteError("the request has no path")
    target = path.decode("latin-1")
    overwrite: list[Header] = [
        (":path", _rewrite_target(target, rule).encode("latin-1")),
        (":authority", rule.authority.encode()),
    ]
    remove: list[str] = []
    if rule.drop_credentials:
        _drop_key_subprotocols(headers, overwrite, remove, rule.headers_remove)
    if rule.headers_only:
        remove += _not_listed(headers, rule.headers_only)
    remove += rule.headers_remove
    _put_back(headers, overwrite, remove, rule.headers_only)
    overwrite += [(name, value.encode()) for name, value in rule.headers_set]
    add = tuple((name, value.encode()) for name, value in rule.headers_add)
    client = ""
    if rule.client_auth:  # otherwise the client controls the header
        client = next((v.decode("latin-1") for n, v in headers if n == CLIENT_HEADER), "")
    return Mutation(tuple(overwrite), add, tuple(dict.fromkeys(remove)), mask_query(target), client)


def join_path(rest: str, base: str, version: str, unversioned: Sequence[str] = ()) -> str:
    """Join the rest of the client's path, after the route's path and without the query, to `base`.

    An empty rest or `/` requests the base path itself. A first segment like `v1` or `v1beta` counts
    as a version; otherwise `version` is inserted, except below the roots in `unversioned`. If the
    base path already ends in that version segment, the segment is not repeated.
    """
    if rest in ("", "/"):
        return base + "/"
    first = rest[1:].partition("/")[0]
    if first in unversioned:
        return base + rest
    if not VERSION_SEGMENT.fullmatch(first):
        rest = version + rest
        first = version[1:]
    if first and base.endswith("/" + first):
        base = base[: -len(first) - 1]
    return base + rest


def _rewrite_target(target: str, rule: Rule) -> str:
    path, mark, query = target.partition("?")
    if path != rule.strip and not path.startswith(rule.strip + "/"):
        raise RewriteError("the request's path is not below the route's path")
    joined = join_path(path[len(rule.strip) :], rule.base, rule.version, rule.unversioned)
    if rule.query_default or rule.query_set or rule.query_remove:
        rewritten = _rewrite_query(query, rule)
        if rewritten != query:  # a bare `?` that no rule changes stays
            query, mark = rewritten, "?" if rewritten else ""
    return joined + mark + query


def _rewrite_query(query: str, rule: Rule) -> str:
    parts = query.split("&") if query else []
    gone = set(rule.query_remove) | {name for name, _ in rule.query_set}
    if gone:
        parts = [part for part in parts if _name(part) not in gone]
    present = {_name(part) for part in parts}
    parts += _encoded(rule.query_set)
    parts += _encoded(pair for pair in rule.query_default if pair[0] not in present | gone)
    return "&".join(parts)


def _name(parameter: str) -> str:
    raw = parameter.partition("=")[0].replace("+", " ")
    return unquote_to_bytes(raw.encode("latin-1")).decode("utf-8", "replace")


def _encoded(pairs: Iterable[tuple[str, str]] | Pairs) -> list[str]:
    return [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs]


def _drop_key_subprotocols(
    headers: Sequence[Header],
    overwrite: list[Header],
    remove: list[str],
    removed: tuple[str, ...],
) -> None:
    offers = [value for name, value in headers if name == _PROTOCOLS]
    # Empty elements of a list mean nothing (RFC 9110, 5.6.1).
    offered = [part.strip() for offer in offers for part in offer.split(b",") if part.strip()]
    kept = [part for part in offered if not part.lower().startswith(KEY_SUBPROTOCOL.encode())]
    if len(kept) == len(offered):
        return  # leave the header's bytes unchanged
    if kept and _PROTOCOLS not in removed:
        overwrite.append((_PROTOCOLS, b", ".join(kept)))
    else:
        remove.append(_PROTOCOLS)


def _put_back(
    headers: Sequence[Header],
    overwrite: list[Header],
    remove: list[str],
    listed: tuple[str, ...],
) -> None:
    present = dict(headers)
    for name, aside in KEPT_ASIDE.items():
        sent = present.get(aside)
        if sent is None:
            if name in present:
                remove.append(name)  # Envoy set it, not the client
        elif name not in remove and name in (listed or (name,)) and present.get(name) != sent:
            overwrite.append((name, sent))


def _not_listed(headers: Sequence[Header], listed: tuple[str, ...]) -> list[str]:
    return [
        name
        for name, _ in headers
        if name not in listed and name not in _FRAMING and not name.startswith(_KEPT)
    ]
