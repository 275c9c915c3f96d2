"""Reduces the values of a Secret to properties that do not reveal them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.resources.secret import SecretValue

__all__ = ["Shape", "shapes"]

Shape = Literal["good", "padded", "empty", "broken", "prefixed"]
"""`padded`: surrounded by white space, which is removed. `broken`: not allowed in a header.
`prefixed`: it begins with `Bearer `, which belongs to the header, not to the key.
"""


def shapes(values: Mapping[str, SecretValue]) -> dict[str, Shape]:
    """Return the shape of each entry."""
    return {key: _shape(value.reveal()) for key, value in values.items()}


def _shape(value: str) -> Shape:
    bare = value.strip()
    if not bare:
        return "empty"
    if not bare.isprintable():
        return "broken"
    if bare.lower().startswith("bearer "):
        return "prefixed"
    return "good" if bare == value else "padded"
