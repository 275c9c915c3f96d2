"""Evaluates label selectors like the API server does.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["matches", "selects"]


def selects(hook: Mapping[str, Any], namespace: Mapping[str, str], own: Mapping[str, str]) -> bool:
    """Return whether a webhook selects an object with these labels in such a namespace."""
    return matches(hook.get("namespaceSelector"), namespace) and matches(
        hook.get("objectSelector"), own
    )


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Return whether a selector matches these labels; an empty one matches all."""
    found = selector or {}
    equal = all(labels.get(key) == value for key, value in (found.get("matchLabels") or {}).items())
    return equal and all(_holds(item, labels) for item in found.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    operator = expression["operator"]
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) is (operator == "Exists")
