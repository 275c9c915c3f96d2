"""The CRD is structural, bounded, and says what the model says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from thruway_operator.api import route
from thruway_operator.api.crd import crd
from thruway_operator.api.route import PassthroughRouteSpec
from thruway_operator.api.rules import RULES
from thruway_testing.product.bad_input import rules_of

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "charts" / "thruway" / "files" / "crds" / "passthroughroutes.yaml"

VERSION = crd()["spec"]["versions"][0]
SCHEMA: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]
SPEC: dict[str, Any] = SCHEMA["properties"]["spec"]

# https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
KNOWN = {
    "type",
    "format",
    "description",
    "properties",
    "required",
    "items",
    "enum",
    "default",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
}


def places(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within this one, with its place."""
    yield place, schema
    for name, inner in schema.get("properties", {}).items():
        yield from places(inner, f"{place}.{name}")
    if "items" in schema:
        yield from places(schema["items"], f"{place}[]")


EVERY = list(places(SCHEMA))


def test_the_chart_holds_what_the_model_says() -> None:
    assert yaml.safe_load(FILE.read_text("utf-8")) == crd()
    check = [sys.executable, "tools/crd.py", "--check"]
    assert subprocess.run(check, cwd=ROOT, check=False).returncode == 0


def test_it_is_structural() -> None:
    """No references, unions, constants, nor anything else that the API server refuses."""
    unknown = {place: sorted(schema.keys() - KNOWN) for place, schema in EVERY}
    assert {place: names for place, names in unknown.items() if names} == {}
    assert [place for place, schema in EVERY if "type" not in schema] == []
    numbers = [schema.get(name) for _, schema in EVERY for name in ("minimum", "maximum")]
    assert all(number is None or type(number) is int for number in numbers)


def test_every_text_and_every_list_has_a_limit() -> None:
    texts = [place for place, s in EVERY if s["type"] == "string" and "maxLength" not in s]
    lists = [place for place, s in EVERY if s["type"] == "array" and "maxItems" not in s]
    assert (texts, lists) == ([], [])


def test_everything_is_described() -> None:
    """`kubectl explain` shows it."""
    silent = [
        place
        for place, schema in EVERY
        if not schema.get("description") and place not in ("", ".metadata")
        if not place.endswith("[]")
    ]
    assert silent == []


def test_patterns_are_those_of_re2_and_come_with_words() -> None:
    """RE2 knows no lookaround and no backreferences; users are not shown a pattern alone."""
    spec = list(places(SPEC))
    assert [place for place, schema in spec if "pattern" in schema] == []
    rules = [rule for _, schema in spec for rule in rules_of(schema)]
    found = [re.fullmatch(r'self\.matches\(r"(\^[^"]*\$)"\)', rule["rule"]) for rule in rules]
    patterns = [match[1] for match in found if match]
    assert len(patterns) > 20
    texts = patterns + [rule["rule"] for rule in rules]
    assert [text for text in texts if re.search(r"\(\?[=!<]|\\[1-9]", text)] == []
    for pattern in patterns:
        re.compile(pattern)
    assert [rule for rule in rules if "wrong form" in rule["message"]] == []


def test_lists_say_how_they_are_merged() -> None:
    for place, schema in EVERY:
        if schema["type"] != "array":
            continue
        kind = schema["x-kubernetes-list-type"]
        assert kind in ("atomic", "set", "map"), place
        if kind == "set":
            assert schema["items"]["type"] == "string", place
        if kind == "map":
            item = schema["items"]
            for key in schema["x-kubernetes-list-map-keys"]:
                assert key in item["required"] or "default" in item["properties"][key], place


def fields(model: type[BaseModel], place: str) -> Iterator[str]:
    schema = model.model_json_schema(by_alias=True)
    yield from _fields(schema, schema.get("$defs", {}), place)


def _fields(schema: dict[str, Any], models: dict[str, Any], place: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = models[schema["$ref"].rsplit("/", 1)[1]]
    for kind in schema.get("anyOf", ()):
        yield from _fields(kind, models, place)
    for name, inner in schema.get("properties", {}).items():
        yield f"{place}.{name}"
        yield from _fields(inner, models, f"{place}.{name}")
    if "items" in schema:
        yield from _fields(schema["items"], models, f"{place}[]")


def test_it_has_exactly_the_fields_of_the_model() -> None:
    shown = {place for place, _ in EVERY if place.startswith(".spec.")}
    assert {place for place in shown if not place.endswith("[]")} == set(
        fields(PassthroughRouteSpec, ".spec")
    )


def test_defaults_are_the_models() -> None:
    """What the API server fills in changes nothing of what the model means."""
    least = PassthroughRouteSpec.model_validate({"path": "/a", "provider": "openai"})
    filled = {
        "path": "/a",
        "provider": "openai",
        "clientAuth": _defaults(SPEC["properties"]["clientAuth"]),
        "timeouts": _defaults(SPEC["properties"]["timeouts"]),
        "retries": _defaults(SPEC["properties"]["retries"]),
        **_defaults(SPEC),
    }
    assert PassthroughRouteSpec.model_validate(filled) == least


def _defaults(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        name: inner["default"] for name, inner in schema["properties"].items() if "default" in inner
    }


@pytest.mark.parametrize("place", sorted(RULES))
def test_every_rule_belongs_to_something(place: str) -> None:
    """A field that was renamed takes no rule with it unnoticed."""
    name, _, field = place.partition(".")
    model = getattr(route, name)
    expressions = [rule.expression for rule in RULES[place]]
    if field:
        aliases = {info.alias: info for info in model.model_fields.values()}
        assert field.removesuffix("[]") in aliases
    in_schema = {
        rule["rule"] for _, schema in EVERY for rule in schema.get("x-kubernetes-validations", ())
    }
    # Base classes that no field has themselves are there for those that extend them.
    assert set(expressions) <= in_schema


def test_rules_name_fields_that_there_are() -> None:
    """`self.x.y` of each rule is a field of the schema that it stands at."""
    for place, schema in EVERY:
        for rule in schema.get("x-kubernetes-validations", ()):
            for path in re.findall(r"\bself((?:\.\w+)+)(?![\w(])", rule["rule"]):
                assert _exists(schema, path.split(".")[1:]), (place, rule["rule"], path)


def _exists(schema: dict[str, Any], steps: list[str]) -> bool:
    methods = {"all", "exists", "exists_one", "matches", "contains", "lowerAscii", "startsWith"}
    for step in steps:
        if step in methods:
            return True
        if step not in schema.get("properties", {}):
            return False
        schema = schema["properties"][step]
    return True


def test_messages_say_what_to_do() -> None:
    for place, schema in EVERY:
        for rule in schema.get("x-kubernetes-validations", ()):
            assert len(rule["message"]) < 200, place
            assert "\n" not in rule["message"] + rule["rule"], place


def test_columns_and_names() -> None:
    names = crd()["spec"]["names"]
    assert names["shortNames"] == ["ptr"]
    columns = [
        c["name"].upper() for c in VERSION["additionalPrinterColumns"] if "priority" not in c
    ]
    assert columns == ["PATH", "UPSTREAM", "READY", "REASON", "PROXIES", "AGE"]
    assert VERSION["subresources"] == {"status": {}}
    status = SCHEMA["properties"]["status"]["properties"]
    assert {"observedGeneration", "url", "conditions", "proxies"} <= status.keys()
    assert set(status["proxies"]["properties"]) == {"connected", "programmed"}
