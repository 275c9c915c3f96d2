"""Decides which of two routes with the same path wins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from thruway_operator.api.route import PassthroughRoute

__all__ = ["losers", "overlap"]


def _one_group(_: PassthroughRoute) -> tuple[str, ...]:
    return ("",)


def losers(
    routes: Iterable[PassthroughRoute],
    groups_of: Callable[[PassthroughRoute], tuple[str, ...]] = _one_group,
) -> dict[str, PassthroughRoute]:
    """Return, for each route that lost, by its id, the route that won.

    The older one wins (`created`, then namespace and name). Only routes of one group of proxies
    collide; a route that loses in one of its groups loses in all. A route that lost claims no
    path, so routes that collide only with it are served. The order of the input does not matter.
    """
    ordered = sorted(routes, key=lambda route: (route.created, route.namespace, route.name))
    served: dict[tuple[str, ...], list[PassthroughRoute]] = {}
    below: dict[tuple[str, ...], list[PassthroughRoute]] = {}
    lost: dict[str, PassthroughRoute] = {}
    for route in ordered:
        segments = route.spec.path.split("/")[1:]
        claims = [(group, *segments) for group in groups_of(route)]
        ancestors = [claim[:depth] for claim in claims for depth in range(2, len(claim) + 1)]
        rivals = [rival for claim in ancestors for rival in served.get(claim, ())]
        rivals += [rival for claim in claims for rival in below.get(claim, ())]
        winner = next((rival for rival in rivals if _hosts_overlap(route, rival)), None)
        if winner is not None:
            lost[route.id] = winner
            continue
        for claim in claims:
            served.setdefault(claim, []).append(route)
        for ancestor in ancestors:
            if ancestor not in claims:
                below.setdefault(ancestor, []).append(route)
    return lost


def _hosts_overlap(one: PassthroughRoute, other: PassthroughRoute) -> bool:
    first, second = one.spec.hostnames, other.spec.hostnames
    if not first or not second:
        return True
    return any(overlap(a, b) for a in first for b in second)


def overlap(one: str, other: str) -> bool:
    """Tell whether a host name matches both patterns, which may begin with `*.`."""
    if one == other:
        return True
    if one.startswith("*.") and other.startswith("*."):
        return one.endswith(other[1:]) or other.endswith(one[1:])
    if other.startswith("*."):
        one, other = other, one
    return one.startswith("*.") and other.endswith(one[1:])
