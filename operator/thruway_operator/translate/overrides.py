"""Finds the client paths of an override: those whose upstream path, with its version, it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_extproc.rule import VERSION_SEGMENT
from thruway_operator.ir import Match
from thruway_operator.translate.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Collection

    from thruway_operator.api.route import Override

__all__ = ["check_unique", "client_matches"]


def client_matches(
    route_path: str,
    version: str,
    override: Override,
    field: str,
    unversioned: Collection[str] = (),
) -> list[Match]:
    """Return the client paths of an override: with the version, and without if the route adds it.

    `/v1/responses` below `/openai` matches `/openai/v1/responses`, and `/openai/responses` if the
    route inserts `/v1`. It inserts nothing below the first segments in `unversioned`.

    Raises:
        Refused: no request, or every request, would match the override.
    """
    exact = override.match == "Exact"
    first, _, rest = override.path[1:].partition("/")
    versioned = VERSION_SEGMENT.fullmatch(first) is not None
    if not version or first in unversioned:
        return [Match(route_path + override.path, exact)]
    if not versioned:
        raise Refused(
            "Invalid",
            f"{field}.path {override.path} can never match, because every upstream path of this "
            f"route begins with a version: write {version}{override.path}",
        )
    matches = [Match(route_path + override.path, exact)]
    if f"/{first}" != version:
        return matches
    if not rest:
        if exact:
            return matches
        raise Refused(
            "Invalid",
            f"{field}.path {override.path} would match every endpoint: name one below it, or set "
            "the route's upstream.url",
        )
    second = rest.partition("/")[0]
    if not VERSION_SEGMENT.fullmatch(second) and second not in unversioned:
        matches.append(Match(f"{route_path}/{rest}", exact))
    return matches


def check_unique(overrides: list[Override]) -> None:
    """Reject two overrides of the same path and match.

    Raises:
        Refused: the message names both places.
    """
    seen: dict[tuple[str, str], int] = {}
    for index, override in enumerate(overrides):
        key = (override.path, override.match)
        if key in seen:
            raise Refused(
                "Invalid",
                f"spec.overrides[{index}] has the same path as spec.overrides[{seen[key]}]: "
                "remove one",
            )
        seen[key] = index
