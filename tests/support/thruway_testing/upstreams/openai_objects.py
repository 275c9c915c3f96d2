"""The endpoints that keep objects: Assistants v2, files, uploads, vector stores, batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from thruway_testing.upstreams.openai_store import (
    ApiError,
    Json,
    Shelf,
    json_body,
    multipart_body,
    new_id,
    now,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Assistants", "Files"]


class Assistants:
    """Assistants, threads, messages and runs; a run is complete when it is first looked at."""

    def __init__(self) -> None:
        self._assistants = Shelf("assistant")
        self._threads = Shelf("thread")
        self._messages: dict[str, Shelf] = {}
        self._runs: dict[str, Shelf] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this part of the API."""
        return [
            web.post("/v1/assistants", self._create_assistant),
            web.get("/v1/assistants", self._list_assistants),
            web.get("/v1/assistants/{id}", self._get_assistant),
            web.delete("/v1/assistants/{id}", self._delete_assistant),
            web.post("/v1/threads", self._create_thread),
            web.get("/v1/threads/{id}", self._get_thread),
            web.delete("/v1/threads/{id}", self._delete_thread),
            web.post("/v1/threads/{id}/messages", self._create_message),
            web.get("/v1/threads/{id}/messages", self._list_messages),
            web.post("/v1/threads/{id}/runs", self._create_run),
            web.get("/v1/threads/{id}/runs/{run}", self._get_run),
        ]

    async def _create_assistant(self, request: web.Request) -> web.Response:
        _require_assistants_v2(request)
        body = await json_body(request)
        assistant = {
            "id": new_id("asst_"),
            "object": "assistant",
            "created_at": now(),
            "name": None,
            "description": None,
            "instructions": None,
            "tools": [],
            "metadata": {},
            **body,
        }
        return web.json_response(self._assistants.add(assistant))

    async def _list_assistants(self, request: web.Request) -> web.Response:
        _require_assistants_v2(request)
        return web.json_response(self._assistants.page(request))

    async def _get_assistant(self, request: web.Request) -> web.Response:
        _require_assistants_v2(request)
        return web.json_response(self._assistants.get(request.match_info["id"]))

    async def _delete_assistant(self, request: web.Request) -> web.Response:
        _require_assistants_v2(request)
        return web.json_response(self._assistants.remove(request.match_info["id"]))

    async def _create_thread(self, request: web.Request) -> web.Response:
        _require_assistants_v2(request)
        body = await json_body(request)
        thread = {
            "id": new_id("thread_"),
            "object": "thread",
            "created_at": now(),
            "metadata": body.get("metadata", {}),
        }
        self._messages[thread["id"]] = Shelf("thread.message")
        self._runs[thread["id"]] = Shelf("thread.run")
        return web.json_response(self._threads.add(thread))

    async def _get_thread(self, request: web.Request) -> web.Response:
        return web.json_response(self._thread(request))

    async def _delete_thread(self, request: web.Request) -> web.Response:
        return web.json_response(self._threads.remove(self._thread(request)["id"]))

    async def _create_message(self, request: web.Request) -> web.Response:
        thread = self._thread(request)
        body = await json_body(request)
        return web.json_response(self._say(thread["id"], body["role"], body["content"]))

    async def _list_messages(self, request: web.Request) -> web.Response:
        return web.json_response(self._messages[self._thread(request)["id"]].page(request))

    async def _create_run(self, request: web.Request) -> web.Response:
        thread = self._thread(request)
        body = await json_body(request)
        assistant = self._assistants.get(body["assistant_id"])
        run = {
            "id": new_id("run_"),
            "object": "thread.run",
            "created_at": now(),
            "thread_id": thread["id"],
            "assistant_id": assistant["id"],
            "model": assistant["model"],
            "instructions": assistant["instructions"] or "",
            "parallel_tool_calls": True,
            "tools": [],
            "metadata": {},
            "status": "queued",
        }
        return web.json_response(self._runs[thread["id"]].add(run))

    async def _get_run(self, request: web.Request) -> web.Response:
        thread = self._thread(request)
        run = self._runs[thread["id"]].get(request.match_info["run"])
        if run["status"] == "queued":
            run.update(status="completed", completed_at=now())
            self._say(thread["id"], "assistant", f"Answered by {run['model']}.", run=run)
        return web.json_response(run)

    def _thread(self, request: web.Request) -> Json:
        _require_assistants_v2(request)
        return self._threads.get(request.match_info["id"])

    def _say(self, thread_id: str, role: str, text: str, run: Json | None = None) -> Json:
        message: Json = {
            "id": new_id("msg_"),
            "object": "thread.message",
            "created_at": now(),
            "thread_id": thread_id,
            "role": role,
            "status": "completed",
            "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
            "assistant_id": run["assistant_id"] if run else None,
            "run_id": run["id"] if run else None,
            "attachments": [],
            "metadata": {},
        }
        return self._messages[thread_id].add(message)


def _require_assistants_v2(request: web.Request) -> None:
    """Refuse what lacks the header that OpenAI demands on these endpoints."""
    if request.headers.get("OpenAI-Beta") != "assistants=v2":
        message = "You must provide the 'OpenAI-Beta' header to access the Assistants API."
        raise ApiError(400, message, code="invalid_beta")


class Files:
    """Files, uploads in parts, vector stores over files, and batches."""

    def __init__(self) -> None:
        self._files = Shelf("file")
        self._contents: dict[str, bytes] = {}
        self._uploads = Shelf("upload")
        self._parts: dict[str, bytes] = {}
        self._vector_stores = Shelf("vector_store")
        self._batches = Shelf("batch")

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of this part of the API."""
        return [
            web.post("/v1/files", self._create_file),
            *_reading("/v1/files", self._files),
            web.delete("/v1/files/{id}", self._delete_file),
            web.get("/v1/files/{id}/content", self._file_content),
            web.post("/v1/uploads", self._create_upload),
            web.post("/v1/uploads/{id}/parts", self._add_part),
            web.post("/v1/uploads/{id}/complete", self._complete_upload),
            web.post("/v1/vector_stores", self._create_vector_store),
            *_reading("/v1/vector_stores", self._vector_stores),
            web.delete("/v1/vector_stores/{id}", self._delete_vector_store),
            web.post("/v1/batches", self._create_batch),
            *_reading("/v1/batches", self._batches),
            web.post("/v1/batches/{id}/cancel", self._cancel_batch),
        ]

    def _keep(self, filename: str, purpose: str, content: bytes) -> Json:
        file: Json = {
            "id": new_id("file-"),
            "object": "file",
            "created_at": now(),
            "bytes": len(content),
            "filename": filename,
            "purpose": purpose,
            "status": "processed",
        }
        self._contents[file["id"]] = content
        return self._files.add(file)

    async def _create_file(self, request: web.Request) -> web.Response:
        form = await multipart_body(request)
        file = form["file"]
        return web.json_response(
            self._keep(file.filename or "upload", form["purpose"].text, file.content)
        )

    async def _delete_file(self, request: web.Request) -> web.Response:
        notice = self._files.remove(request.match_info["id"])
        return web.json_response({**notice, "object": "file"})

    async def _file_content(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["id"])
        return web.Response(
            body=self._contents[file["id"]],
            content_type="application/octet-stream",
            headers={"Content-Disposition": f'attachment; filename="{file["filename"]}"'},
        )

    async def _create_upload(self, request: web.Request) -> web.Response:
        body = await json_body(request)
        upload = {
            "id": new_id("upload_"),
            "object": "upload",
            "created_at": now(),
            "expires_at": now() + 3600,
            "bytes": body["bytes"],
            "filename": body["filename"],
            "purpose": body["purpose"],
            "status": "pending",
        }
        return web.json_response(self._uploads.add(upload))

    async def _add_part(self, request: web.Request) -> web.Response:
        upload = self._uploads.get(request.match_info["id"])
        form = await multipart_body(request)
        part = {
            "id": new_id("part_"),
            "object": "upload.part",
            "created_at": now(),
            "upload_id": upload["id"],
        }
        self._parts[part["id"]] = form["data"].content
        return web.json_response(part)

    async def _complete_upload(self, request: web.Request) -> web.Response:
        upload = self._uploads.get(request.match_info["id"])
        body = await json_body(request)
        content = b"".join(self._parts[part_id] for part_id in body["part_ids"])
        if len(content) != upload["bytes"]:
            raise ApiError(400, f"Expected {upload['bytes']} bytes, got {len(content)}.")
        file = self._keep(upload["filename"], upload["purpose"], content)
        upload.update(status="completed", file=file)
        return web.json_response(upload)

    async def _create_vector_store(self, request: web.Request) -> web.Response:
        body = await json_body(request)
        files = [self._files.get(file_id) for file_id in body.get("file_ids", [])]
        counts = {"in_progress": 0, "completed": len(files), "failed": 0, "cancelled": 0}
        store = {
            "id": new_id("vs_"),
            "object": "vector_store",
            "created_at": now(),
            "name": body.get("name", ""),
            "metadata": body.get("metadata", {}),
            "status": "completed",
            "usage_bytes": sum(file["bytes"] for file in files),
            "file_counts": {**counts, "total": len(files)},
        }
        return web.json_response(self._vector_stores.add(store))

    async def _delete_vector_store(self, request: web.Request) -> web.Response:
        return web.json_response(self._vector_stores.remove(request.match_info["id"]))

    async def _create_batch(self, request: web.Request) -> web.Response:
        body = await json_body(request)
        batch = {
            "id": new_id("batch_"),
            "object": "batch",
            "created_at": now(),
            "endpoint": body["endpoint"],
            "input_file_id": self._files.get(body["input_file_id"])["id"],
            "completion_window": body["completion_window"],
            "metadata": body.get("metadata"),
            "status": "in_progress",
        }
        return web.json_response(self._batches.add(batch))

    async def _cancel_batch(self, request: web.Request) -> web.Response:
        batch = self._batches.get(request.match_info["id"])
        batch.update(status="cancelling", cancelling_at=now())
        return web.json_response(batch)


def _reading(path: str, shelf: Shelf) -> list[web.RouteDef]:
    """Return the routes that list and retrieve the objects of a shelf."""
    return [
        web.get(path, _answering(shelf.page)),
        web.get(path + "/{id}", _answering(lambda request: shelf.get(request.match_info["id"]))),
    ]


def _answering(
    find: Callable[[web.Request], Json],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(find(request))

    return handler
