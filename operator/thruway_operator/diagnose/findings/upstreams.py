"""Checks the path to the upstreams by the metrics of the pod's Envoy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.baseurls import routes_concerned
from thruway_operator.diagnose.findings.conventions import name_of
from thruway_operator.diagnose.findings.facts import Inside
from thruway_operator.diagnose.findings.metrics import mangled, read_metrics
from thruway_operator.diagnose.findings.routes import spec_of
from thruway_operator.diagnose.findings.steps import failed, good, unchecked
from thruway_operator.translate.upstream import read_url
from thruway_operator.translate.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.routes import KeyRef
    from thruway_operator.diagnose.findings.states import Trouble
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_upstreams"]

_DIGEST: Final = re.compile(r"_[0-9a-f]+")
"""The end of a mangled cluster name."""

_ANSWER: Final = re.compile(r"upstream_rq_[2-4]\d\d")
_WRONG_KEY: Final = "put the right key into the Secret; this is reported until a call succeeds"
_OWN_KEY: Final = "give the client a key that the upstream accepts, or the route a credential"


def check_upstreams(facts: Facts, pod: Object) -> Iterator[Step]:
    """Yield whether Envoy resolves the upstreams, connects by TLS, and has an accepted key."""
    name, inside = name_of(pod), facts.inside.get(name_of(pod), Inside())
    if not inside.metrics.there:
        yield unchecked("upstream", f"pod {name}: {inside.metrics.reason}")
        return
    clusters = read_metrics(str(inside.metrics.value)).clusters
    known = {mangled(way.address): way.address for way in _paths(facts)}
    reached: dict[str, None] = {}
    for cluster, stats in sorted(clusters.items()):
        address = known.get(_without_digest(cluster))
        if address is None:
            continue
        trouble = _trouble(address, stats) or _refused(facts, address, stats)
        if trouble:
            yield failed("upstream", f"Envoy of pod {name} {trouble[0]}", trouble[1])
            return
        if stats.get("upstream_rq_total"):
            reached[f"{address}{_sometimes(stats)}"] = None
    if reached:
        yield good("upstream", f"Envoy of pod {name} reaches {', '.join(reached)}")
    else:
        yield unchecked("upstream", f"no call has passed through pod {name} yet")


def _trouble(address: str, stats: Mapping[str, float]) -> Trouble | None:
    """Cluster names contain a hash of their content, so metrics concern the current content."""
    host = address.rpartition(":")[0]
    if stats.get("update_failure") and not stats.get("update_success"):
        return (
            f"cannot resolve {host}",
            "check its spelling in the route's upstream.url, the cluster's DNS, and that no "
            "NetworkPolicy blocks port 53",
        )
    if stats.get("upstream_rq_total"):  # the upstream was reached
        return None
    if stats.get("ssl_fail_verify_san"):
        return (
            f"reaches {address}, whose certificate has another name",
            "correct upstream.url, or set upstream.tls.serverName to the certificate's name",
        )
    if stats.get("ssl_fail_verify_error"):
        return (
            f"reaches {address}, whose certificate is not signed by a trusted CA",
            "set upstream.tls.caCertificateRef, or the chart's value extraCA",
        )
    if stats.get("ssl_connection_error"):
        return (
            f"cannot agree on TLS with {address}",
            "check the scheme and the port of upstream.url, and upstream.tls.minVersion",
        )
    if stats.get("upstream_cx_connect_fail"):
        return (
            f"cannot connect to {address}",
            "check host and port of upstream.url, and that no NetworkPolicy or firewall blocks "
            "it; behind a proxy set upstream.proxy (docs/network.md)",
        )
    return None


def _refused(facts: Facts, address: str, stats: Mapping[str, float]) -> Trouble | None:
    """Report 401s if the upstream sends nothing else; any other response accepts the key."""
    answers = {stat for stat, count in stats.items() if count and _ANSWER.fullmatch(stat)}
    if answers != {"upstream_rq_401"}:
        return None
    ways = [way for way in _paths(facts) if way.address == address]
    keys = dict.fromkeys(way.whose_key() for way in ways)
    remedies = [_WRONG_KEY] if any(way.key for way in ways) else []
    remedies += [] if all(way.key for way in ways) else [_OWN_KEY]
    refused = f"it rejects {', or '.join(keys)}"
    return f"reaches {address}, which rejects every call with 401: {refused}", "; ".join(remedies)


def _sometimes(stats: Mapping[str, float]) -> str:
    """Return a remark on 401s among other responses, whose order Envoy does not report."""
    refused = stats.get("upstream_rq_401", 0)
    if not refused:
        return ""
    answers = sum(count for stat, count in stats.items() if _ANSWER.fullmatch(stat))
    return (
        f" ({refused:.0f} of {answers:.0f} responses were 401: if they continue, the key is wrong)"
    )


@dataclass(frozen=True, slots=True)
class _Path:
    """An upstream of a route, and the key of the Secret that is sent there, if any."""

    route: str
    address: str
    key: KeyRef | None

    def whose_key(self) -> str:
        if self.key is None:
            return f"the client's own key (route {self.route} has no credential)"
        secret, key = self.key
        return f"key {key} of Secret {secret} (route {self.route})"


def _paths(facts: Facts) -> Iterator[_Path]:
    """Yield the upstreams of the routes."""
    for route in routes_concerned(facts):
        spec = spec_of(route)
        for item in spec.destinations() if spec else ():
            try:
                address = read_url(item.url, "")
            except Refused:
                continue
            ref = item.credential.secret_key_ref if item.credential else None
            key = (ref.name, ref.key) if ref else None
            yield _Path(name_of(route), f"{address.host}:{address.port}", key)


def _without_digest(cluster: str) -> str:
    start = cluster.rfind("_")
    return cluster[:start] if start > 0 and _DIGEST.fullmatch(cluster[start:]) else cluster
