"""Rules for response headers, seen by a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from aiohttp import web

from thruway_testing.product.manifests import route, write
from thruway_testing.product.up import thruway_up
from thruway_testing.upstreams.served import Served

if TYPE_CHECKING:
    from pathlib import Path

ENVOYS = {
    "x-envoy-upstream-service-time": "12",
    "x-envoy-decorator-operation": "chat",
    "x-envoy-overloaded": "true",
    "x-envoy-attempt-count": "3",
}
"""Headers that an upstream behind an Envoy of its own sends."""


async def answer(_: web.Request) -> web.Response:
    return web.Response(headers=ENVOYS)


def test_an_upstreams_envoy_headers_pass_unless_a_rule_removes_them(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    removed = {"headers": {"remove": [name.title() for name in ENVOYS]}}
    with Served(web.get("/v1/models", answer)) as upstream:
        write(
            file,
            route("kept", "/kept", upstream.url),
            route("removed", "/removed", upstream.url, response=removed),
        )
        with thruway_up("-f", str(file)) as up:
            kept = httpx.get(f"{up.url}/kept/models").headers
            left = httpx.get(f"{up.url}/removed/models").headers
    assert {name: kept.get(name) for name in ENVOYS} == ENVOYS
    assert not any(name in left for name in ENVOYS)
