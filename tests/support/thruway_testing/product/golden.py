"""Golden cases: manifests in, everything that becomes of them out as YAML, checked by Envoy too."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2 as route_pb
from envoy.config.route.v3 import route_pb2

from thruway_extproc.rule import METADATA_KEY, decode
from thruway_operator import ir
from thruway_operator.diagnose.offline.shown import (
    dump,
    rule_view,
    secret_view,
    without_client_keys,
)
from thruway_operator.envoy.clusters import render_cluster
from thruway_operator.envoy.fragments import assemble, render_fragments
from thruway_operator.envoy.messages import to_plain
from thruway_operator.envoy.names import ROUTE_CONFIG
from thruway_operator.envoy.routes import first_routes, last_routes
from thruway_operator.envoy.validation import envoy_refusal, static_bootstrap
from thruway_operator.envoy.wire import serialized
from thruway_operator.sources.files.documents import parse_documents
from thruway_operator.sources.files.manifests import read_manifests
from thruway_operator.translate import Resources, Translation, translate
from thruway_operator.xds.protocol.resources import CLUSTER, ROUTE, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.sources.files.manifests import Manifests
    from thruway_operator.xds.protocol.resources import Snapshot

__all__ = ["Case", "read_case", "resources_of", "snapshot_of_translation", "validate"]


@dataclass(frozen=True)
class Case:
    """One input and what becomes of it."""

    name: str
    problems: tuple[str, ...]
    translation: Translation
    snapshot: Snapshot
    secrets: tuple[SecretValue, ...]
    """All that the input holds, used or not."""

    def expected(self) -> str:
        """The text of the golden file."""
        verdicts = {name: _verdict(found) for name, found in self.translation.verdicts.items()}
        rules: dict[str, Any] = {}
        hosts = _virtual_hosts(self.snapshot, rules)
        parts: dict[str, Any] = {"problems": list(self.problems)} if self.problems else {}
        parts |= {"verdicts": verdicts, "rules": rules, "virtualHosts": hosts}
        parts["clusters"] = _clusters(self.snapshot, whole=self.name == "minimal")
        parts["secrets"] = {
            name: secret_view(resource) for name, resource in sorted(self.snapshot[SECRET].items())
        }
        return "".join(dump({name: part}) for name, part in parts.items())


def read_case(file: Path, system_ca: str) -> Case:
    """Read `NAME.in.yaml` as a user's file; its order is the routes' age."""
    documents, broken = parse_documents(file.read_text("utf-8"), file.name)
    assert broken == [], broken
    manifests = read_manifests(documents)
    translation = translate(resources_of(manifests))
    return Case(
        name=file.name.removesuffix(".in.yaml"),
        problems=tuple(problem.message for problem in manifests.problems),
        translation=translation,
        snapshot=snapshot_of_translation(translation, system_ca),
        secrets=tuple(value for data in manifests.secrets.values() for value in data.values()),
    )


def resources_of(manifests: Manifests) -> Resources:
    """Return what a file would be to translation."""
    return Resources(
        routes=tuple(
            placed.resource(f"{index:08}") for index, placed in enumerate(manifests.routes)
        ),
        secrets=manifests.secrets,
        config_maps=manifests.config_maps,
    )


def snapshot_of_translation(translation: Translation, system_ca: str) -> Snapshot:
    """Return all that Envoy gets."""
    return assemble(list(render_fragments(translation.config, system_ca).values()))


def _verdict(found: Any) -> dict[str, Any]:
    return {
        condition.type: [condition.status, condition.reason, condition.message]
        for condition in (found.accepted, found.resolved_refs)
    }


def _virtual_hosts(snapshot: Snapshot, rules: dict[str, Any]) -> list[dict[str, Any]]:
    config = route_pb2.RouteConfiguration.FromString(snapshot[ROUTE][ROUTE_CONFIG].body)
    first, last = (
        list(map(_route, first_routes("*", keep_browsers_out=False))),
        list(map(_route, last_routes())),
    )
    hosts = []
    for host in config.virtual_hosts:
        assert host.routes[: len(first)] == first
        assert host.routes[-len(last) :] == last
        own = host.routes[len(first) : -len(last)]
        routes = [without_client_keys(to_plain(route)) for route in own]
        for route in routes:
            _take_rule(route, rules)
        hosts.append({"domains": list(host.domains), "routes": routes})
    return hosts


def _route(body: bytes) -> route_pb.Route:
    return route_pb.Route.FromString(body)


def _take_rule(route: dict[str, Any], rules: dict[str, Any]) -> None:
    """Replace the encoded rule by the route's name, below which `rules` has it decoded."""
    for config in route["typedPerFilterConfig"].values():
        for pair in config.get("overrides", {}).get("grpcInitialMetadata", ()):
            assert pair["key"] == METADATA_KEY
            assert pair["value"].isascii()
            assert "%" not in pair["value"]
            rule, name = rule_view(decode(pair["value"])), route["name"]
            while rules.setdefault(name, rule) != rule:
                name += "+"  # an Exact and a Prefix override of one path share their name
            pair["value"] = f"rules[{name}]"


_SAME = ("perConnectionBufferLimitBytes", "circuitBreakers", "upstreamConnectionOptions")
"""What all clusters have alike; it is shown once."""


def _clusters(snapshot: Snapshot, *, whole: bool) -> list[dict[str, Any]]:
    shown = []
    for _, resource in sorted(snapshot[CLUSTER].items()):
        cluster = to_plain(cluster_pb2.Cluster.FromString(resource.body))
        same = {name: cluster[name] for name in _SAME}
        assert same == _same_in_all_clusters()
        shown.append(cluster if whole else {k: v for k, v in cluster.items() if k not in same})
    return shown


@cache
def _same_in_all_clusters() -> dict[str, Any]:
    plain = ir.Endpoint("h.example", 80, None, ir.Protocol.HTTP1, 1000, None)
    cluster = to_plain(cluster_pb2.Cluster.FromString(render_cluster(plain)))
    return {name: cluster[name] for name in _SAME}


def validate(cases: Iterable[Case], folder: Path) -> str:
    """Return what `envoy --mode validate` has against the cases taken together, or "".

    Each case is a listener of its own. Secrets are static, so that Envoy reads their content too.
    """
    snapshots = {case.name: case.snapshot for case in cases}
    return envoy_refusal(serialized(static_bootstrap(snapshots, folder)), folder)
