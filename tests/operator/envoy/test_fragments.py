"""Rendering costs what has changed, and gives the same bytes wherever it is done."""

from __future__ import annotations

import gc
import random
import weakref
from typing import TYPE_CHECKING, Any

from thruway_operator.api.route import PassthroughRoute
from thruway_operator.envoy import fragments
from thruway_operator.resources.secret import SecretValue
from thruway_operator.translate import Resources
from thruway_operator.translate.cluster import ClusterTranslator, namespace_group

if TYPE_CHECKING:
    import pytest

    from thruway_operator import ir

GROUP = namespace_group("shop")


def route(number: int, **spec: Any) -> PassthroughRoute:
    credential = {"secretKeyRef": {"name": "openai", "key": "K"}}
    whole = {"path": f"/r{number}", "provider": "openai", "credential": credential, **spec}
    return PassthroughRoute.model_validate(
        {"namespace": "shop", "name": f"r{number}", "created": f"{number:05}", "spec": whole}
    )


def resources(routes: list[PassthroughRoute]) -> Resources:
    return Resources(tuple(routes), {("shop", "openai"): {"K": SecretValue("sk-x")}})


def test_one_route_among_five_thousand_is_rendered_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    translator, routes = ClusterTranslator(), [route(number) for number in range(5000)]
    config = translator.translate(resources(routes), None).groups[GROUP]
    before = fragments.render_fragments(config, "PEM")
    translated, rendered = translator.translated, list[str]()
    render = fragments._rendered

    def note(route: ir.Route) -> fragments.RouteShare:
        rendered.append(route.id)
        return render(route)

    monkeypatch.setattr(fragments, "_rendered", note)

    routes[7] = route(7, request={"methods": ["GET"]})
    config = translator.translate(resources(routes), None).groups[GROUP]
    after = fragments.render_fragments(config, "PEM")

    assert rendered == ["shop/r7"]
    assert translator.translated == translated + 1
    assert [name for name in after if after[name] != before[name]] == ["shop/r7"]


def test_the_order_of_routes_makes_no_difference() -> None:
    routes = [route(number) for number in range(50)]
    shuffled = random.Random(1).sample(routes, len(routes))

    snapshots = [
        fragments.assemble(
            list(
                fragments.render_fragments(
                    ClusterTranslator().translate(resources(given), None).groups[GROUP], "PEM"
                ).values()
            )
        )
        for given in (routes, shuffled)
    ]

    assert snapshots[0] == snapshots[1]


def test_no_cache_keeps_a_route_that_is_gone() -> None:
    """The rendered route holds the keys of its clients."""
    translator = ClusterTranslator()
    config = translator.translate(resources([route(1)]), None).groups[GROUP]
    fragments.render_fragments(config, "PEM")
    gone = weakref.ref(config.routes[0])

    config = translator.translate(resources([route(2)]), None).groups[GROUP]
    fragments.render_fragments(config, "PEM")
    gc.collect()

    assert gone() is None
    assert {item.id for item in fragments._SHARES} >= {"shop/r2"}
