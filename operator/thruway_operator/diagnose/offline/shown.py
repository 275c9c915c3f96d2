"""What would be served, as plain data for YAML and JSON, redacted."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import yaml

from thruway_extproc.rule import Rule
from thruway_operator import ir
from thruway_operator.diagnose.findings.finding import hide
from thruway_operator.envoy.fragments import assemble, render_fragments
from thruway_operator.envoy.messages import parsed, to_plain
from thruway_operator.envoy.names import ROUTE_CONFIG
from thruway_operator.resources.secret import SecretValue
from thruway_operator.text.safe import Redactor
from thruway_operator.xds.protocol.resources import CLUSTER, ROUTE, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thruway_operator.diagnose.offline.loading import Input
    from thruway_operator.xds.protocol.resources import Resource, Snapshot

__all__ = [
    "certificate_view",
    "credential_view",
    "dump",
    "envoy_view",
    "ir_view",
    "manifest",
    "plain",
    "proxy_view",
    "redacted",
    "rule_view",
    "rules_view",
    "secret_view",
    "snapshot_of_input",
    "summary_view",
    "without_client_keys",
]

_REDACTED = "[redacted]"


class _Dumper(yaml.SafeDumper):
    """Writes no anchors: what occurs twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(value: Any) -> str:  # noqa: ANN401 - plain data
    """Return plain data as YAML, short lists and mappings in one line."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )


def manifest(value: Any) -> str:  # noqa: ANN401 - plain data
    """Return a manifest as YAML, as people write it."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=1_000_000,  # never fold text
        default_flow_style=False,
    )


def redacted(value: Any, secrets: Iterable[SecretValue]) -> Any:  # noqa: ANN401 - plain data
    """Return plain data without these secrets and anything that looks like a key."""
    redactor = Redactor()
    for secret in secrets:
        redactor.register(secret.reveal().strip())

    def clean(part: Any) -> Any:  # noqa: ANN401 - plain data
        if isinstance(part, str):
            return hide(redactor.redact(part))
        if isinstance(part, dict):
            return {clean(key): clean(inner) for key, inner in part.items()}
        return [clean(inner) for inner in part] if isinstance(part, list) else part

    return clean(value)


def plain(value: Any) -> Any:  # noqa: ANN401 - a dataclass of the IR, or a part of one
    """Return dataclasses, tuples and enums as plain data; empty fields are left out."""
    if isinstance(value, SecretValue):
        return _REDACTED
    if isinstance(value, Rule):
        return rule_view(value)
    if is_dataclass(value):
        parts = {item.name: getattr(value, item.name) for item in fields(value)}
        return {name: plain(part) for name, part in parts.items() if part not in (None, "", ())}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, tuple | list) else value


def rule_view(rule: Rule) -> dict[str, Any]:
    """Return a rule's fields that are not empty."""
    empty = asdict(Rule("", "", "", ""))
    return {key: plain(value) for key, value in asdict(rule).items() if value != empty[key]}


def credential_view(credential: ir.Credential) -> str:
    """Return a credential in words, without its value."""
    _, name, key = credential.secret.split("/", 2)
    return f"{credential.header}: {credential.prefix}{_REDACTED} (Secret {name}, key {key})"


def certificate_view(name: str) -> str:
    """Return a client certificate in words."""
    return f"Secret {name.partition('/')[2]}"


def proxy_view(proxy: ir.ForwardProxy) -> str:
    """Return a forward proxy as a URL, without its login."""
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return f"{'https' if proxy.secure else 'http'}://{host}:{proxy.port}"


def summary_view(given: Input) -> dict[str, Any]:
    """Return each route with its branches: matches, upstream, credential, rule."""
    translation = given.translation
    refused = {
        name: verdict.accepted.message
        for name, verdict in translation.verdicts.items()
        if not verdict.accepted.status
    }
    view: dict[str, Any] = {"routes": [_route(route) for route in translation.config.routes]}
    return view | ({"refused": refused} if refused else {})


def _route(route: ir.Route) -> dict[str, Any]:
    view: dict[str, Any] = {"route": route.id}
    if route.hostnames:
        view["hostnames"] = list(route.hostnames)
    if route.methods:
        view["methods"] = list(route.methods)
    if route.clients is not None:
        view["clients"] = [client.id for client in route.clients]
    return view | {"ways": [_way(branch) for branch in route.branches]}


def _way(branch: ir.Branch) -> dict[str, Any]:
    matches = [match.path if match.exact else f"{match.path} and below" for match in branch.matches]
    view: dict[str, Any] = {"matches": matches}
    if branch.name:
        view = {"override": branch.name, **view}
    outcome = branch.outcome
    if isinstance(outcome, ir.Refusal):
        return view | {"answer": f"{outcome.status} {outcome.code}: {outcome.message}"}
    endpoint, rule = outcome.endpoint, outcome.rule
    scheme = "https" if endpoint.tls else "http"
    credential = endpoint.credential
    view["upstream"] = f"{scheme}://{rule.authority}{rule.base}"
    if endpoint.proxy:
        view["proxy"] = proxy_view(endpoint.proxy)
    view["credential"] = credential_view(credential) if credential else "the client's own"
    if endpoint.more_headers:
        view["setFromSecret"] = [credential_view(item) for item in endpoint.more_headers]
    if endpoint.tls and endpoint.tls.client:
        view["clientCertificate"] = certificate_view(endpoint.tls.client)
    view["rule"] = rule_view(rule)
    return view


def rules_view(given: Input) -> dict[str, Any]:
    """Return the rule of each branch, by its name in Envoy's route and the log."""
    view: dict[str, Any] = {}
    for route in given.translation.config.routes:
        for branch in route.branches:
            if isinstance(branch.outcome, ir.Target):
                name = f"{route.id}#{branch.name}" if branch.name else route.id
                exact = any(match.exact for match in branch.matches)
                view[f"{name} (exact)" if exact else name] = rule_view(branch.outcome.rule)
    return view


def ir_view(given: Input) -> dict[str, Any]:
    """Return the IR; CA bundles as the number of their certificates."""
    config = given.translation.config
    return {
        "routes": plain(config.routes),
        "secrets": dict.fromkeys(sorted(config.secrets), _REDACTED),
        "authorities": {name: _count(pem) for name, pem in sorted(config.authorities.items())},
        "certificates": dict.fromkeys(sorted(config.certificates), _REDACTED),
    }


def snapshot_of_input(given: Input) -> Snapshot:
    """Return everything that Envoy would get."""
    fragments = render_fragments(given.translation.config, given.system_ca)
    return assemble(list(fragments.values()), keep_browsers_out=True)


def envoy_view(given: Input) -> dict[str, Any]:
    """Return Envoy's RouteConfiguration, clusters and secrets."""
    snapshot = snapshot_of_input(given)
    config = parsed(ROUTE, snapshot[ROUTE][ROUTE_CONFIG].body)
    return {
        "routeConfiguration": without_client_keys(to_plain(config)),
        "clusters": [
            to_plain(parsed(CLUSTER, resource.body))
            for _, resource in sorted(snapshot[CLUSTER].items())
        ],
        "secrets": {
            name: secret_view(resource) for name, resource in sorted(snapshot[SECRET].items())
        },
    }


def without_client_keys(value: Any) -> Any:  # noqa: ANN401 - plain data
    """Return Envoy's routes as plain data without the keys of `api_key_auth`."""
    if isinstance(value, list):
        return [without_client_keys(part) for part in value]
    if not isinstance(value, dict):
        return value
    view = {name: without_client_keys(part) for name, part in value.items()}
    if isinstance(view.get("credentials"), list):
        view["credentials"] = [{**item, "key": _REDACTED} for item in view["credentials"]]
    return view


def secret_view(resource: Resource) -> str:
    """Return the kind of a serialized Secret, without its content."""
    secret = parsed(SECRET, resource.body)
    if not secret.validation_context.HasField("trusted_ca"):
        return _REDACTED
    return _count(secret.validation_context.trusted_ca.inline_string)


def _count(pem: str) -> str:
    count = pem.count("-----BEGIN CERTIFICATE-----")
    return f"{count} CA certificate{'' if count == 1 else 's'}"
