"""Translates all routes, and again only those that changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thruway_operator import ir
from thruway_operator.translate.conflicts import losers
from thruway_operator.translate.groups import LAPTOP, laptop_group
from thruway_operator.translate.routes import translate_route
from thruway_operator.translate.translated import Translated
from thruway_operator.translate.verdict import Refused, Verdict, conflicted, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from thruway_operator.api.route import PassthroughRoute
    from thruway_operator.resources.model import Resources

__all__ = ["Translation", "Translator", "translate"]

_EMPTY = ir.Config((), {}, {})


@dataclass(frozen=True, slots=True)
class Translation:
    """What each group of proxies serves, and the verdict on each route, by its id."""

    groups: Mapping[str, ir.Config]
    """Only groups that serve a route."""
    verdicts: Mapping[str, Verdict]
    conflicts: Mapping[str, str] = field(default_factory=dict)
    """For each route that lost its path, by its id, the route that has it."""

    @property
    def config(self) -> ir.Config:
        """What the one group of a laptop serves."""
        return self.groups.get(LAPTOP, _EMPTY)


@dataclass(frozen=True, slots=True)
class _Memo:
    """A route's outcome, and all that it depends on except the setting."""

    digest: str
    found: tuple[object, ...]
    outcome: Translated | Refused


class Translator:
    """Translates again and again, each route only if something that it depends on changed.

    The same input gives the same output, whatever was translated before. `groups_of` returns the
    groups that serve a route.
    """

    def __init__(
        self, groups_of: Callable[[PassthroughRoute], tuple[str, ...]] = laptop_group
    ) -> None:
        self._groups_of = groups_of
        self._memos: dict[str, _Memo] = {}
        self._setting: tuple[object, ...] = ()
        self.translated = 0
        """How many times a route was translated, in total."""

    def translate(
        self,
        resources: Resources,
        check: Callable[[PassthroughRoute], None] = lambda _: None,
    ) -> Translation:
        """Translate all routes; `check` raises Refused for a route that is not allowed here."""
        self._forget_other_settings(resources)
        routes = sorted(resources.routes, key=lambda route: route.id)
        outcomes = {route.id: self._outcome(route, resources, check) for route in routes}
        self._memos = {name: memo for name, memo in self._memos.items() if name in outcomes}
        # A route that is refused on its own claims no path.
        valid = [route for route in routes if isinstance(outcomes[route.id], Translated)]
        lost = losers(valid, self._groups_of)
        outcomes |= {loser: conflicted(winner) for loser, winner in lost.items()}
        return Translation(
            self._grouped(valid, outcomes),
            {route.id: verdict_of(route, outcomes[route.id]) for route in routes},
            {loser: winner.id for loser, winner in lost.items()},
        )

    def _forget_other_settings(self, resources: Resources) -> None:
        setting = (
            resources.environment,
            resources.local_pages,
            resources.open_to_all,
            resources.own_addresses,
            resources.proxies,
        )
        if setting != self._setting:
            self._setting = setting
            self._memos.clear()

    def _outcome(
        self,
        route: PassthroughRoute,
        resources: Resources,
        check: Callable[[PassthroughRoute], None],
    ) -> Translated | Refused:
        memo = self._memos.pop(route.id, None)
        try:
            check(route)
        except Refused as refusal:
            return refusal
        found = _found(route, resources)
        if memo is None or (memo.digest, memo.found) != (route.digest, found):
            memo = _Memo(route.digest, found, self._translated(route, resources))
        self._memos[route.id] = memo
        return memo.outcome

    def _translated(self, route: PassthroughRoute, resources: Resources) -> Translated | Refused:
        self.translated += 1
        try:
            return translate_route(route, resources)
        except Refused as refusal:
            return refusal

    def _grouped(
        self,
        valid: Iterable[PassthroughRoute],
        outcomes: Mapping[str, Translated | Refused],
    ) -> dict[str, ir.Config]:
        members: dict[str, list[Translated]] = {}
        for route in valid:
            outcome = outcomes[route.id]
            if isinstance(outcome, Translated):
                for group in self._groups_of(route):
                    members.setdefault(group, []).append(outcome)
        return {name: _config(items) for name, items in members.items()}


def translate(resources: Resources) -> Translation:
    """Translate all routes of a laptop, from scratch."""
    return Translator().translate(resources)


def _found(route: PassthroughRoute, resources: Resources) -> tuple[object, ...]:
    """Return the objects that a route refers to; unchanged ones are the same objects as before."""
    known = {"Secret": resources.secrets, "ConfigMap": resources.config_maps}
    return tuple(known[kind].get(key) for kind, key in route.objects)


def _config(items: Iterable[Translated]) -> ir.Config:
    items = list(items)
    return ir.Config(
        routes=tuple(item.route for item in items),
        secrets={name: value for item in items for name, value in item.secrets.items()},
        authorities={name: pem for item in items for name, pem in item.authorities.items()},
        certificates={name: pair for item in items for name, pair in item.certificates.items()},
    )
