"""Writes docs/reference.md: every field of `PassthroughRoute`, from the model itself."""

import sys
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from thruway_operator.api.route import API_VERSION, KIND, PassthroughRouteSpec

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference.md"

_HEAD = f"""\
# `{KIND}`

`apiVersion: {API_VERSION}`, namespaced. This page is generated from the model by `make generate`.

Durations are written as in the Gateway API: `5s`, `1m30s`, `250ms`; `0s` means no limit. All
references are to objects of the route's own namespace.

| field | type | default | meaning |
|---|---|---|---|
"""

_NAMES = {str: "text", int: "whole number", bool: "true or false"}


def main(arguments: list[str]) -> int:
    """Write the page; with --check, only report whether it is outdated."""
    text = _HEAD + "".join(_rows(PassthroughRouteSpec, "spec"))
    if "--check" in arguments:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        sys.stdout.write("docs/reference.md does not match the model\n")
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


def _rows(model: type[BaseModel], prefix: str) -> list[str]:
    rows: list[str] = []
    for name, field in model.model_fields.items():
        place = f"{prefix}.{field.alias or name}"
        inner, many = _inner(field.annotation)
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        shown = f"{place}[]" if many and nested else place
        kind = _kind(inner, many=many, nested=nested)
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{shown}` | {kind} | {_default(field, nested=nested)} | {meaning} |\n")
        if nested:
            rows += _rows(inner, shown)
    return rows


def _inner(annotation: Any) -> tuple[Any, bool]:  # noqa: ANN401 - any type
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        rest = [item for item in typing.get_args(annotation) if item is not type(None)]
        return _inner(rest[0])
    if origin is typing.Annotated:
        return _inner(typing.get_args(annotation)[0])
    if origin is list:
        return _inner(typing.get_args(annotation)[0])[0], True
    return annotation, False


def _kind(inner: Any, *, many: bool, nested: bool) -> str:  # noqa: ANN401 - any type
    if nested:
        return "list of mappings" if many else "mapping"
    if typing.get_origin(inner) is typing.Literal:
        name = ", ".join(f"`{item}`" for item in typing.get_args(inner))
    else:
        name = _NAMES[inner]
    return f"list of: {name}" if many else name


def _default(field: FieldInfo, *, nested: bool) -> str:
    if field.is_required():
        return "**required**"
    value = field.default
    if nested or value is None or value is PydanticUndefined or value == []:
        return ""
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{value}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
