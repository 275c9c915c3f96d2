"""The operator's options for its injector, as the chart gives them and as they can be wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from thruway_operator.cli.injector import injector, service_names
from thruway_operator.cli.operator import operator
from thruway_testing.product.chart import objects
from thruway_testing.product.command import thruway

BASE = (
    "operator",
    *("--replica", "a", "--namespace", "thruway-system", "--address", "10.0.0.1"),
    *("--token", "/no/token", "--tls-secret", "s", "--tls-config-map", "c"),
)
GOOD = {
    "--inject-listen": ":9443",
    "--inject-operator": "thruway-operator.thruway-system.svc:18000",
    "--inject-image": "thruway/thruway:1",
    "--inject-envoy-image": "envoyproxy/envoy:1",
}


def read(arguments: list[str]) -> dict[str, Any]:
    """Return what click makes of arguments."""
    return dict(operator.make_context("operator", [*BASE[1:], *arguments]).params)


def test_what_the_chart_says() -> None:
    values = {
        "image": {"registry": "registry.example", "pullPolicy": "Always"},
        "injector": {
            "port": 4100,
            "logLevel": "info",
            "runAsUser": "assigned",
            "metrics": "Pod",
            "drain": {"atMostSeconds": 60},
            "envoy": {
                "resources": {"requests": {"cpu": 1}, "limits": dict.fromkeys(("cpu", "memory"))}
            },
        },
    }
    deployment = next(
        item for item in objects(values)
        if item["kind"] == "Deployment" and item["metadata"]["name"] == "thruway-operator"
    )  # fmt: skip
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    given = read([item for item in arguments if item.startswith("--inject-")])
    found = injector(given)
    assert found is not None
    assert (found.host, found.port, found.webhook) == ("", 9443, "thruway-injector")
    assert service_names(given) == ("thruway-injector.thruway-system.svc",)
    settings = found.settings
    assert settings.operator == "thruway-operator.thruway-system.svc:18000"
    assert settings.images.thruway == "registry.example/thruway/thruway:0.1.0"
    assert settings.images.thruway_pull_policy == "Always"
    assert (settings.port, settings.log_level, settings.drain) == (4100, "info", 60)
    assert settings.envoy.cpu_request == "1"
    assert settings.user is None
    assert settings.private_metrics
    assert settings.extproc.memory_limit == "256Mi"


def test_without_it_there_is_none() -> None:
    given = read([])
    assert injector(given) is None
    assert service_names(given) == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--inject-listen": "9443x"}, "--inject-listen must end in a port"),
        ({"--inject-operator": ""}, "--inject-listen needs --inject-operator"),
        ({"--inject-operator": "host"}, "--inject-operator must end in a port"),
        ({"--inject-image": "a b"}, "--inject-image is not an image"),
        ({"--inject-port": "80"}, "--inject-port must be a whole number from 1024 to 65535"),
        ({"--inject-log-level": "loud"}, "--inject-log-level must be one of debug, info"),
        ({"--inject-resources": "{"}, "--inject-resources must be a JSON object"),
        ({"--inject-resources": '{"app": {}}'}, "--inject-resources must be a JSON object"),
        (
            {"--inject-resources": json.dumps({"envoy": {"limits": {"gpu": 1}}})},
            "resources of envoy may contain cpu and memory in requests and limits",
        ),
        (
            {"--inject-resources": json.dumps({"envoy": {"limits": {"memory": "lots"}}})},
            "memory in limits of envoy is not a quantity of memory",
        ),
    ],
)
def test_what_cannot_be_used(change: dict[str, str], sentence: str) -> None:
    options = [f"{name}={value}" for name, value in {**GOOD, **change}.items()]
    result = thruway(*BASE, *options)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
