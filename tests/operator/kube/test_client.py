"""Invariant: whatever an API server does, a request ends, and its failure is one sentence."""

from __future__ import annotations

import asyncio

import pytest

from thruway_operator.kube import Access, ApiError, KubeClient, KubeError, Unreachable
from thruway_testing.plane.fake_api import in_fake_time, running
from thruway_testing.plane.fake_api.troubles import cut, hang, raw, then_cut

MAPS = "/api/v1/namespaces/shop/configmaps"


def now() -> float:
    return asyncio.get_running_loop().time()


@in_fake_time
async def test_an_object_is_created_read_changed_and_deleted() -> None:
    async with running() as (api, client):
        made = await client.request("POST", MAPS, body={"metadata": {"name": "a"}, "data": {}})
        assert await client.get(f"{MAPS}/a") == made
        merge = "application/merge-patch+json"
        patch = {"data": {"x": "1"}}
        await client.request("PATCH", f"{MAPS}/a", body=patch, content_type=merge)
        assert api.objects.get(MAPS, "a")["data"] == {"x": "1"}
        assert api.requests[-1].headers["Content-Type"] == merge
        assert api.requests[-1].headers["Authorization"] == "Bearer made-up"
        await client.request("DELETE", f"{MAPS}/a")
        assert (await client.get(MAPS))["items"] == []


@in_fake_time
async def test_the_credential_is_read_for_each_request() -> None:
    async with running() as (api, client):
        tokens = iter(["Bearer first", ""])
        client.access = Access(client.access.server, False, lambda: next(tokens))
        await client.get(MAPS)
        await client.get(MAPS)
        assert [seen.headers.get("Authorization") for seen in api.requests] == [
            "Bearer first",
            None,
        ]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (403, "Forbidden"),
        (404, "NotFound"),
        (409, "Conflict"),
        (410, "Expired"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
    ],
)
@in_fake_time
async def test_a_rejection_carries_status_reason_and_message(code: int, reason: str) -> None:
    async with running() as (api, client):
        api.trouble(code)
        with pytest.raises(ApiError, match=f"made up: {reason}") as caught:
            await client.get(MAPS)
        assert (caught.value.status, caught.value.reason) == (code, reason)
        assert caught.value.details == {}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"text"', b"null", b"\xff"])
@in_fake_time
async def test_a_rejection_without_a_status_object_names_the_code(body: bytes) -> None:
    async with running() as (api, client):
        api.trouble(raw(body, 502))
        with pytest.raises(ApiError, match=r"^the API server responded with 502$"):
            await client.get(MAPS)


@in_fake_time
async def test_a_redirect_is_not_followed_with_the_credential() -> None:
    async with running() as (api, client):
        api.trouble(302)
        with pytest.raises(ApiError):
            await client.get(MAPS)
        assert len(api.requests) == 1


@in_fake_time
async def test_a_hung_request_ends_after_its_time() -> None:
    async with running() as (api, client):
        api.trouble(hang)
        started = now()
        with pytest.raises(Unreachable, match="did not respond in time"):
            await client.get(MAPS)
        assert now() - started == pytest.approx(15, abs=0.1)
        with pytest.raises(Unreachable, match="did not respond in time"):
            await client.request("GET", MAPS, within=2)
        assert now() - started == pytest.approx(17, abs=0.2)


@in_fake_time
async def test_a_connection_that_breaks_is_no_response() -> None:
    async with running() as (api, client):
        for broken in (cut, then_cut(b'{"items": [')):
            trouble = api.trouble(broken)
            with pytest.raises(Unreachable, match="cannot be reached: "):
                await client.request("PATCH", f"{MAPS}/a", body={})
            trouble.end()
        assert (await client.get(MAPS))["items"] == []


@pytest.mark.parametrize("body", [b"{", b"<html>", b"\xff\xfe", b"[1]", b'"text"', b"7"])
@in_fake_time
async def test_a_success_that_is_no_object_is_no_response(body: bytes) -> None:
    async with running() as (api, client):
        api.trouble(raw(body))
        with pytest.raises(Unreachable, match="cannot be read"):
            await client.get(MAPS)


@in_fake_time
async def test_nothing_listens() -> None:
    async with running() as (_, client):
        server = client.access.server
    async with KubeClient(Access(server, False, lambda: "")) as alone:
        with pytest.raises(Unreachable, match="cannot be reached: Connection refused"):
            await alone.get(MAPS)


@in_fake_time
async def test_through_a_proxy_only_the_api_servers_own_refusal_is_an_error() -> None:
    async with running() as (api, client):
        behind = api.trouble(raw(b"not ready", 503))
        assert await client.text("/api/v1/namespaces/shop/pods/a:8080/proxy/x") == (
            503,
            "not ready",
        )
        behind.end()
        api.trouble(403)
        with pytest.raises(ApiError):
            await client.text("/api/v1/namespaces/shop/pods/a:8080/proxy/x")


async def all_lines(client: KubeClient, params: dict[str, str]) -> list[bytes]:
    async with client.lines(MAPS, params=params, accept="*/*", silence=40) as lines:
        return [line async for line in lines]


@in_fake_time
async def test_lines_of_any_length_in_any_pieces() -> None:
    lines = [b"a", b"b" * 300_000, b"c"]
    async with running() as (api, client):
        whole = api.trouble(raw(b"\n".join(lines) + b"\n\n"))
        assert await all_lines(client, {}) == lines
        whole.end()
        api.trouble(raw(b"a\n<html>"))
        with pytest.raises(Unreachable, match="breaks off"):
            await all_lines(client, {})


@in_fake_time
async def test_silence_ends_a_watch() -> None:
    async with running() as (api, client):
        params = {"watch": "1", "resourceVersion": "100", "timeoutSeconds": "290"}
        started = now()
        with pytest.raises(Unreachable, match="did not respond in time"):
            await all_lines(client, params)
        assert now() - started == pytest.approx(40, abs=0.5)
        await api.until(lambda: not api.watches)


@in_fake_time
async def test_closing_ends_what_is_still_running() -> None:
    async with running() as (api, client):
        api.trouble(hang)
        asking = asyncio.create_task(client.get(MAPS))
        await api.until(lambda: bool(api.requests))
        await client.close()
        with pytest.raises(KubeError):
            await asking
