"""Containers that use a forward proxy must still reach their sidecar directly.

Programs disagree on the case of the names: Python reads the lower one first, Go the upper one, and
curl ignores `HTTP_PROXY`. So both forms of `NO_PROXY` are extended, with the same entries.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LOCAL", "covering", "without_proxy"]

LOCAL: Final = ("127.0.0.1", "localhost")
_NO_PROXY: Final = ("NO_PROXY", "no_proxy")
# Some WebSocket clients also send ws:// through HTTPS_PROXY.
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})

_Entry = dict[str, Any]


def covering(value: str) -> str:
    """Return a value of NO_PROXY with the entries of this machine that it lacks."""
    if value.strip() == "*":
        return value
    entries = re.split(r"[\s,]+", value.strip().lower())
    missing = [name for name in LOCAL if name not in entries]
    return ",".join([value.strip(" ,"), *missing] if value.strip(" ,") else missing) or value


def without_proxy(container: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the container with NO_PROXY extended if it has a proxy, and warnings."""
    env: list[_Entry] = list(container.get("env") or ())
    by_name = {item["name"]: item for item in env if isinstance(item.get("name"), str)}
    proxy = next((name for name, item in by_name.items() if _is_proxy(name, item)), None)
    if proxy is None:
        return dict(container), ()
    hidden = [name for name in _NO_PROXY if name in by_name and not _is_literal(by_name[name])]
    literal = [name for name in _NO_PROXY if name in by_name and name not in hidden]
    changed = {name: covering(by_name[name].get("value") or "") for name in literal}
    if not hidden and (literal or not container.get("envFrom")):
        # The form that we add must not hide the entries of the one that the container sets.
        value = changed[literal[-1]] if literal else covering("")
        changed |= {name: value for name in _NO_PROXY if name not in by_name}
    env = [
        {**item, "value": changed[item["name"]]} if item.get("name") in literal else item
        for item in env
    ]
    env += [{"name": name, "value": changed[name]} for name in changed if name not in by_name]
    return {**container, "env": env}, _warning(container, proxy, hidden, changed)


def _warning(
    container: Mapping[str, Any], proxy: str, hidden: list[str], changed: Mapping[str, str]
) -> tuple[str, ...]:
    if not hidden and changed:
        return ()
    where = f"{' and '.join(hidden)} from valueFrom" if hidden else "NO_PROXY in its envFrom"
    return (
        f"container {container.get('name')} sets {proxy}: unless {where} contains {LOCAL[0]} and "
        f"{LOCAL[1]}, calls to the sidecar go to that proxy",
    )


def _is_proxy(name: str, item: _Entry) -> bool:
    return name.lower() in _PROXIES and bool(item.get("value") or item.get("valueFrom"))


def _is_literal(item: _Entry) -> bool:
    return not item.get("valueFrom") and isinstance(item.get("value") or "", str)
