"""Resources in; the IR and a verdict for each route out.

No I/O and no clock. The same input gives the same output, whatever its order. One invalid route
gets a condition and is left out; it never affects the others.
Contracts: "layers of the operator", "pure packages do no I/O".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thruway_operator import ir
from thruway_operator.resources.model import Resources
from thruway_operator.translate.conflicts import losers
from thruway_operator.translate.routes import translate_route
from thruway_operator.translate.verdict import Condition, Refused, Verdict, conflicted, verdict_of

if TYPE_CHECKING:
    from thruway_operator.translate.translated import Translated

__all__ = ["Condition", "Resources", "Translation", "Verdict", "translate"]


@dataclass(frozen=True, slots=True)
class Translation:
    """What is served, and what each route is told (by its id, sorted)."""

    config: ir.Config
    verdicts: dict[str, Verdict]
    conflicts: dict[str, str] = field(default_factory=dict)
    """For each route that lost its path, by its id, the route that has it."""


def translate(resources: Resources) -> Translation:
    """Translate all routes of one group of proxies."""
    translated: dict[str, Translated] = {}
    refusals: dict[str, Refused] = {}
    for route in resources.routes:
        try:
            translated[route.id] = translate_route(route, resources)
        except Refused as refusal:
            refusals[route.id] = refusal
    # A route that is refused for itself claims no path.
    valid = [route for route in resources.routes if route.id in translated]
    lost = losers(valid)
    for loser, winner in lost.items():
        refusals[loser] = conflicted(winner)
        del translated[loser]
    verdicts = {
        route.id: verdict_of(route, refusals.get(route.id) or translated[route.id])
        for route in sorted(resources.routes, key=lambda route: route.id)
    }
    served = [translated[name] for name in sorted(translated)]
    config = ir.Config(
        routes=tuple(item.route for item in served),
        secrets={name: value for item in served for name, value in item.secrets.items()},
        authorities={name: pem for item in served for name, pem in item.authorities.items()},
        certificates={name: pair for item in served for name, pair in item.certificates.items()},
    )
    return Translation(config, verdicts, {loser: winner.id for loser, winner in lost.items()})
