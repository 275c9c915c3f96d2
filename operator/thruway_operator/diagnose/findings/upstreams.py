"""Checks the path to the upstreams by a proxy's recent calls and its Envoy's metrics.

Only what happens now counts: Envoy's counters are for life, so a success may be from long ago. A
fault that they show counts only if no call has passed yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.baseurls import routes_concerned
from thruway_operator.diagnose.findings.causes import cause
from thruway_operator.diagnose.findings.conventions import name_of
from thruway_operator.diagnose.findings.metrics import mangled, read_metrics
from thruway_operator.diagnose.findings.recentcalls import SECONDS, Call, by_destination, failing
from thruway_operator.diagnose.findings.routes import spec_of
from thruway_operator.diagnose.findings.steps import failed, good, unchecked
from thruway_operator.translate.upstream import read_url
from thruway_operator.translate.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thruway_operator.diagnose.findings.facts import Facts
    from thruway_operator.diagnose.findings.proxies import Proxy
    from thruway_operator.diagnose.findings.routes import KeyRef
    from thruway_operator.diagnose.findings.states import Trouble
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_upstreams"]

_NAME: Final = "upstream"
_DIGEST: Final = re.compile(r"_[0-9a-f]+")
"""The end of a mangled cluster name."""
_RESPONSE: Final = re.compile(r"upstream_rq_[1-5]\d\d")
_CODES: Final = {
    "update_failure": "upstream_unresolved",
    "ssl_fail_verify_san": "upstream_certificate_invalid",
    "ssl_fail_verify_error": "upstream_certificate_invalid",
    "ssl_connection_error": "upstream_tls_failed",
    "upstream_cx_connect_fail": "upstream_unreachable",
}
"""The codes of errors by the counters that show them, the most telling first."""


def check_upstreams(facts: Facts, proxy: Proxy) -> Iterator[Step]:
    """Yield for each route whether the latest calls to its upstreams succeed."""
    inside = proxy.inside
    if inside.calls.there:
        yield from _by_calls(facts, proxy, inside.calls.value)
    elif inside.metrics_later.there:
        yield _between(facts, proxy)
    else:
        why = (inside.metrics if inside.metrics.lack else inside.calls).reason
        yield unchecked(_NAME, f"{proxy.subject}: {why}")


def _by_calls(facts: Facts, proxy: Proxy, calls: list[Call]) -> Iterator[Step]:
    current = {(f"{facts.namespace}/{it.route}", it.address): it.route for it in _paths(facts)}
    reached: dict[str, None] = {}
    for (id_, address), latest in by_destination(calls).items():
        route = current.get((id_, address))
        if route is None:  # another namespace's, or an upstream that the route no longer has
            continue
        found = failing(latest)
        if found:
            what, remedy = cause(found.call, _keys(facts, route, address))
            where = f"of route {route} through {proxy.subject}"
            yield failed(_NAME, f"{found.share} {where} failed: {what}", remedy)
            return
        reached[f"{address} (route {route}: {_counted(latest)})"] = None
    if reached:
        yield good(_NAME, f"{proxy.subject} reaches {', '.join(reached)}")
        return
    trouble = _before_any_call(facts, proxy)
    if trouble:
        yield failed(_NAME, f"{proxy.subject}: {trouble[0]}", trouble[1])
    else:
        yield unchecked(_NAME, f"no call has passed through {proxy.subject} in the last minute")


def _counted(calls: list[Call]) -> str:
    """Return how many of the latest calls the upstream has responded to, and how."""
    other = [call for call in calls if call.trouble]
    last = f"{len(calls)} call{'s' * (len(calls) > 1)} in the last {SECONDS} s"
    return f"{last}, the last returned {calls[-1].status}" if not other else (
        f"{last}; {len(other)} of them returned {', '.join(sorted({c.trouble for c in other}))}"
    )  # fmt: skip


def _before_any_call(facts: Facts, proxy: Proxy) -> Trouble | None:
    """Return what Envoy's counters show of an upstream that was never reached."""
    if not proxy.inside.metrics.there:
        return None
    clusters = read_metrics(str(proxy.inside.metrics.value)).clusters
    for address, stats in _known(facts, clusters):
        if not stats.get("upstream_rq_total") and (found := _counters(address, stats)):
            return found
    return None


def _between(facts: Facts, proxy: Proxy) -> Step:
    """Compare two readings of the counters, because the calls cannot be read."""
    inside = proxy.inside
    before = dict(_known(facts, read_metrics(str(inside.metrics.value)).clusters))
    later = read_metrics(str(inside.metrics_later.value)).clusters
    reached: dict[str, None] = {}
    for address, stats in _known(facts, later):
        first = before.get(address, {})
        more = {stat: value - first.get(stat, 0) for stat, value in stats.items()}
        found = _counters(address, more) or _refused(facts, address, more)
        if not found and not stats.get("upstream_rq_total"):
            found = _counters(address, stats)
        if found:
            return failed(_NAME, f"{proxy.subject}: {found[0]}", found[1])
        if any(value > 0 and _RESPONSE.fullmatch(stat) for stat, value in more.items()):
            reached[address] = None
    if reached:
        return good(_NAME, f"{proxy.subject} reaches {', '.join(reached)}")
    why = f"no call has ended within a few seconds; to see earlier ones: {inside.calls.reason}"
    return unchecked(_NAME, f"{proxy.subject}: {why}")


def _counters(address: str, stats: Mapping[str, float]) -> Trouble | None:
    """Return the fault that counters show; cluster names contain a hash of their content."""
    if stats.get("update_success", 0) > 0:
        stats = {**stats, "update_failure": 0}
    for counter, code in _CODES.items():
        if stats.get(counter, 0) > 0:
            details = "SAN_matcher" if counter == "ssl_fail_verify_san" else ""
            return cause(Call(upstream=address, code=code, details=details), [])
    return None


def _refused(facts: Facts, address: str, stats: Mapping[str, float]) -> Trouble | None:
    """Report a status that the upstream sends to every call, such as 401 for the key."""
    statuses = {int(stat[-3:]) for stat in stats if stats[stat] > 0 and _RESPONSE.fullmatch(stat)}
    if len(statuses) != 1:
        return None
    call = Call(upstream=address, status=statuses.pop())
    if not call.trouble:
        return None
    what, remedy = cause(call, _keys(facts, "", address))
    return f"every call fails: {what}", remedy


@dataclass(frozen=True, slots=True)
class _Path:
    """An upstream of a route, and the key of the Secret that is sent there, if any."""

    route: str
    address: str
    key: KeyRef | None


def _keys(facts: Facts, route: str, address: str) -> list[tuple[str, KeyRef | None]]:
    """Return the route and key of each path to the address; `route`: only of that route."""
    return [
        (path.route, path.key)
        for path in _paths(facts)
        if path.address == address and route in {"", path.route}
    ]


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


def _known(
    facts: Facts, clusters: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Yield the counters of the routes' upstreams, by address."""
    names = {mangled(path.address): path.address for path in _paths(facts)}
    for cluster, stats in sorted(clusters.items()):
        start = cluster.rfind("_")
        bare = cluster[:start] if start > 0 and _DIGEST.fullmatch(cluster[start:]) else cluster
        if bare in names:
            yield names[bare], stats
