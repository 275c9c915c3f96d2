"""Invariant: each namespace that may have sidecars holds the current CA, and no other gets one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.api.route import PassthroughRoute, PassthroughRouteSpec
from thruway_operator.sidecar.decide.names import CA_CONFIG_MAP, LABEL
from thruway_operator.sidecar.webhook import BundleKeeper, CABundlePublisher, Directory
from thruway_testing.plane.fake_api import FakeApi, background, in_fake_time, running
from thruway_testing.plane.fake_api.troubles import failures, hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


NAMESPACES = "/api/v1/namespaces"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


def maps_of(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


class Publishing:
    def __init__(self, api: FakeApi, client: Any, authorities: Path, *watched: str) -> None:
        self.api = api
        self.authorities = authorities
        self.may_write = True
        self.directory = Directory(client, watched, self._look)
        self.publisher = CABundlePublisher(
            client, self.directory, watched, authorities, lambda: self.may_write
        )

    def _look(self) -> None:
        self.publisher.look()

    def namespace(self, name: str, *, enabled: bool) -> None:
        labels = {LABEL: "enabled"} if enabled else {}
        self.api.objects.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})

    def published(self) -> dict[str, str]:
        items = self.api.objects.all("/api/v1/configmaps")
        return {
            item["metadata"]["namespace"]: item["data"].get("ca.crt", "")
            for item in items
            if item["metadata"]["name"] == CA_CONFIG_MAP
        }

    def writes(self) -> int:
        return len(self.api.asked("POST", "/configmaps") + self.api.asked("PATCH", "/configmaps"))


@contextlib.asynccontextmanager
async def publishing(folder: Path, *watched: str) -> AsyncIterator[Publishing]:
    authorities = folder / "ca.crt"
    authorities.write_text("CA 1\n")
    async with running() as (api, client):
        found = Publishing(api, client, authorities, *watched)
        found.namespace("shop", enabled=True)
        found.namespace("other", enabled=False)
        async with background(found.directory.run(), found.publisher.run()):
            await asyncio.sleep(3)
            yield found


@in_fake_time
async def test_it_is_published_once_where_sidecars_are_enabled(tmp_path: Path) -> None:
    async with publishing(tmp_path) as p:
        assert p.published() == {"shop": "CA 1\n"}
        await asyncio.sleep(3_600)
        assert p.writes() == 1


@in_fake_time
async def test_a_namespace_that_joins_gets_it(tmp_path: Path) -> None:
    async with publishing(tmp_path) as p:
        p.namespace("bank", enabled=True)
        await asyncio.sleep(0.5)
        assert p.published() == {"shop": "CA 1\n", "bank": "CA 1\n"}
        p.api.objects.change(
            NAMESPACES, "other", {"metadata": {"name": "other", "labels": {LABEL: "enabled"}}}
        )
        await asyncio.sleep(0.5)
        assert set(p.published()) == {"shop", "bank", "other"}


@in_fake_time
async def test_a_namespace_with_a_route_gets_it(tmp_path: Path) -> None:
    async with publishing(tmp_path) as p:
        spec = PassthroughRouteSpec.model_validate({"path": "/a", "provider": "openai"})
        found = PassthroughRoute(namespace="other", name="a", spec=spec)
        p.directory.route_changed(("other", "a"), found)
        p.directory.route_changed(("gone", "a"), found)
        await asyncio.sleep(0.5)
        assert set(p.published()) == {"shop", "other"}


@in_fake_time
async def test_a_namespace_that_is_being_deleted_is_left_alone(tmp_path: Path) -> None:
    async with publishing(tmp_path) as p:
        metadata = {"name": "shop", "labels": {LABEL: "enabled"}, "deletionTimestamp": "2026"}
        p.api.objects.change(NAMESPACES, "shop", {"metadata": metadata})
        await asyncio.sleep(0.5)
        p.api.objects.delete(maps_of("shop"), CA_CONFIG_MAP)
        await asyncio.sleep(60)
        assert p.published() == {}


@in_fake_time
async def test_a_new_ca_and_a_damaged_or_deleted_copy_are_corrected(tmp_path: Path) -> None:
    async with publishing(tmp_path) as p:
        p.authorities.write_text("CA 1\nCA 2\n")
        await asyncio.sleep(3)
        assert p.published() == {"shop": "CA 1\nCA 2\n"}
        p.api.objects.change(maps_of("shop"), CA_CONFIG_MAP, {"data": {"ca.crt": "damaged"}})
        await asyncio.sleep(0.5)
        assert p.published() == {"shop": "CA 1\nCA 2\n"}
        p.api.objects.change(maps_of("shop"), CA_CONFIG_MAP, {"data": {"mine": "kept"}})
        await asyncio.sleep(0.5)
        assert p.api.objects.get(maps_of("shop"), CA_CONFIG_MAP)["data"] == {
            "ca.crt": "CA 1\nCA 2\n",
            "mine": "kept",
        }
        p.api.objects.delete(maps_of("shop"), CA_CONFIG_MAP)
        await asyncio.sleep(0.5)
        assert p.published() == {"shop": "CA 1\nCA 2\n"}


@in_fake_time
async def test_only_the_holder_of_the_lease_writes(tmp_path: Path) -> None:
    async with publishing(tmp_path) as p:
        p.may_write = False
        p.namespace("bank", enabled=True)
        await asyncio.sleep(60)
        assert set(p.published()) == {"shop"}
        p.may_write = True
        await asyncio.sleep(3)
        assert set(p.published()) == {"shop", "bank"}


@in_fake_time
async def test_a_lease_lost_while_writes_wait_stops_them(tmp_path: Path) -> None:
    async with publishing(tmp_path) as p:
        hung = p.api.trouble(hang, method="POST")
        for number in range(40):
            p.namespace(f"n{number}", enabled=True)
        await asyncio.sleep(5)
        begun = p.writes()
        assert begun <= 1 + 2 * 8
        p.may_write = False
        hung.end()
        await asyncio.sleep(60)
        assert p.writes() == begun


TROUBLES = failures("403", "429", "500", "cut", "garbage")


@pytest.mark.parametrize("name", TROUBLES)
@in_fake_time
async def test_a_namespace_that_rejects_it_does_not_hold_up_others_and_is_logged_once(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(tmp_path) as p:
        outage = p.api.trouble(TROUBLES[name], path="/namespaces/bank/configmaps")
        p.namespace("bank", enabled=True)
        p.namespace("lab", enabled=True)
        await asyncio.sleep(600)
        assert set(p.published()) == {"shop", "lab"}
        assert outage.met <= 2 * 310
        assert len([x for x in caplog.messages if "into namespace bank" in x]) == 1
        outage.end()
        await asyncio.sleep(3)
        assert set(p.published()) == {"shop", "lab", "bank"}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (404, "namespaces not found"),
        (409, "already exists"),
        (403, "unable to create new content in namespace bank because it is being terminated"),
    ],
)
@in_fake_time
async def test_what_happens_while_namespaces_vanish_is_no_warning(
    code: int, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from thruway_testing.plane.fake_api.troubles import refusal

    async with publishing(tmp_path) as p:
        p.api.trouble(refusal(code, message), path="/namespaces/bank/configmaps")
        p.namespace("bank", enabled=True)
        await asyncio.sleep(60)
        assert caplog.messages == []


@in_fake_time
async def test_a_ca_that_cannot_be_read_is_logged_once_and_nothing_is_overwritten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with publishing(tmp_path) as p:
        p.authorities.unlink()
        await asyncio.sleep(60)
        assert len(caplog.messages) == 1
        assert "the operator's CA cannot be read: No such file or directory" in caplog.text
        assert p.published() == {"shop": "CA 1\n"}
        p.authorities.write_text("CA 2\n")
        await asyncio.sleep(3)
        assert p.published() == {"shop": "CA 2\n"}


@in_fake_time
async def test_watched_namespaces_get_it_without_permission_to_read_namespaces(
    tmp_path: Path,
) -> None:
    async with publishing(tmp_path, "shop", "bank") as p:
        await asyncio.sleep(1)
        assert set(p.published()) == {"shop", "bank"}
        assert p.directory.problem is None
        assert not [seen for seen in p.api.requests if seen.path == NAMESPACES]


@in_fake_time
async def test_the_directory_keeps_what_it_knows_while_namespaces_cannot_be_listed(
    tmp_path: Path,
) -> None:
    async with publishing(tmp_path) as p:
        outage = p.api.trouble(403, path=NAMESPACES)
        p.api.send(NAMESPACES, None)
        await asyncio.sleep(30)
        assert p.directory.problem == "made up: Forbidden"
        assert p.directory.namespace("shop").labels == {LABEL: "enabled"}
        assert p.directory.wanted == {"shop"}
        outage.end()
        await asyncio.sleep(2)
        assert p.directory.problem is None


class TestBundle:
    """The webhook configuration's CA."""

    @staticmethod
    @contextlib.asynccontextmanager
    async def keeping(folder: Path) -> AsyncIterator[tuple[FakeApi, BundleKeeper]]:
        authorities = folder / "ca.crt"
        authorities.write_text("CA 1")
        async with running() as (api, client):
            keeper = BundleKeeper(client, "thruway", authorities, lambda: True)
            async with background(keeper.run()):
                yield api, keeper

    @in_fake_time
    async def test_a_missing_configuration_is_a_problem_until_it_exists(
        self, tmp_path: Path
    ) -> None:
        async with self.keeping(tmp_path) as (api, keeper):
            await asyncio.sleep(5)
            assert "install it with the chart" in str(keeper.problem)
            webhook = {"name": "pods.thruway.dev", "clientConfig": {"caBundle": ""}}
            api.objects.create(WEBHOOKS, {"metadata": {"name": "thruway"}, "webhooks": [webhook]})
            await asyncio.sleep(5)
            assert keeper.problem is None
            (found,) = api.objects.get(WEBHOOKS, "thruway")["webhooks"]
            assert base64.b64decode(found["clientConfig"]["caBundle"]) == b"CA 1"
            await asyncio.sleep(60)
            assert len(api.asked("PATCH")) == 1

    @pytest.mark.parametrize("name", TROUBLES)
    @in_fake_time
    async def test_a_refusal_is_a_problem_and_is_logged_once(
        self, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with self.keeping(tmp_path) as (api, keeper):
            api.trouble(TROUBLES[name])
            await asyncio.sleep(60)
            assert "cannot be maintained" in str(keeper.problem)
            assert len([x for x in caplog.messages if "retrying" in x]) == 1
