"""The snippets at the start are for a route that they reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from thruway_operator.api.route import PassthroughRoute, PassthroughRouteSpec
from thruway_operator.laptop.up.examples import examples
from thruway_operator.resources.secret import SecretValue
from thruway_operator.sources.files.network import Setting
from thruway_operator.translate import Resources, translate

if TYPE_CHECKING:
    from thruway_operator.laptop.up.console import Snippets

CREDENTIAL = {"secretKeyRef": {"name": "openai", "key": "OPENAI_API_KEY"}}
GOOD = {"provider": "openai", "credential": CREDENTIAL}
HELD = {("default", "openai"): {"OPENAI_API_KEY": SecretValue("sk-held")}}
HELD |= {("default", "clients"): {"me": SecretValue("tw-0123456789")}}


def shown(
    *specs: dict[str, Any], keys: int = 0, demonstration: str | None = None
) -> Snippets | None:
    setting = Setting(
        (("127.0.0.1", 4001),), tuple(SecretValue(f"tw-0123456789{n}") for n in range(keys))
    )
    routes = tuple(
        PassthroughRoute(
            name=f"r{number}",
            spec=PassthroughRouteSpec.model_validate({"path": f"/r{number}", **spec}),
        )
        for number, spec in enumerate(specs)
    )
    resources = Resources(routes=routes, secrets=HELD, environment={})
    translation = translate(setting.apply(resources))
    return examples("http://localhost:4001", setting, resources, translation, demonstration)


@pytest.mark.parametrize(
    "other",
    [
        {"provider": "anthropic"},
        {"upstream": {"url": "https://another.example"}},
        {**GOOD, "credential": {"secretKeyRef": {"name": "missing", "key": "K"}}},
        {**GOOD, "upstream": {"url": "no-url-at-all"}},
        {**GOOD, "request": {"methods": ["GET"]}},
        {**GOOD, "overrides": [{"path": "/v1/responses", "upstream": {"url": "http://x"}}]},
    ],
)
def test_a_route_that_they_cannot_call_has_none(other: dict[str, Any]) -> None:
    assert shown(other) is None
    found = shown(other, GOOD)
    assert found is not None
    for text in found:
        assert "http://localhost:4001/r1/v1" in text


@pytest.mark.parametrize(
    ("spec", "keys", "curl", "python"),
    [
        (GOOD, 0, None, 'api_key="sk-anything")'),
        (GOOD, 1, "$THRUWAY_API_KEY", 'api_key=os.environ["THRUWAY_API_KEY"])'),
        (GOOD, 2, "${THRUWAY_API_KEY%%,*}", 'api_key=os.environ["THRUWAY_API_KEY"].split(",")[0])'),
        (
            {**GOOD, "clientAuth": {"type": "APIKey", "secretRef": {"name": "clients"}}}, 2,
            "$THRUWAY_API_KEY", 'api_key=os.environ["THRUWAY_API_KEY"])',
        ),
        ({"provider": "openai"}, 0, "$OPENAI_API_KEY", 'api_key=os.environ["OPENAI_API_KEY"])'),
    ],
)  # fmt: skip
def test_the_key_that_has_to_be_sent(
    spec: dict[str, Any], keys: int, curl: str | None, python: str
) -> None:
    found = shown(spec, keys=keys)
    assert found is not None
    assert python in found.python
    if curl:
        assert f'-H "Authorization: Bearer {curl}"' in found.curl
    else:
        assert "Authorization" not in found.curl


def test_the_demonstration_takes_any_key() -> None:
    found = shown({"provider": "openai"}, demonstration="http://127.0.0.1:1")
    assert found is not None
    assert "sk-anything" in found.python


def test_the_host_that_has_to_be_sent() -> None:
    found = shown({**GOOD, "hostnames": ["*.ai.example", "b.example"]})
    assert found is not None
    assert "-H 'Host: any.ai.example'" in found.curl
    assert 'default_headers={"Host": "any.ai.example"}' in found.python
