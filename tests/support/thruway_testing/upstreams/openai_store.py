"""The state behind the test upstream: objects with ids, pages of them, and OpenAI's errors."""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import web

__all__ = [
    "ApiError",
    "Json",
    "Part",
    "Shelf",
    "json_body",
    "multipart_body",
    "new_id",
    "now",
    "page_of",
]

Json = dict[str, Any]


class ApiError(Exception):
    """An error as OpenAI answers it: a status, and a body with message, type, param and code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type_: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"error": {"message": message, "type": type_, "param": param, "code": code}}


def new_id(prefix: str) -> str:
    """Return an id that no other object has; `prefix` includes its separator, as in `file-`."""
    return prefix + uuid.uuid4().hex[:24]


def now() -> int:
    """Return the time in seconds since the epoch, as OpenAI's `created_at` counts it."""
    return int(time.time())


class Shelf:
    """All objects of one kind."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._items: dict[str, Json] = {}

    def add(self, item: Json) -> Json:
        """Keep the object under its `id`."""
        self._items[item["id"]] = item
        return item

    def get(self, item_id: str) -> Json:
        """Return the object; raises ApiError 404 where there is none."""
        try:
            return self._items[item_id]
        except KeyError:
            message = f"No {self._kind} found with id '{item_id}'."
            raise ApiError(404, message, code="not_found") from None

    def remove(self, item_id: str) -> Json:
        """Forget the object and return OpenAI's notice that it is deleted."""
        self.get(item_id)
        del self._items[item_id]
        return {"id": item_id, "object": f"{self._kind}.deleted", "deleted": True}

    def page(self, request: web.Request) -> Json:
        """Return the page that the query's `limit`, `order` and `after` ask for."""
        return page_of(list(self._items.values()), request)


def page_of(items: list[Json], request: web.Request) -> Json:
    """Return one page of `items`, which are oldest first; pages begin with the newest."""
    items = items if request.query.get("order") == "asc" else items[::-1]
    if after := request.query.get("after"):
        ids = [item["id"] for item in items]
        if after not in ids:
            raise ApiError(400, f"No such cursor: '{after}'.", param="after")
        items = items[ids.index(after) + 1 :]
    data = items[: int(request.query.get("limit", "20"))]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(data) < len(items),
    }


async def json_body(request: web.Request) -> Json:
    """Return the JSON object that was sent; raises ApiError 400 for anything else."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(400, "We could not parse the JSON body of your request.")
    return body


@dataclass
class Part:
    """One part of a multipart form."""

    content: bytes
    filename: str | None = None
    headers: Message = field(default_factory=Message)

    @property
    def text(self) -> str:
        """The part as the text of a plain field."""
        return self.content.decode()


async def multipart_body(request: web.Request) -> dict[str, Part]:
    """Return the parts of `multipart/form-data` by name, their bytes exactly as sent.

    RFC 2046 5.1.1: the line break before a boundary belongs to the boundary.
    """
    found = re.search(r'boundary="?([^";]+)', request.headers.get("Content-Type", ""))
    if found is None:
        raise ApiError(400, "A multipart form is required here.")
    delimiter = b"\r\n--" + found[1].encode()
    parts: dict[str, Part] = {}
    for piece in (b"\r\n" + await request.read()).split(delimiter)[1:-1]:
        head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = HeaderParser().parsestr(head.decode())
        name = headers.get_param("name", header="Content-Disposition")
        parts[str(name)] = Part(content, headers.get_filename(), headers)
    return parts
