"""Removes the values from queries, so that request targets can be logged."""

from __future__ import annotations

__all__ = ["mask_query"]


def mask_query(target: str) -> str:
    """Return a request target with its query values masked: `/v1/files?limit=…&after=…`.

    A parameter without `=` may itself be a value (`?sk-123`), so all of it is masked.
    """
    path, mark, query = target.partition("?")
    return path + mark + "&".join(map(_mask_parameter, query.split("&"))) if mark else target


def _mask_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if equals:
        return f"{name}=…"
    return "…" if parameter else ""
