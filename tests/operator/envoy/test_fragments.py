"""Rendering costs what has changed, and gives the same bytes wherever it is done."""

from __future__ import annotations

import gc
import random
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.api.route import PassthroughRoute
from thruway_operator.envoy.fragments import Renderer, assemble, render_fragments
from thruway_operator.resources.secret import SecretValue
from thruway_operator.translate import Resources, Translator

if TYPE_CHECKING:
    from thruway_operator import ir
    from thruway_operator.xds.protocol.resources import Fragment


def route(number: int, **spec: Any) -> PassthroughRoute:
    credential = {"secretKeyRef": {"name": "openai", "key": "K"}}
    whole = {"path": f"/r{number}", "provider": "openai", "credential": credential, **spec}
    return PassthroughRoute.model_validate(
        {"namespace": "shop", "name": f"r{number}", "created": f"{number:05}", "spec": whole}
    )


def config_of(
    routes: list[PassthroughRoute], translator: Translator | None = None, key: str = "sk-x"
) -> ir.Config:
    secrets = {("shop", "openai"): {"K": SecretValue(key)}}
    translator = translator or Translator()
    return translator.translate(Resources(tuple(routes), secrets)).config


def test_one_route_among_five_thousand_is_rendered_alone() -> None:
    translator, renderer = Translator(), Renderer("PEM")
    routes = [route(number) for number in range(5000)]
    before = renderer.render({"": config_of(routes, translator)})[""]
    translated = translator.translated

    routes[7] = route(7, request={"methods": ["GET"]})
    after = renderer.render({"": config_of(routes, translator)})[""]

    assert translator.translated == translated + 1
    assert [name for name in after if after[name] is not before[name]] == ["shop/r7"]
    assert after["shop/r7"] != before["shop/r7"]
    # Equal upstreams of several routes are one resource.
    assert len({id(item) for one in after.values() for item in one.clusters}) == 2


def test_the_order_of_routes_makes_no_difference() -> None:
    routes = [route(number) for number in range(50)]
    shuffled = random.Random(1).sample(routes, len(routes))

    one, other = (
        assemble(list(render_fragments(config_of(given), "PEM").values()))
        for given in (routes, shuffled)
    )

    assert one == other


@pytest.mark.parametrize(
    ("spec", "key", "system_ca"),
    [
        ({"request": {"methods": ["GET"]}}, "sk-x", "PEM"),
        ({}, "sk-y", "PEM"),
        ({}, "sk-x", "ANOTHER"),
    ],
    ids=["the route", "its Secret", "the trusted CAs"],
)
def test_a_digest_changes_with_everything_that_is_rendered(
    spec: dict[str, Any], key: str, system_ca: str
) -> None:
    def rendered(config: ir.Config, ca: str) -> Fragment:
        return render_fragments(config, ca)["shop/r1"]

    before = rendered(config_of([route(1)]), "PEM")
    assert rendered(config_of([route(1)]), "PEM").digest == before.digest

    assert rendered(config_of([route(1, **spec)], key=key), system_ca).digest != before.digest


def test_nothing_keeps_a_route_that_is_gone() -> None:
    """The rendered route contains the keys of its clients."""
    translator, renderer = Translator(), Renderer("PEM")
    fragments = renderer.render({"": config_of([route(1)], translator)})[""]
    gone = weakref.ref(fragments["shop/r1"].secrets[0])
    del fragments

    renderer.render({"": config_of([route(2)], translator, "sk-y")})
    gc.collect()

    assert gone() is None
