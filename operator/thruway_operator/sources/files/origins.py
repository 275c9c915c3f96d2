"""Origins that may call every route: `--allow-origin` and `THRUWAY_ALLOW_ORIGIN`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from thruway_operator.api.problems import ORIGIN_FORM, problems
from thruway_operator.api.types import Origin
from thruway_operator.sources.files.watch import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thruway_operator.resources.model import Resources

__all__ = ["ALLOW_ORIGIN", "allowed_origins", "origin_problem", "with_allowed_origins"]

ALLOW_ORIGIN = "THRUWAY_ALLOW_ORIGIN"
_ORIGIN: TypeAdapter[str] = TypeAdapter(Origin)


def origin_problem(text: str) -> str:
    """Return what is wrong with an origin, in words that follow its name, or ""."""
    try:
        _ORIGIN.validate_python(text)
    except ValidationError as error:
        (problem,) = problems(error)
        return problem.message if "port" in problem.message else ORIGIN_FORM
    return ""


def allowed_origins(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the origins in the environment, which are separated by commas.

    Raises:
        SourceError: one is not an origin.
    """
    parts = [part.strip() for part in environment.get(ALLOW_ORIGIN, "").split(",")]
    origins = tuple(dict.fromkeys(part for part in parts if part))
    for number, origin in enumerate(origins, 1):
        if problem := origin_problem(origin):
            raise SourceError(f"Origin {number} of {ALLOW_ORIGIN} {problem}.")
    return origins


def with_allowed_origins(resources: Resources, origins: Sequence[str]) -> Resources:
    """Return the resources with these origins allowed on each route, beside its own."""
    if not origins:
        return resources
    routes = tuple(
        route.model_copy(
            update={
                "spec": route.spec.model_copy(
                    update={
                        "allowed_origins": list(
                            dict.fromkeys([*route.spec.allowed_origins, *origins])
                        )
                    }
                )
            }
        )
        for route in resources.routes
    )
    return replace(resources, routes=routes)
