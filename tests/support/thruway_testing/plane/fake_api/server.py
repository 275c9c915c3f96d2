"""A fake API server over HTTP: lists in pages, watches, versions, patches, and troubles."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from thruway_testing.plane.fake_api.objects import (
    Conflict,
    NotFound,
    Object,
    Objects,
    selects,
)
from thruway_testing.plane.fake_api.troubles import Response, Trouble, event, refusal, status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FakeApi", "Seen"]

_BOOKMARKS = 60.0
_PLURALS = {
    "/api/v1": {"configmaps": "ConfigMap", "events": "Event", "secrets": "Secret"},
    "/apis/coordination.k8s.io/v1": {"leases": "Lease"},
    "/apis/thruway.dev/v1alpha1": {"passthroughroutes": "PassthroughRoute"},
}
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request. `at` is the event loop's time."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    at: float

    @property
    def is_watch(self) -> bool:
        """Whether it starts a watch."""
        return "watch" in self.query


@dataclass(slots=True)
class _Watch:
    """One running watch."""

    path: str
    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)


class FakeApi:
    """The server. `objects` is what it has, `requests` what it was asked, oldest first."""

    def __init__(self) -> None:
        self.objects = Objects()
        self.requests: list[Seen] = []
        self.watches: list[_Watch] = []
        self._troubles: list[Trouble] = []
        self._news = asyncio.Event()

    def trouble(
        self,
        respond: Response | int,
        *,
        method: str = "",
        path: str = "",
        watch: bool | None = None,
        who: str = "",
        times: int | None = None,
    ) -> Trouble:
        """Fail requests with this response or status, at most `times` times."""

        def concerns(seen: Seen) -> bool:
            return (
                method in {"", seen.method}
                and path in seen.path
                and watch in {None, seen.is_watch}
                and seen.headers.get("Authorization", "").endswith(who)
            )

        response = refusal(respond) if isinstance(respond, int) else respond
        self._troubles.append(Trouble(concerns, response, times))
        return self._troubles[-1]

    def asked(self, method: str = "", path: str = "", *, watch: bool | None = None) -> list[Seen]:
        """Return the requests so far with this method and this text in their path."""
        return [
            seen
            for seen in self.requests
            if method in {"", seen.method} and path in seen.path and watch in {None, seen.is_watch}
        ]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it is true; it is checked after each request and each change."""
        while not condition():
            news = asyncio.ensure_future(self._news.wait())
            changed = asyncio.ensure_future(self.objects.next_change())
            await asyncio.wait({news, changed}, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            changed.cancel()

    def send(self, path: str, line: bytes | None) -> None:
        """Send a line to all watches of a path; None ends them."""
        for watch in self.watches:
            if path in watch.path:
                watch.queue.put_nowait(line)

    def application(self) -> web.Application:
        """Return the application to serve."""
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        seen = Seen(
            request.method,
            request.path,
            dict(request.query),
            request.headers.copy(),
            json.loads(text) if text else None,
            asyncio.get_running_loop().time(),
        )
        self.requests.append(seen)
        self._news.set()
        self._news = asyncio.Event()
        for trouble in self._troubles:
            if trouble.takes(seen):
                return await trouble.respond(request)
        return await self._answer(request, seen)

    async def _answer(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        discovered = _discovery(seen.path)
        if discovered is not None:
            return web.json_response(discovered)
        if seen.is_watch:
            return await self._watch(request, seen)
        try:
            return web.json_response(self._respond(seen))
        except NotFound as error:
            return status(404, str(error))
        except Conflict as error:
            return status(409, str(error))

    def _respond(self, seen: Seen) -> Object:
        if seen.method == "POST":
            return self.objects.create(seen.path, seen.body)
        collection, name, part = _split(seen.path)
        if not name:
            return self._list(seen)
        if seen.method == "DELETE":
            return self.objects.delete(collection, name)
        if seen.method == "PUT":
            version = seen.body["metadata"].get("resourceVersion")
            return self.objects.change(collection, name, seen.body, version=version)
        if seen.method == "PATCH":
            return self._patch(seen, collection, name, part)
        return self.objects.get(collection, name)

    def _patch(self, seen: Seen, collection: str, name: str, part: str) -> Object:
        version = seen.body.get("metadata", {}).get("resourceVersion")
        found = self.objects.get(collection, name)
        if part:
            parts = {part: seen.body[part]}
        else:  # a merge patch
            parts = {
                key: {**found.get(key, {}), **value} if isinstance(value, dict) else value
                for key, value in seen.body.items()
            }
        return self.objects.change(collection, name, parts, version=version)

    def _list(self, seen: Seen) -> Object:
        items = [item for item in self.objects.all(seen.path) if selects(item, seen.query)]
        start, limit = int(seen.query.get("continue", 0)), int(seen.query.get("limit", 500))
        metadata = {"resourceVersion": str(self.objects.version)}
        if len(items) > start + limit:
            metadata["continue"] = str(start + limit)
        page = [_shown(item, seen) for item in items[start : start + limit]]
        return {"kind": "List", "metadata": metadata, "items": page}

    async def _watch(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        version = int(seen.query["resourceVersion"])
        if version < self.objects.oldest:
            return status(410, "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        watch = _Watch(seen.path)
        self.watches.append(watch)
        self._news.set()
        feeding = asyncio.create_task(self._feed(watch, seen, version))
        try:
            async with asyncio.timeout(float(seen.query["timeoutSeconds"])):
                while (line := await watch.queue.get()) is not None:
                    await response.write(line)
        except TimeoutError:
            pass
        finally:
            self.watches.remove(watch)
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return response

    async def _feed(self, watch: _Watch, seen: Seen, version: int) -> None:
        """Queue all changes after a version, and a bookmark after a minute without one."""
        while True:
            for change in self.objects.since(version, seen.path):
                version = change.version
                if selects(change.item, seen.query):
                    watch.queue.put_nowait(event(change.kind, _shown(change.item, seen)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BOOKMARKS):
                    await self.objects.next_change()
                    continue
            version = self.objects.version
            metadata = {"resourceVersion": str(version)}
            watch.queue.put_nowait(event("BOOKMARK", {"metadata": metadata}))


def _split(path: str) -> tuple[str, str, str]:
    """Return a path's collection, the object's name, and the subresource; "" for what it lacks."""
    parts = path.strip("/").split("/")
    head = 2 if parts[0] == "api" else 3
    if len(parts) > head + 1 and parts[head] == "namespaces" and len(parts) > head + 2:
        head += 2
    collection = "/" + "/".join(parts[: head + 1])
    name, part = (*parts[head + 1 :], "", "")[:2]
    return collection, name, part


def _shown(item: Object, seen: Seen) -> Object:
    if "PartialObjectMetadata" in seen.headers.get("Accept", ""):
        return {"kind": "PartialObjectMetadata", "metadata": item["metadata"]}
    return item


def _discovery(path: str) -> dict[str, Any] | None:
    """Return what kopf asks for first: groups, versions and resources."""
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        named = [(base, *base.split("/")[2:]) for base in _PLURALS if base.startswith("/apis/")]
        groups = []
        for base, group, version in named:
            known = {"groupVersion": base.removeprefix("/apis/"), "version": version}
            groups.append({"name": group, "versions": [known], "preferredVersion": known})
        return {"groups": groups}
    if path in _PLURALS:
        resources = [
            {"name": plural, "kind": kind, "singularName": "", "namespaced": True, "verbs": _VERBS}
            for plural, kind in _PLURALS[path].items()
        ]
        return {"resources": resources}
    return None
