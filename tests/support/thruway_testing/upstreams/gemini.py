"""The Gemini API, as far as its SDK's main calls need it. https://ai.google.dev/api"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from thruway_testing.upstreams.served import Served

__all__ = ["LIVE", "gemini_upstream"]

LIVE = "/ws/google.ai.generativelanguage.{version}.GenerativeService.BidiGenerateContent"
_VERSION = "{version:v1|v1beta}"  # the SDK's default is v1 since its version 3
MODEL = {
    "name": "models/gemini-test",
    "displayName": "Gemini Test",
    "supportedGenerationMethods": ["generateContent"],
}


def gemini_upstream(key: str) -> Served:
    """Return an upstream that lets in this key alone, and uploads by their id."""
    return _Gemini(key).served()


class _Gemini:
    def __init__(self, key: str) -> None:
        self._key = key
        self._files: dict[str, bytes] = {}

    def served(self) -> Served:
        routes = {
            ("GET", f"/{_VERSION}/models"): self._models,
            ("GET", f"/{_VERSION}/models/{{name}}"): self._model,
            ("POST", f"/{_VERSION}/models/{{name}}:generateContent"): self._generate,
            ("POST", f"/{_VERSION}/models/{{name}}:streamGenerateContent"): self._stream,
            ("GET", f"/{_VERSION}/files/{{name}}:download"): self._download,
            ("GET", LIVE.replace("{version}", _VERSION)): self._live,
        }
        return Served(
            web.post(f"/upload/{_VERSION}/files", self._upload),
            *(
                web.route(method, path, self._authorized(do))
                for (method, path), do in routes.items()
            ),
        )

    def _authorized(self, handler: Any) -> Any:
        async def checked(request: web.Request) -> web.StreamResponse:
            if not self._is_authorized(request):
                error = {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}
                return web.json_response({"error": error}, status=400)
            found: web.StreamResponse = await handler(request)
            return found

        return checked

    def _is_authorized(self, request: web.Request) -> bool:
        return (
            request.headers.getall("x-goog-api-key", []) == [self._key]
            and "key" not in request.query
        )

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [MODEL]})

    async def _model(self, _: web.Request) -> web.Response:
        return web.json_response(MODEL)

    async def _generate(self, request: web.Request) -> web.Response:
        return web.json_response(_candidate(_said(await request.json())))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        text = _said(await request.json())
        await response.prepare(request)
        words = text.split(" ")
        for piece in [words[0], *(f" {word}" for word in words[1:])]:
            await response.write(f"data: {json.dumps(_candidate(piece))}\r\n\r\n".encode())
        await response.write_eof()
        return response

    async def _upload(self, request: web.Request) -> web.Response:
        """Begin or complete a resumable upload; the second URL is its own permission."""
        if request.headers["x-goog-upload-command"] == "start":
            if not self._is_authorized(request):
                return web.json_response({"error": {"code": 400, "message": "no key"}}, status=400)
            url = f"http://{request.host}{request.path}?upload_id=u1"
            return web.json_response({}, headers={"X-Goog-Upload-URL": url})
        assert request.query["upload_id"] == "u1"
        name = f"f{len(self._files)}"
        self._files[name] = await request.read()
        file = {
            "name": f"files/{name}",
            "uri": f"https://generativelanguage.googleapis.com/v1beta/files/{name}",
            "downloadUri": f"https://generativelanguage.googleapis.com/v1beta/files/{name}:download",
            "state": "ACTIVE",
            "source": "GENERATED",
            "sizeBytes": str(len(self._files[name])),
        }
        return web.json_response({"file": file}, headers={"X-Goog-Upload-Status": "final"})

    async def _download(self, request: web.Request) -> web.Response:
        return web.Response(body=self._files[request.match_info["name"]])

    async def _live(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        setup = json.loads((await socket.receive()).data)
        assert setup["setup"]["model"] == "models/gemini-test"
        await socket.send_bytes(json.dumps({"setupComplete": {}}).encode())
        await socket.receive()
        return socket


def _said(asked: dict[str, Any]) -> str:
    return f"You said: {asked['contents'][-1]['parts'][0]['text']}"


def _candidate(text: str) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [{"content": content, "finishReason": "STOP"}]}
