"""Merges the documents of several files, and finds their conflicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from thruway_operator.resources.model import Resources
from thruway_operator.sources.files.documents import SourceProblem
from thruway_operator.sources.files.manifests import Manifests, Origin, Placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from thruway_operator.resources.keys import ObjectKey
    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.translate import Translation

__all__ = ["Objection", "Reading", "merged"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """The current content of the files, with the last good state of broken ones."""

    resources: Resources
    problems: list[SourceProblem]
    warnings: list[SourceProblem]
    routes: dict[str, Placed] = field(repr=False)
    """Where each route was read, by its id."""
    origins: dict[tuple[str, ObjectKey], Origin] = field(repr=False, default_factory=dict)
    """Where each Secret and ConfigMap was read, by its kind and key."""
    barren: list[SourceProblem] = field(default_factory=list)
    """If there is no route at all, the reason for each path that was given."""
    served: frozenset[str] = frozenset()
    """The files whose content, current or earlier, is in `resources`."""
    translation: Translation | None = field(repr=False, default=None)
    """The translation of `resources`, if it was needed to choose the files' states."""


@dataclass(frozen=True, slots=True)
class Objection:
    """A conflict or mistake, with the problem to report in each file that could be reverted."""

    files: tuple[tuple[Path, SourceProblem], ...]
    """The first file is at fault, unless only another one has changed."""
    refused: bool = False
    """Whether translation refuses a route."""

    @property
    def problem(self) -> SourceProblem:
        """The problem to report if no file is reverted."""
        return self.files[0][1]


def merged(
    files: Mapping[Path, Manifests], environment: Mapping[str, SecretValue] | None
) -> tuple[Reading, list[Objection]]:
    """Return the merged files, in their order; of duplicates, the first one counts."""
    whole = Manifests()
    routes: dict[str, tuple[Path, Placed]] = {}
    owners: dict[tuple[str, ObjectKey], Path] = {}
    objections: list[Objection] = []
    for file, manifests in files.items():
        whole.warnings += manifests.warnings
        whole.origins = manifests.origins | whole.origins
        for placed in manifests.routes:
            name = f"{placed.namespace}/{placed.name}"
            if name in routes:
                objections.append(_route_twice(name, (file, placed), routes[name]))
            else:
                routes[name] = file, placed
        objections += _merge("Secret", file, owners, whole.secrets, manifests.secrets)
        objections += _merge("ConfigMap", file, owners, whole.config_maps, manifests.config_maps)
    placed_routes = {name: placed for name, (_, placed) in routes.items()}
    resources = Resources(
        routes=tuple(
            placed.resource(f"{index:08}") for index, placed in enumerate(placed_routes.values())
        ),
        secrets=whole.secrets,
        config_maps=whole.config_maps,
        environment=environment,
    )
    served = frozenset(map(str, files))
    reading = Reading(resources, [], whole.warnings, placed_routes, whole.origins, served=served)
    return reading, objections


def _merge(
    kind: str,
    file: Path,
    owners: dict[tuple[str, ObjectKey], Path],
    found: dict[ObjectKey, T],
    new: Mapping[ObjectKey, T],
) -> Iterator[Objection]:
    for key in sorted(new.keys() & found.keys()):
        text = f"{kind} {key[1]} is also in another file: keep one"
        places = (file, owners[kind, key])
        yield Objection(tuple((place, SourceProblem(str(place), 0, text)) for place in places))
    for key in new.keys() - found.keys():
        owners[kind, key] = file
        found[key] = new[key]


def _route_twice(name: str, second: tuple[Path, Placed], first: tuple[Path, Placed]) -> Objection:
    def problem(placed: Placed, other: Placed) -> SourceProblem:
        return placed.document.problem(
            (*placed.location, "metadata", "name"),
            f"PassthroughRoute {name} is also in {other.document.file}: keep one",
            field="metadata.name",
        )

    return Objection(
        ((second[0], problem(second[1], first[1])), (first[0], problem(first[1], second[1])))
    )
