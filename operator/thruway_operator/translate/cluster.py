"""A whole cluster: every namespace's sidecars and the shared gateway, each a group of its own.

The same input gives the same output, whatever was translated before: the memo of a
`ClusterTranslator` only saves work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator import ir
from thruway_operator.translate.conflicts import losers
from thruway_operator.translate.gateway import GatewayPolicy, check_exposure
from thruway_operator.translate.routes import translate_route
from thruway_operator.translate.translated import Translated
from thruway_operator.translate.verdict import Refused, Verdict, conflicted, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from thruway_operator.api.route import PassthroughRoute, Upstream
    from thruway_operator.resources.keys import ObjectKey
    from thruway_operator.resources.model import Resources

__all__ = [
    "GATEWAY",
    "ClusterTranslation",
    "ClusterTranslator",
    "GatewayPolicy",
    "References",
    "groups_of",
    "namespace_group",
    "references",
]

GATEWAY: Final = "gateway"
"""The group of the shared gateway's proxies."""


def namespace_group(namespace: str) -> str:
    """Return the group of a namespace's sidecars."""
    return f"namespace/{namespace}"


def groups_of(route: PassthroughRoute) -> tuple[str, ...]:
    """Return the groups whose proxies serve a route, if it is accepted."""
    own = namespace_group(route.namespace)
    return (own, GATEWAY) if route.spec.exposure == "Cluster" else (own,)


@dataclass(frozen=True, slots=True)
class References:
    """The objects that a route names."""

    secrets: frozenset[ObjectKey] = frozenset()
    config_maps: frozenset[ObjectKey] = frozenset()


def references(route: PassthroughRoute) -> References:
    """Return all that a route names; only those Secrets need to be known."""
    spec, secrets, config_maps = route.spec, set[str](), set[str]()
    upstreams: list[Upstream] = [spec.upstream, *(item.upstream for item in spec.overrides)]
    for credential in (spec.credential, *(item.credential for item in spec.overrides)):
        if credential:
            secrets.add(credential.secret_key_ref.name)
    for header in spec.request.headers.set_from_secret:
        secrets.add(header.secret_key_ref.name)
    if spec.client_auth.secret_ref:
        secrets.add(spec.client_auth.secret_ref.name)
    for upstream in upstreams:
        if upstream.proxy and upstream.proxy.secret_key_ref:
            secrets.add(upstream.proxy.secret_key_ref.name)
        if ref := upstream.tls.ca_certificate_ref:
            (secrets if ref.kind == "Secret" else config_maps).add(ref.name)
        if upstream.tls.client_certificate_ref:
            secrets.add(upstream.tls.client_certificate_ref.name)
    here = route.namespace
    return References(
        frozenset((here, name) for name in secrets),
        frozenset((here, name) for name in config_maps),
    )


@dataclass(frozen=True, slots=True)
class ClusterTranslation:
    """What each group serves, and what each route is told, by its id.

    A group that is as it was in the translation before is the same object as then.
    """

    groups: Mapping[str, ir.Config]
    verdicts: Mapping[str, Verdict]


@dataclass(slots=True)
class _Memo:
    """A route's outcome, and what it depends on beside the route."""

    route: PassthroughRoute
    names: tuple[tuple[ObjectKey, ...], tuple[ObjectKey, ...]]
    found: tuple[object, ...]
    outcome: Translated | Refused


@dataclass(slots=True)
class _Group:
    members: list[Translated]
    config: ir.Config


class ClusterTranslator:
    """Translates again and again, and again only what has changed."""

    def __init__(self) -> None:
        self._memos: dict[str, _Memo] = {}
        self._groups: dict[str, _Group] = {}
        self._setting: tuple[object, ...] = ()
        self.translated = 0
        """How many times a route was translated, all in all."""

    def translate(self, resources: Resources, gateway: GatewayPolicy | None) -> ClusterTranslation:
        """Translate all routes of a cluster."""
        self._forget_if_set_otherwise(resources)
        outcomes: dict[str, Translated | Refused] = {}
        valid = []
        for route in resources.routes:
            outcome = self._outcome(route, resources, gateway)
            outcomes[route.id] = outcome
            if isinstance(outcome, Translated):
                valid.append(route)
        for loser, winner in losers(valid, groups_of).items():
            outcomes[loser] = conflicted(winner)
        self._memos = {name: memo for name, memo in self._memos.items() if name in outcomes}
        verdicts = {route.id: verdict_of(route, outcomes[route.id]) for route in resources.routes}
        served = sorted(
            (route for route in valid if isinstance(outcomes[route.id], Translated)),
            key=lambda route: route.id,
        )
        return ClusterTranslation(self._grouped(served, outcomes), verdicts)

    def _forget_if_set_otherwise(self, resources: Resources) -> None:
        setting = (
            resources.environment,
            resources.open_to_all,
            resources.own_addresses,
            resources.proxies,
        )
        if setting != self._setting:
            self._setting = setting
            self._memos.clear()

    def _outcome(
        self, route: PassthroughRoute, resources: Resources, gateway: GatewayPolicy | None
    ) -> Translated | Refused:
        try:
            check_exposure(route, gateway)
        except Refused as refusal:
            self._memos.pop(route.id, None)
            return refusal
        memo = self._memos.get(route.id)
        if memo and (memo.route is route or memo.route == route):
            found = _found(memo.names, resources)
            if found == memo.found:
                return memo.outcome
        named = references(route)
        names = (tuple(sorted(named.secrets)), tuple(sorted(named.config_maps)))
        outcome = self._translated(route, resources)
        self._memos[route.id] = _Memo(route, names, _found(names, resources), outcome)
        return outcome

    def _translated(self, route: PassthroughRoute, resources: Resources) -> Translated | Refused:
        self.translated += 1
        try:
            return translate_route(route, resources)
        except Refused as refusal:
            return refusal

    def _grouped(
        self, served: Sequence[PassthroughRoute], outcomes: Mapping[str, Translated | Refused]
    ) -> dict[str, ir.Config]:
        members: dict[str, list[Translated]] = {}
        for group, item in _memberships(served, outcomes):
            members.setdefault(group, []).append(item)
        groups = {}
        for name, items in members.items():
            known = self._groups.get(name)
            same = known and len(known.members) == len(items)
            if known and same and all(map(_is, known.members, items)):
                groups[name] = known
            else:
                groups[name] = _Group(items, _config(items))
        self._groups = groups
        return {name: group.config for name, group in groups.items()}


def _memberships(
    served: Sequence[PassthroughRoute], outcomes: Mapping[str, Translated | Refused]
) -> Iterator[tuple[str, Translated]]:
    for route in served:
        outcome = outcomes[route.id]
        if isinstance(outcome, Translated):
            for group in groups_of(route):
                yield group, outcome


def _is(one: object, other: object) -> bool:
    return one is other


def _found(
    names: tuple[tuple[ObjectKey, ...], tuple[ObjectKey, ...]], resources: Resources
) -> tuple[object, ...]:
    secrets, config_maps = names
    return (
        *(resources.secrets.get(key) for key in secrets),
        *(resources.config_maps.get(key) for key in config_maps),
    )


def _config(items: Sequence[Translated]) -> ir.Config:
    return ir.Config(
        routes=tuple(item.route for item in items),
        secrets={name: value for item in items for name, value in item.secrets.items()},
        authorities={name: pem for item in items for name, pem in item.authorities.items()},
        certificates={name: pair for item in items for name, pair in item.certificates.items()},
    )
