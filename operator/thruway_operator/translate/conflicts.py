"""Which of two routes that claim the same path wins: dedicated means dedicated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thruway_operator.api.route import PassthroughRoute

__all__ = ["losers", "overlap"]


def losers(routes: Iterable[PassthroughRoute]) -> dict[str, PassthroughRoute]:
    """Return, for each route that lost, by its id, the route that won.

    The older wins (`created`, then namespace and name). A route that lost claims nothing, so that
    what it collides with in turn is served. Independent of the order of the input.
    """
    ordered = sorted(routes, key=lambda route: (route.created, route.namespace, route.name))
    served: dict[tuple[str, ...], list[PassthroughRoute]] = {}
    below: dict[tuple[str, ...], list[PassthroughRoute]] = {}
    lost: dict[str, PassthroughRoute] = {}
    for route in ordered:
        segments = tuple(route.spec.path.split("/")[1:])
        ancestors = [segments[:depth] for depth in range(1, len(segments) + 1)]
        rivals = [rival for claim in ancestors for rival in served.get(claim, ())]
        rivals += below.get(segments, [])
        winner = next((rival for rival in rivals if _hosts_overlap(route, rival)), None)
        if winner is not None:
            lost[route.id] = winner
            continue
        served.setdefault(segments, []).append(route)
        for ancestor in ancestors[:-1]:
            below.setdefault(ancestor, []).append(route)
    return lost


def _hosts_overlap(one: PassthroughRoute, other: PassthroughRoute) -> bool:
    first, second = one.spec.hostnames, other.spec.hostnames
    if not first or not second:
        return True
    return any(overlap(a, b) for a in first for b in second)


def overlap(one: str, other: str) -> bool:
    """Tell whether some host name fits both, of which each may begin with `*.`."""
    if one == other:
        return True
    if one.startswith("*.") and other.startswith("*."):
        return one.endswith(other[1:]) or other.endswith(one[1:])
    if other.startswith("*."):
        one, other = other, one
    return one.startswith("*.") and other.endswith(one[1:])
