"""Invariant: what is served is what the Secret holds, and proxies were given its CA before that."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.controller.certificates import CertificateKeeper, Terms
from thruway_testing.plane.fake_api import FakeApi, background, in_fake_time, running
from thruway_testing.plane.fake_api.troubles import failures

if TYPE_CHECKING:
    from pathlib import Path


SECRETS, MAPS = "/api/v1/namespaces/ops/secrets", "/api/v1/namespaces/ops/configmaps"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Clock:
    """Follows the event loop's."""

    def __init__(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self.ahead = dt.timedelta()

    def __call__(self) -> dt.datetime:
        passed = asyncio.get_running_loop().time() - self._began
        return START + dt.timedelta(seconds=passed) + self.ahead


def keeper(client: Any, folder: Path, clock: Clock) -> CertificateKeeper:
    return CertificateKeeper(
        client,
        namespace="ops",
        secret="certificates",
        config_map="authorities",
        folder=folder,
        terms=Terms(names=("thruway-operator",)),
        clock=clock,
    )


def install(api: FakeApi) -> None:
    """Create the two empty objects, as the chart does."""
    api.objects.create(SECRETS, {"metadata": {"name": "certificates"}, "type": "kubernetes.io/tls"})
    api.objects.create(MAPS, {"metadata": {"name": "authorities"}})


def held(api: FakeApi) -> dict[str, str]:
    data = api.objects.get(SECRETS, "certificates")["data"]
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


def published(api: FakeApi) -> str:
    return str(api.objects.get(MAPS, "authorities").get("data", {}).get("ca.crt"))


def served(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in ("tls.crt", "tls.key", "ca.crt")}


@in_fake_time
async def test_the_first_replica_fills_the_objects_and_the_next_one_adopts_them(
    tmp_path: Path,
) -> None:
    async with running() as (api, client):
        install(api)
        clock = Clock()
        await keeper(client, tmp_path / "a", clock).first()
        first = held(api)
        assert served(tmp_path / "a") == {name: first[name] for name in served(tmp_path / "a")}
        assert published(api) == first["ca.crt"]
        assert (tmp_path / "a" / "tls.key").stat().st_mode & 0o077 == 0
        await keeper(client, tmp_path / "b", clock).first()
        assert held(api) == first
        assert served(tmp_path / "b") == served(tmp_path / "a")


@in_fake_time
async def test_replicas_that_start_together_agree(tmp_path: Path) -> None:
    async with running() as (api, client):
        install(api)
        clock = Clock()
        folders = [tmp_path / name for name in "abcde"]
        await asyncio.gather(*(keeper(client, folder, clock).first() for folder in folders))
        assert len({str(served(folder)) for folder in folders}) == 1
        assert published(api) == held(api)["ca.crt"]


TROUBLES = failures("403", "404", "409", "429", "500", "cut", "garbage", "hang")


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("name", TROUBLES)
@pytest.mark.parametrize("path", ["/secrets/", "/configmaps/"])
@in_fake_time
async def test_it_waits_until_the_api_server_cooperates_and_warns_once(
    name: str, method: str, path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as (api, client):
        install(api)
        outage = api.trouble(TROUBLES[name], method=method, path=path)
        first = asyncio.create_task(keeper(client, tmp_path, Clock()).first())
        await asyncio.sleep(60)
        assert not first.done()
        assert not (tmp_path / "tls.crt").exists()  # proxies could not verify it
        assert outage.met <= 2 * 130
        assert len([x for x in caplog.messages if "cannot be kept current" in x]) == 1
        outage.end()
        await asyncio.sleep(20)
        await first
        assert served(tmp_path)["ca.crt"] == published(api)


@in_fake_time
async def test_over_years_everything_is_renewed_before_it_expires(tmp_path: Path) -> None:
    async with running() as (api, client):
        install(api)
        clock = Clock()
        kept = keeper(client, tmp_path, clock)
        await kept.first()
        async with background(kept.run()):
            seen = set()
            for _ in range(150):
                clock.ahead += dt.timedelta(days=20)
                await asyncio.sleep(25)
                seen.add(served(tmp_path)["tls.crt"])
                assert served(tmp_path)["ca.crt"] == published(api) == held(api)["ca.crt"]
            assert len(seen) > 20
            assert len([path for path in tmp_path.iterdir() if path.is_dir()]) <= 2  # and ..data


@in_fake_time
async def test_what_somebody_damages_is_repaired(tmp_path: Path) -> None:
    async with running() as (api, client):
        install(api)
        kept = keeper(client, tmp_path, Clock())
        await kept.first()
        async with background(kept.run()):
            api.objects.change(MAPS, "authorities", {"data": {}})
            api.objects.change(
                SECRETS, "certificates", {"data": {"tls.crt": "!", "tls.key": "AA=="}}
            )
            await asyncio.sleep(25)
            assert served(tmp_path)["ca.crt"] == published(api) == held(api)["ca.crt"]
            assert served(tmp_path)["tls.crt"] == held(api)["tls.crt"]


@in_fake_time
async def test_an_outage_keeps_what_is_served(tmp_path: Path) -> None:
    async with running() as (api, client):
        install(api)
        kept = keeper(client, tmp_path, Clock())
        await kept.first()
        before = served(tmp_path)
        api.trouble(503)
        async with background(kept.run()):
            await asyncio.sleep(3_600)
            assert served(tmp_path) == before
