"""docs/paths.md, row by row, through a running Thruway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from thruway_testing.manifests import route, write
from thruway_testing.markdown import table
from thruway_testing.rawhttp import Answer, Request, Version
from thruway_testing.rawhttp_client import RawClient
from thruway_testing.rawhttp_upstream import RawUpstream
from thruway_testing.up import thruway_up

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "paths.md").read_text("utf-8")
STANDARD = ("http://upstream", "/v1")
VERSIONS = (Version.HTTP11, Version.HTTP2)


def _bare(cell: str) -> str:
    return cell.strip("`")


def _plain_rows() -> list[tuple[str, str, str, str]]:
    rows = [*table(PAGE, "With a version prefix"), *table(PAGE, "Dot segments")]
    return [(*STANDARD, _bare(row[0]), _bare(row[1])) for row in rows]


def _base_rows() -> list[tuple[str, str, str, str]]:
    rows = [tuple(map(_bare, row)) for row in table(PAGE, "With a base path")]
    return [(url, "" if prefix == "none" else prefix, *rest) for url, prefix, *rest in rows]  # type: ignore[misc]


ROWS = _plain_rows() + _base_rows()
UPSTREAMS = list(dict.fromkeys(row[:2] for row in ROWS))


class Bench:
    """A route for each upstream of the tables, told apart by the client's Host."""

    def __init__(self, port: int, upstream: RawUpstream) -> None:
        self.upstream = upstream
        self._clients = {
            key: RawClient(port, host=f"u{number}.example") for number, key in enumerate(UPSTREAMS)
        }

    def ask(self, url: str, prefix: str, target: str, version: Version) -> str:
        """Return what the upstream was asked for, or the status of Thruway's own answer."""
        self.upstream.answer_with(Answer())
        request = Request(target=target.encode(), version=version)
        reply = self._clients[url, prefix].exchange(request)
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
            route(
                f"u{number}",
                "/r",
                "",
                hostnames=[f"u{number}.example"],
                upstream={"url": upstream.url + urlsplit(url).path, "versionPrefix": prefix},
            )
            for number, (url, prefix) in enumerate(UPSTREAMS)
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
    ("url", "prefix", "asked", "expected"), ROWS, ids=[" ".join(filter(None, row)) for row in ROWS]
)
def test_path(
    bench: Bench, url: str, prefix: str, asked: str, expected: str, version: Version
) -> None:
    assert bench.ask(url, prefix, asked, version) == expected
