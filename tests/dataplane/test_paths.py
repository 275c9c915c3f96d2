"""docs/paths.md, row by row, through a running Thruway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from thruway_testing.product.manifests import route, write
from thruway_testing.product.markdown import table
from thruway_testing.product.up import thruway_up
from thruway_testing.upstreams.rawhttp_upstream import RawUpstream
from thruway_testing.wire.rawhttp import Answer, Request, Version
from thruway_testing.wire.rawhttp_client import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "paths.md").read_text("utf-8")
VERSIONS = (Version.HTTP11, Version.HTTP2)


def _bare(cell: str) -> str:
    return cell.strip("`")


class Upstream(NamedTuple):
    """What a row says of the route: empty cells are unset."""

    provider: str
    url: str
    prefix: str


STANDARD = Upstream("", "http://upstream", "/v1")


class Row(NamedTuple):
    upstream: Upstream
    asked: str
    expected: str


def _rows() -> Iterator[Row]:
    for row in (*table(PAGE, "With a version prefix"), *table(PAGE, "Dot segments")):
        yield Row(STANDARD, _bare(row[0]), _bare(row[1]))
    for row in table(PAGE, "With a base path"):
        url, prefix, asked, expected = map(_bare, row)
        yield Row(Upstream("", url, prefix), asked, expected)
    for row in table(PAGE, "With a provider"):
        provider, url, prefix, asked, expected = map(_bare, row)
        yield Row(Upstream(provider, url, prefix), asked, expected)


def _document(name: str, upstream: Upstream, url: str) -> dict[str, Any]:
    shown: dict[str, str] = {"url": url + urlsplit(upstream.url).path}
    if upstream.prefix != "unset":
        shown["versionPrefix"] = "" if upstream.prefix == "none" else upstream.prefix
    more = {"provider": upstream.provider} if upstream.provider else {}
    return route(name, "/r", "", hostnames=[f"{name}.example"], upstream=shown, **more)


ROWS = list(_rows())
UPSTREAMS = list(dict.fromkeys(row.upstream for row in ROWS))


class Bench:
    """A route for each upstream of the tables, told apart by the client's Host."""

    def __init__(self, port: int, upstream: RawUpstream) -> None:
        self.upstream = upstream
        self._clients = {
            key: RawClient(port, host=f"u{number}.example") for number, key in enumerate(UPSTREAMS)
        }

    def ask(self, upstream: Upstream, target: str, version: Version) -> str:
        """Return what the upstream was asked for, or the status of Thruway's own answer."""
        self.upstream.answer_with(Answer())
        request = Request(target=target.encode(), version=version)
        reply = self._clients[upstream].exchange(request)
        if self.upstream.received_nothing():
            return str(reply.status)
        (received,) = self.upstream.take()
        return received.target.decode()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    file = tmp_path_factory.mktemp("paths") / "routes.yaml"
    with RawUpstream() as upstream:
        documents = [
            _document(f"u{number}", item, upstream.url) for number, item in enumerate(UPSTREAMS)
        ]
        write(file, *documents)
        with thruway_up("-f", str(file)) as up:
            bench = Bench(up.port, upstream)
            try:
                yield bench
            finally:
                bench.close()


def test_the_tables_are_read() -> None:
    assert len(ROWS) > 100
    assert len(set(ROWS)) == len(ROWS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "row", ROWS, ids=[" ".join(filter(None, (*row.upstream, row.asked))) for row in ROWS]
)
def test_path(bench: Bench, row: Row, version: Version) -> None:
    assert bench.ask(row.upstream, row.asked, version) == row.expected
