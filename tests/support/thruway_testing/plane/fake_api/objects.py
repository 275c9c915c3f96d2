"""The objects of a fake API server, their versions, and the changes that watches report."""

from __future__ import annotations

import asyncio
import copy
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Change", "Conflict", "NotFound", "Object", "Objects", "collection_of", "selects"]

Object: TypeAlias = dict[str, Any]


class NotFound(Exception):  # noqa: N818 - named after the API server's reason
    """There is no such object."""


class Conflict(Exception):  # noqa: N818 - named after the API server's reason
    """The object exists already, or has another version than the request says."""


_KEPT = ("namespace", "uid", "resourceVersion", "generation", "creationTimestamp")
"""Metadata that clients cannot change."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one object, as a watch reports it."""

    version: int
    kind: str
    collection: str
    item: Object


def collection_of(path: str) -> str:
    """Return the path without its namespace: the same objects are listed at both."""
    before, found, rest = path.partition("/namespaces/")
    return f"{before}/{rest.partition('/')[2]}" if found and "/" in rest else path


class Objects:
    """All objects, by collection and key. A test changes them as another client would."""

    def __init__(self) -> None:
        self.version = 100
        self.changes: list[Change] = []
        self.oldest = 0
        """Changes before this version are no longer known."""
        self._items: dict[str, dict[tuple[str, str], Object]] = {}
        self._changed = asyncio.Event()
        self._uids = itertools.count(1)

    def all(self, path: str) -> list[Object]:
        """Return copies of the objects at a collection's path, of one namespace or of all."""
        items = self._items.get(collection_of(path), {})
        namespace = _namespace(path)
        return [
            copy.deepcopy(item) for key, item in sorted(items.items()) if namespace in {"", key[0]}
        ]

    def get(self, path: str, name: str) -> Object:
        """Return a copy of one object; raise NotFound if it does not exist."""
        return copy.deepcopy(self._one(path, name))

    def create(self, path: str, item: Mapping[str, Any]) -> Object:
        """Store a new object; raise Conflict if one with its name exists."""
        key = _namespace(path), item["metadata"]["name"]
        items = self._items.setdefault(collection_of(path), {})
        if key in items:
            raise Conflict(f"{key[1]!r} already exists")
        new = copy.deepcopy(dict(item))
        new["metadata"].setdefault("uid", f"uid-{next(self._uids)}")
        new["metadata"].setdefault("generation", 1)
        new["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        if key[0]:
            new["metadata"]["namespace"] = key[0]
        items[key] = new
        return self._record("ADDED", path, new)

    def change(
        self, path: str, name: str, parts: Mapping[str, Any], *, version: str | None = None
    ) -> Object:
        """Replace parts of an object; raise Conflict unless it still has the version."""
        item = self._one(path, name)
        if version is not None and version != item["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified; please apply your changes to it again")
        before = copy.deepcopy(item)
        for part, value in copy.deepcopy(dict(parts)).items():
            if part == "metadata":
                value |= {k: v for k, v in item["metadata"].items() if k in _KEPT}
            item[part] = value
        if item == before:
            return before  # the API server does not write what has not changed
        if item.get("spec") != before.get("spec"):
            item["metadata"]["generation"] = int(item["metadata"].get("generation", 0)) + 1
        return self._record("MODIFIED", path, item)

    def delete(self, path: str, name: str) -> Object:
        """Delete an object; raise NotFound if it does not exist."""
        item = self._one(path, name)
        del self._items[collection_of(path)][_namespace(path), name]
        return self._record("DELETED", path, item)

    def forget_changes(self) -> None:
        """Compact: watches that start at an earlier version get 410."""
        self.version += 1
        self.oldest = self.version

    async def next_change(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    def since(self, version: int, path: str) -> Iterator[Change]:
        """Yield the changes of a collection after a version."""
        namespace = _namespace(path)
        for change in self.changes:
            ours = namespace in {"", change.item["metadata"].get("namespace", "")}
            if ours and change.version > version and change.collection == collection_of(path):
                yield change

    def _one(self, path: str, name: str) -> Object:
        try:
            return self._items[collection_of(path)][_namespace(path), name]
        except KeyError:
            raise NotFound(f"{name!r} not found") from None

    def _record(self, kind: str, path: str, item: Object) -> Object:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        found = copy.deepcopy(item)
        self.changes.append(Change(self.version, kind, collection_of(path), found))
        self._changed.set()
        self._changed = asyncio.Event()
        return copy.deepcopy(found)


def _namespace(path: str) -> str:
    _, found, rest = path.partition("/namespaces/")
    return rest.partition("/")[0] if found and "/" in rest else ""


def selects(item: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Whether the selectors of a list or watch choose the object. Each is `a=b`, `a!=b`, or `a`."""
    labels = item["metadata"].get("labels") or {}
    fields = {"metadata.name": item["metadata"]["name"], "type": item.get("type", "")}
    return _matches(labels, query.get("labelSelector", "")) and _matches(
        fields, query.get("fieldSelector", "")
    )


def _matches(found: Mapping[str, str], selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        name, equals, wanted = term.partition("=")
        if name.endswith("!"):
            if found.get(name[:-1]) == wanted:
                return False
        elif name not in found or (equals and found[name] != wanted):
            return False
    return True
