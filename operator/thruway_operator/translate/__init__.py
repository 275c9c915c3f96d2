"""Resources in; the IR and a verdict for each route out.

Pure: no I/O, no clock, no kopf, no grpc. The same input gives the same output, whatever its order.
One bad route gets a condition and is left out; it never holds back or damages the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thruway_operator import ir
from thruway_operator.translate.conflicts import losers
from thruway_operator.translate.resources import Resources
from thruway_operator.translate.routes import Translated, translate_route
from thruway_operator.translate.verdict import Condition, Refused, Verdict

if TYPE_CHECKING:
    from thruway_operator.api.route import PassthroughRoute

__all__ = ["Condition", "Resources", "Translation", "Verdict", "translate"]

_ACCEPTED = Condition("Accepted", True, "Accepted", "The route is valid.")
_RESOLVED = Condition("ResolvedRefs", True, "ResolvedRefs", "All references were found.")
_NOT_LOOKED_UP = Condition(
    "ResolvedRefs", None, "NotLookedUp", "The route is not accepted, so nothing was looked up."
)


@dataclass(frozen=True, slots=True)
class Translation:
    """What is served, and what each route is told (by its id, sorted)."""

    config: ir.Config
    verdicts: dict[str, Verdict]


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
    for loser, winner in losers(valid).items():
        refusals[loser] = _conflict(winner)
        del translated[loser]
    verdicts = {
        route.id: _verdict(route, translated.get(route.id), refusals.get(route.id))
        for route in sorted(resources.routes, key=lambda route: route.id)
    }
    served = [translated[name] for name in sorted(translated)]
    config = ir.Config(
        routes=tuple(item.route for item in served),
        secrets={name: value for item in served for name, value in item.secrets.items()},
        authorities={name: pem for item in served for name, pem in item.authorities.items()},
    )
    return Translation(config, verdicts)


def _conflict(winner: PassthroughRoute) -> Refused:
    return Refused(
        "Conflicted",
        f"path collides with {winner.spec.path} of the older route {winner.id}, which keeps it: "
        "use another path, or other hostnames",
    )


def _verdict(
    route: PassthroughRoute, translated: Translated | None, refusal: Refused | None
) -> Verdict:
    if refusal is not None:
        accepted = Condition("Accepted", False, refusal.reason, refusal.message)
        return Verdict(route.id, route.generation, accepted, _NOT_LOOKED_UP)
    failures = translated.failures if translated else []
    resolved = _RESOLVED
    if failures:
        message = "; ".join(dict.fromkeys(failure.message for failure in failures))
        resolved = Condition("ResolvedRefs", False, failures[0].reason, message)
    return Verdict(route.id, route.generation, _ACCEPTED, resolved)
