"""Turns pydantic's errors into sentences: the field, what is wrong with it, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thruway_operator.api.checks import looks_like_a_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import ValidationError

__all__ = ["ORIGIN_FORM", "Problem", "field_name", "form", "problems", "shown_name"]

Location = tuple[str | int, ...]

_WORD = re.compile(r"[A-Za-z_]{1,40}|[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in one place. `field` is in the user's notation: `spec.overrides[0].path`.

    It does not contain the value, which may be a key in the wrong place.
    """

    location: Location
    message: str

    @property
    def field(self) -> str:
        """The place in the user's notation."""
        return field_name(self.location)

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.location else self.message


def field_name(location: Sequence[str | int]) -> str:
    """Return `spec.overrides[0].path` for `("spec", "overrides", 0, "path")`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        # An unknown field may be a key that was pasted there, so only words are repeated.
        word = part if _WORD.fullmatch(part) else "(an unreadable name)"
        text += f".{word}" if text else word
    return text


def shown_name(name: str) -> str:
    """Return a name as it may be shown: hidden if it contains something like an API key."""
    if looks_like_a_key(name) or len(name) > 253 or not name.isprintable():
        return "(a hidden name)"
    return name


ORIGIN_FORM = (
    "must be an origin as browsers send it, scheme://host[:port] such as https://app.example or "
    "app://obsidian.md: in lower case, without a path or trailing slash, and never * or null"
)
_HEADER = "is not a header name: use letters, digits and hyphens"
_NAME_OF_HEADER = "is not a valid header name: use letters, digits and hyphens"
_PARAMETER = "is not a valid parameter name: it must not contain control characters"

# The meaning of each field's pattern, in words, by the field's name.
_FORMS = {
    "path": (
        "must be one or more whole segments such as /openai_passthrough, of letters, digits and "
        "`_ - ~ .`, without a trailing slash, and no segment starts with a dot"
    ),
    "hostnames": "must be a lower-case host name without port, such as api.example.com",
    "allowedOrigins": ORIGIN_FORM,
    "serverName": "must be a lower-case host name without port, such as api.openai.com",
    "versionPrefix": 'must be a version such as /v1 or /v1beta, or "" for none',
    "name": "is not a valid name: use lower-case letters, digits, `-` and `.`",
    "key": "may only contain letters, digits and `- _ .`",
    "value": "must not contain control characters, nor begin or end with a space",
    "header": _HEADER,
    "forwardOnly": _HEADER,
    "prefix": "may only contain printable ASCII characters",
}
_DURATION = "must be a duration such as 5s, 1m30s or 250ms; 0s means no limit"
_DURATIONS = dict.fromkeys(("connect", "request", "idle"), _DURATION)
_FORMS |= _DURATIONS

# What belongs in a place that does not hold a single text.
_SHAPES = {
    "credential": "secretKeyRef: {name, key}",
    "secretKeyRef": "{name: openai, key: OPENAI_API_KEY}",
    "secretRef": "{name: clients}",
    "caCertificateRef": "{name: ca, key: ca.crt}",
    "upstream": '{url: "https://api.example.com"}',
    "proxy": '{url: "http://proxy.example:3128"}',
    "headers": "{set: [{name, value}], remove: [name]}",
    "query": "{set: [{name, value}], remove: [name]}",
    "set": "{name, value}",
    "add": "{name, value}",
    "default": "{name, value}",
    "overrides": "{path, upstream: {url}}",
}


def problems(error: ValidationError, prefix: Location = ()) -> list[Problem]:
    """Return every problem of a validation error, in the order of the document."""
    return [
        Problem(
            prefix + tuple(part for part in item["loc"] if part != "[key]"),
            _sentence(item["type"], tuple(item["loc"]), item.get("ctx", {}), item["msg"]),
        )
        for item in error.errors(include_url=False, include_input=False)
    ]


def form(location: Location) -> str:
    """Return in words what the text at a place must look like, if it has a pattern.

    Names of headers and parameters have rules of their own.
    """
    name = _name(location)
    if name in ("name", "remove") and "headers" in location:
        return _NAME_OF_HEADER
    if name in ("name", "remove") and "query" in location:
        return _PARAMETER
    words = _FORMS.get(name, "has the wrong form")
    if name == "path" and "overrides" in location:
        words = words.replace("/openai_passthrough", "/v1/responses")
    return words


def _name(location: Location) -> str:
    return next((part for part in reversed(location) if isinstance(part, str)), "")


def _sentence(kind: str, location: Location, context: Mapping[str, Any], message: str) -> str:
    name = _name(location)
    if kind == "string_pattern_mismatch":
        return form(location)
    if kind == "string_type" and name in _DURATIONS:
        return _DURATION
    shape = _SHAPES.get(name)
    mapping = "must be a mapping of fields" + (f" such as {shape}" if shape else "")
    known = {
        "missing": "is required",
        "extra_forbidden": "is not a known field: check its spelling, or remove it",
        "string_type": "must be text; put it in quotes",
        "string_unicode": "must be Unicode text without lone surrogates",
        "invalid_key": "has a key that is not text: put it in quotes",
        "int_type": "must be a whole number",
        "bool_type": "must be true or false",
        "list_type": f"must be a list such as [{shape}]" if shape else "must be a list",
        "dict_type": "must be a mapping",
        "model_type": mapping,
        "model_attributes_type": mapping,
    }
    if kind in known:
        return known[kind]
    match kind:
        case "literal_error" | "enum":
            return f"must be one of {context['expected'].replace(chr(39), '')}"
        case "string_too_short":
            return "may not be empty" if context["min_length"] == 1 else "is too short"
        case "string_too_long":
            return f"may be at most {context['max_length']} characters long"
        case "too_long":
            return f"may have at most {context['max_length']} entries"
        case "too_short":
            return f"must have at least {context['min_length']} entry"
        case "greater_than_equal":
            return f"must be {context['ge']} or more"
        case "less_than_equal":
            return f"must be {context['le']} or less"
        case "value_error":
            return str(context["error"])
    return message[:1].lower() + message[1:]
