"""The options of `thruway operator` that configure sidecars."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from thruway_operator.cli.shared import Unusable
from thruway_operator.text.hostport import split_host_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thruway_operator.controller.options import Injector
    from thruway_operator.sidecar.decide.settings import Resources

__all__ = ["injector", "injector_options", "service_names"]

F = TypeVar("F", bound="Callable[..., Any]")

_POLICIES: Final = click.Choice(["Always", "IfNotPresent", "Never"])
_LEVELS: Final = click.Choice(["debug", "info", "warning", "error"])
_OPTIONS: Final = (
    click.option(
        "--inject-listen",
        metavar="[HOST]:PORT",
        help="Address of the injector's webhook.  [default: no injector]",
    ),
    click.option("--inject-service", default="", help="Name of the webhook's Service."),
    click.option(
        "--inject-webhook",
        default="",
        help="Name of the webhook configuration whose CA to maintain.",
    ),
    click.option("--inject-operator", metavar="HOST:PORT", help="Address of xDS for sidecars."),
    click.option("--inject-image", help="Thruway's image in sidecars."),
    click.option("--inject-envoy-image", help="Envoy's image in sidecars."),
    click.option(
        "--inject-pull-secret",
        multiple=True,
        help="Name of a Secret in the pods' namespaces with the login of the images' registry.",
    ),
    click.option("--inject-pull-policy", default="IfNotPresent", type=_POLICIES),
    click.option("--inject-envoy-pull-policy", default="IfNotPresent", type=_POLICIES),
    click.option(
        "--inject-port",
        default=4000,
        type=click.IntRange(1024, 65535),
        help="Address at which applications reach their sidecar.",
    ),
    click.option("--inject-log-level", default="warning", type=_LEVELS),
    click.option(
        "--inject-run-as-user",
        default="65533",
        metavar="ID",
        help="User ID of sidecars; assigned: the platform assigns one.",
    ),
    click.option(
        "--inject-metrics",
        default="Anywhere",
        type=click.Choice(["Anywhere", "Pod"]),
        help="From where the metrics of sidecars can be read.",
    ),
    click.option("--inject-drain", default=30, type=click.IntRange(0, 86_400)),
    click.option(
        "--inject-resources",
        default="{}",
        metavar="JSON",
        help="Resources of the containers: {envoy: {requests: {cpu: …}, …}, extproc: …}.",
    ),
)


def injector_options(function: F) -> F:
    """Add the options."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def service_names(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names by which the API server calls the webhook."""
    if not (given["inject_listen"] and given["inject_service"]):
        return ()
    return (f"{given['inject_service']}.{given['namespace']}.svc",)


def injector(given: Mapping[str, Any]) -> Injector | None:
    """Return the injector that the options describe, or None."""
    from thruway_operator.controller.options import Injector
    from thruway_operator.sidecar.decide import Images, InjectorError, Settings
    from thruway_operator.sidecar.decide.settings import check_image
    from thruway_operator.sidecar.decide.users import check_user

    if not given["inject_listen"]:
        return None
    host, port = _address(given["inject_listen"], "--inject-listen")
    for name in ("inject_operator", "inject_image", "inject_envoy_image"):
        if not given[name]:
            raise Unusable(f"--inject-listen needs --{name.replace('_', '-')}")
    _address(given["inject_operator"], "--inject-operator")
    try:
        images = Images(
            check_image(given["inject_image"], "--inject-image"),
            check_image(given["inject_envoy_image"], "--inject-envoy-image"),
            given["inject_pull_policy"],
            given["inject_envoy_pull_policy"],
        )
        envoy, extproc = _resources(given["inject_resources"])
        user = check_user(given["inject_run_as_user"], "--inject-run-as-user")
    except InjectorError as error:
        raise Unusable(str(error)) from None
    settings = Settings(
        version=version("thruway"),
        namespace=given["namespace"],
        operator=given["inject_operator"],
        images=images,
        port=given["inject_port"],
        log_level=given["inject_log_level"],
        envoy=envoy,
        extproc=extproc,
        pull_secrets=tuple(dict.fromkeys(given["inject_pull_secret"])),
        user=user,
        private_metrics=given["inject_metrics"] == "Pod",
        drain=given["inject_drain"],
    )
    return Injector(settings, host, port, given["inject_webhook"])


def _resources(text: str) -> tuple[Resources, Resources]:
    from thruway_operator.sidecar.decide.settings import (
        ENVOY_RESOURCES,
        EXTPROC_RESOURCES,
        read_resources,
    )

    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.keys() <= {"envoy", "extproc"}:
        raise Unusable("--inject-resources must be a JSON object with envoy and extproc")
    envoy, extproc = found.get("envoy"), found.get("extproc")
    return (
        ENVOY_RESOURCES if envoy is None else read_resources(envoy, "envoy"),
        EXTPROC_RESOURCES if extproc is None else read_resources(extproc, "extproc"),
    )


def _address(value: str, option: str) -> tuple[str, int]:
    found = split_host_port(value)
    if found is None or not found[1]:
        raise Unusable(f"{option} must end in a port, from 1 to 65535")
    return found
