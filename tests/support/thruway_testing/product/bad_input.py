"""A route with every field in it, and all the ways in which one of them can be wrong."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from thruway_operator.api.crd import crd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "CANARY",
    "HEAD",
    "PLACES",
    "SPEC",
    "WEIRD",
    "WRONG_TYPES",
    "Steps",
    "changed",
    "name_of",
    "out_of_range",
    "rules_of",
    "value_at",
]

CANARY = "sk-canary-bad-input-0123456789abcdef"
WEIRD = "\U0001f600\u202e\x85\x9b[31m"
HEAD = {"apiVersion": "thruway.dev/v1alpha1", "kind": "PassthroughRoute"}
REF = {"name": "openai", "key": "KEY"}
UPSTREAM = {
    "url": "https://api.example.com/base",
    "versionPrefix": "/v1",
    "tls": {
        "serverName": "api.example.com",
        "minVersion": "TLSv1.3",
        "caCertificateRef": {"kind": "ConfigMap", "name": "ca", "key": "ca.crt"},
        "clientCertificateRef": {"name": "client"},
    },
    "protocol": "HTTP1",
    "proxy": {"url": "http://proxy.example:3128", "secretKeyRef": REF},
}
PAIRS = [{"name": "X-A", "value": "a"}]
HEADERS = {"set": PAIRS, "add": PAIRS, "remove": ["X-B"]}
CREDENTIAL = {"secretKeyRef": REF, "header": "X-Key", "prefix": "Key "}
SPEC: dict[str, Any] = {
    "path": "/all",
    "hostnames": ["api.example.com"],
    "provider": "openai",
    "upstream": UPSTREAM,
    "credential": CREDENTIAL,
    "clientAuth": {"type": "APIKey", "secretRef": {"name": "clients"}, "header": "X-Proxy-Key"},
    "request": {
        "methods": ["GET"],
        "headers": {
            **HEADERS,
            "forwardOnly": ["X-C"],
            "setFromSecret": [{"name": "X-Gateway", "prefix": "Token ", "secretKeyRef": REF}],
        },
        "query": {"default": PAIRS, "set": PAIRS, "remove": ["q"]},
    },
    "response": {"headers": HEADERS},
    "overrides": [
        {"path": "/v1/x", "match": "Exact", "upstream": UPSTREAM, "credential": CREDENTIAL}
    ],
    "timeouts": {"connect": "1s", "request": "1m", "idle": "1h"},
    "retries": {"attempts": 2, "retryOn": ["ConnectFailure"]},
    "allowedOrigins": ["https://app.example"],
    "exposure": "Namespace",
}

Steps = tuple[str | int, ...]


def schema_places(schema: dict[str, Any], place: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    yield place, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schema_places(inner, (*place, name))
    if "items" in schema:
        yield from schema_places(schema["items"], (*place, 0))


SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
PLACES = [(place, schema) for place, schema in schema_places(SCHEMA) if place]


def value_at(place: Steps) -> Any:
    value: Any = SPEC
    for step in place:
        value = value[step]
    return value


def changed(place: Steps, change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a spec with everything in it, and one place of it changed."""
    spec: dict[str, Any] = copy.deepcopy(json.loads(json.dumps(SPEC)))
    holder: Any = spec
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = change(holder[place[-1]])
    return spec


def rules_of(schema: dict[str, Any]) -> list[dict[str, str]]:
    """Return its CEL rules."""
    return list(schema.get("x-kubernetes-validations", ()))


def out_of_range(place: Steps, schema: dict[str, Any]) -> list[Any]:
    """Return what is too long, too large or not one of those listed; a key in its place."""
    if schema["type"] == "string":
        wrong: list[Any] = ["x" * (schema["maxLength"] + 1), "x" * 100_000]
        ruled = any(item["rule"].startswith('self.matches(r"^') for item in rules_of(schema))
        return [*wrong, CANARY + "\n" + WEIRD] if "enum" in schema or ruled else wrong
    if schema["type"] == "integer":
        return [schema["minimum"] - 1, schema["maximum"] + 1, 10**30]
    if schema["type"] == "array":
        return [value_at(place) * (schema["maxItems"] + 1)]
    return []


def name_of(place: Steps) -> str:
    return "spec" + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in place)


WRONG_TYPES: dict[str, list[Any]] = {
    "string": [1, True, [], {}, ["x"], {"x": "y"}, 1.5],
    "integer": ["1", 1.5, True, [], {}],
    "array": ["x", 1, {}, True],
    "object": ["x", 1, [], True, [{}]],
}
