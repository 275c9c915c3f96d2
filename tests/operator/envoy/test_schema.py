"""What is rendered, read by the classes of envoy-data-plane, which are of Envoy 1.40's own API.

It is rendered with those of xds-protos, which are quick and of an older API: what is newer is
written as bytes. Here is seen that Envoy knows each field, by a hand that did not write it.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from envoy_data_plane.message_pool import default_message_pool

from thruway_operator.envoy.bootstrap import ProxyOptions, render_bootstrap
from thruway_operator.envoy.controlplane import XdsService
from thruway_operator.envoy.downstream import Certificate, Downstream
from thruway_operator.envoy.wire import serialized
from thruway_testing.product.golden import read_case

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # envoy-data-plane takes seconds to import

CASES = sorted((Path(__file__).parents[1] / "translate" / "golden").glob("*.in.yaml"))
PREFIX = "type.googleapis.com/"
BOOTSTRAP = f"{PREFIX}envoy.config.bootstrap.v3.Bootstrap"
SERVICE = XdsService(
    addresses=(("operator.thruway-system.svc", 18000),),
    server_name="thruway-operator",
    token_file="/token",
    ca_file="/ca.crt",
    folder="/run/thruway",
)
OPTIONS = ProxyOptions(
    node_id="web.shop",
    addresses=(("127.0.0.1", 4000), ("::1", 4000)),
    admin_socket="/run/thruway/admin.sock",
    xds_service=SERVICE,
    extproc_sockets=("/run/thruway/extproc-0.sock",),
    downstream=Downstream(
        certificate=Certificate("/tls.crt", "/tls.key", "/run/thruway"), connection_age_ms=60_000
    ),
    patience_ms=25_000,
)


def read(type_url: str, data: bytes) -> Any:
    """Return the message of a type."""
    package = type_url.removeprefix(PREFIX).rpartition(".")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of generated classes, at import
        importlib.import_module(f"envoy_data_plane.{package}")
    return default_message_pool.url_to_type[type_url].parse(data)


def messages(value: Any) -> Iterator[Any]:
    """Yield a message and all within it, packed ones too."""
    if isinstance(value, dict):
        for part in value.values():
            yield from messages(part)
    elif isinstance(value, list):
        for part in value:
            yield from messages(part)
    elif getattr(value, "type_url", ""):
        yield from messages(read(value.type_url, value.value))
    elif is_dataclass(value):
        yield value
        for field in fields(value):
            yield from messages(getattr(value, field.name))


def unknown(type_url: str, data: bytes) -> list[str]:
    found = [*messages(read(type_url, data))]
    assert len(found) > 1
    return [type(message).__name__ for message in found if message._unknown_fields]


def test_of_the_bootstrap() -> None:
    data = serialized(render_bootstrap(OPTIONS))
    assert unknown(BOOTSTRAP, data) == []
    found = [*messages(read(BOOTSTRAP, data))]
    (jitter,) = (m.max_connection_duration_jitter for m in found if hasattr(m, "max_headers_count"))
    assert jitter.value == 20.0  # one of those that are written as bytes


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.name.removesuffix(".in.yaml"))
def test_of_routes_clusters_and_secrets(file: Path) -> None:
    snapshot = read_case(file, "CA").snapshot
    for resources in snapshot.values():
        for resource in resources.values():
            assert unknown(resource.type_url, resource.body) == [], resource.name


# Invariant: only TCP keepalive asks whether a peer of traffic lives. HTTP/2 PINGs and
# TCP_USER_TIMEOUT cut a living peer that does not read for a while, and a stream has no timer but
# its route's.


def cutting(message: Any) -> list[str]:
    """Return what would cut a peer that pauses."""
    found = []
    for part in messages(message):
        found += [
            name
            for name in ("connection_keepalive", "socket_options", "max_stream_duration")
            if getattr(part, name, None)
        ]
    return found


def test_of_timers_towards_clients() -> None:
    bootstrap = read(BOOTSTRAP, serialized(render_bootstrap(OPTIONS)))
    listener, *internal = bootstrap.static_resources.listeners
    assert [cutting(item) for item in (listener, *internal)] == [[], [], []]
    assert listener.tcp_keepalive.keepalive_time == 60
    assert listener.address is not None
    assert [address.tcp_keepalive for address in listener.additional_addresses] == [None]


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.name.removesuffix(".in.yaml"))
def test_of_timers_towards_upstreams_and_of_routes(file: Path) -> None:
    for resources in read_case(file, "CA").snapshot.values():
        for resource in resources.values():
            message = read(resource.type_url, resource.body)
            assert cutting(message) == [], resource.name
            for part in messages(message):
                if type(part).__name__ == "Cluster":
                    assert part.upstream_connection_options.tcp_keepalive.keepalive_time == 60
                if type(part).__name__ == "RouteAction":
                    # Set, even to 0: otherwise the listener's hour would apply.
                    assert part.timeout is not None
                    assert part.idle_timeout is not None
                    assert part.flush_timeout is None  # so it is `idle_timeout`
