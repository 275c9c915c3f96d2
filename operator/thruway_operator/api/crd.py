"""The CustomResourceDefinition of `PassthroughRoute`, generated from the model.

pydantic's JSON schema is not a structural schema: references, unions with null and
`additionalProperties: false` are removed. Patterns, and what patterns cannot express, become CEL
rules with a message each. Their estimated cost is bounded, because all lists and texts have limits.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from typing import Any

from thruway_operator.api.problems import form
from thruway_operator.api.route import API_VERSION, KIND, PassthroughRouteSpec
from thruway_operator.api.rules import RULES, Rule

__all__ = ["crd"]

GROUP, VERSION = API_VERSION.split("/")
PLURAL = "passthroughroutes"

Schema = dict[str, Any]

_DROPPED = ("title", "examples", "discriminator", "$defs", "additionalProperties")

# Lists that server-side apply merges by the names of their items, which are unique.
_MAPS = {
    ("HeaderRules", "set"): ["name"],
    ("RequestHeaderRules", "set"): ["name"],
    ("RequestHeaderRules", "setFromSecret"): ["name"],
    ("QueryRules", "default"): ["name"],
    ("QueryRules", "set"): ["name"],
    ("PassthroughRouteSpec", "overrides"): ["path", "match"],
}
# Fields that are required in an override's upstream, and not elsewhere.
_REQUIRED = {"OverrideUpstream": ["url"]}

_STATUS_CONDITIONS = ("Ready", "Accepted", "ResolvedRefs", "Programmed")


def crd() -> Schema:
    """Return the whole object, in the form that `kubectl apply` accepts."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "thruway"},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ptr"],
                "categories": ["thruway"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _columns() -> list[Schema]:
    def text(name: str, path: str, description: str, **more: int) -> Schema:
        return {
            "name": name, "type": "string", "jsonPath": path, "description": description, **more
        }  # fmt: skip

    def condition(kind: str, field: str = "status") -> str:
        return f'.status.conditions[?(@.type=="{kind}")].{field}'

    return [
        text("Path", ".spec.path", "Path on Thruway."),
        text("Upstream", ".status.upstream", "Where requests go."),
        text("Ready", condition("Ready"), "Whether the route is valid and served."),
        text("Reason", condition("Ready", "reason"), "Why the route is ready or not."),
        {
            "name": "Proxies",
            "type": "integer",
            "jsonPath": ".status.proxies.connected",
            "description": "How many proxies are connected that serve the route.",
        },
        text("Accepted", condition("Accepted"), "Whether the route is valid.", priority=1),
        text(
            "Resolved",
            condition("ResolvedRefs"),
            "Whether all objects that the route refers to exist.",
            priority=1,
        ),
        text("Programmed", condition("Programmed"), "Whether every proxy serves it.", priority=1),
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]


def _root() -> Schema:
    return {
        "type": "object",
        "description": "Lets clients call an API directly, below a path on Thruway.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {
                "type": "string",
                "maxLength": 64,
                "description": f"Version of the schema: {API_VERSION}.",
            },
            "kind": {"type": "string", "maxLength": 64, "description": KIND},
            "metadata": {"type": "object"},
            "spec": _spec(),
            "status": _status(),
        },
    }


def _spec() -> Schema:
    schema = PassthroughRouteSpec.model_json_schema(by_alias=True)
    spec = _structural(schema, schema.get("$defs", {}), PassthroughRouteSpec.__name__)
    _put_patterns_into_words(spec, ())
    return {**spec, "description": "What the user asks for."}


def _put_patterns_into_words(schema: Schema, location: tuple[str, ...]) -> None:
    # The API server shows a `pattern` that does not match literally; a rule explains it.
    pattern = schema.pop("pattern", "")
    if pattern:
        rule = Rule(f'self.matches(r"{pattern}")', form(location))
        _add_rules(schema, (rule,), first=True)
    for name, part in schema.get("properties", {}).items():
        _put_patterns_into_words(part, (*location, name))
    if "items" in schema:
        _put_patterns_into_words(schema["items"], location)


def _structural(schema: Schema, models: Schema, model: str) -> Schema:
    """Return a schema without references and unions; `model` is the class that it describes."""
    result = dict(schema)
    if "$ref" in result:
        model = result.pop("$ref").rsplit("/", 1)[1]
        result = {**models[model], **result}
    if "anyOf" in result:
        kinds = [kind for kind in result.pop("anyOf") if kind.get("type") != "null"]
        if len(kinds) != 1:
            raise ValueError(f"a union in {model} cannot be expressed")
        # An absent field means none, so users need not know null.
        return _structural({**kinds[0], **result}, models, model)
    if "const" in result:
        result["enum"] = [result.pop("const")]
    for name in _DROPPED:
        result.pop(name, None)
    if result.get("default", "") in (None, []):
        del result["default"]
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    if "enum" in result:
        result["maxLength"] = max(map(len, result["enum"]))
    if "items" in result:
        result["items"] = _structural(result["items"], models, "")
    if "properties" in result:
        _object(result, models, model)
    if model in RULES and "properties" in result:
        result["x-kubernetes-validations"] = [rule.schema() for rule in RULES[model]]
    return result


def _object(result: Schema, models: Schema, model: str) -> None:
    properties: Schema = {}
    for name, part in result["properties"].items():
        field = _structural(part, models, "")
        if field.get("type") == "array":
            field |= _list_type(model, name, field)
        rules = RULES.get(f"{model}.{name}", ())
        _add_rules(field, rules)
        _add_rules(field.get("items", {}), RULES.get(f"{model}.{name}[]", ()))
        properties[name] = field
    result["properties"] = properties
    if model in _REQUIRED:
        result["required"] = sorted({*result.get("required", []), *_REQUIRED[model]})


def _add_rules(schema: Schema, rules: tuple[Rule, ...], *, first: bool = False) -> None:
    if rules:
        known = schema.get("x-kubernetes-validations", [])
        added = [rule.schema() for rule in rules]
        schema["x-kubernetes-validations"] = [*added, *known] if first else [*known, *added]


def _list_type(model: str, name: str, field: Schema) -> Schema:
    keys = _MAPS.get((model, name))
    if keys:
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
    scalar = field["items"].get("type") == "string"
    return {"x-kubernetes-list-type": "set" if scalar else "atomic"}


def _status() -> Schema:
    count = {"type": "integer", "format": "int32", "minimum": 0}
    return {
        "type": "object",
        "description": "The state of the route. The operator writes it.",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "The generation that the status describes.",
            },
            "url": {
                "type": "string",
                "maxLength": 2048,
                "description": "Where clients reach the route.",
            },
            "upstream": {
                "type": "string",
                "maxLength": 1024,
                "description": "Where requests go: upstream.url, or the provider's.",
            },
            "proxies": {
                "type": "object",
                "description": "The proxies that serve the route.",
                "properties": {
                    "connected": {**count, "description": "How many are connected."},
                    "programmed": {**count, "description": "How many hold this generation."},
                },
            },
            "conditions": _conditions(),
        },
    }


def _conditions() -> Schema:
    # As metav1.Condition.
    reason = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
    text = {"type": "string"}
    return {
        "type": "array",
        "maxItems": 8,
        "description": f"{', '.join(_STATUS_CONDITIONS)}: each with a reason and a message.",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the route's state.",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {**text, "maxLength": 316, "description": "Which aspect."},
                "status": {
                    **text,
                    "enum": ["True", "False", "Unknown"],
                    "maxLength": 7,
                    "description": "Whether it is so.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation that the condition describes.",
                },
                "lastTransitionTime": {
                    **text,
                    "format": "date-time",
                    "maxLength": 64,
                    "description": "When the status last changed.",
                },
                "reason": {
                    **text,
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": reason,
                    "description": "Why, in one word.",
                },
                "message": {
                    **text,
                    "maxLength": 32768,
                    "description": "The reason and the remedy, in a sentence.",
                },
            },
        },
    }
