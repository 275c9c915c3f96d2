"""Decides which state of each file is used: the newest one, or the last good one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from thruway_operator.sources.files.merging import Objection, Reading, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.sources.files.documents import SourceProblem
    from thruway_operator.sources.files.manifests import Manifests
    from thruway_operator.translate import Resources, Translation

    Translate = Callable[[Resources], Translation]

__all__ = ["settled"]


def settled(
    newest: Mapping[Path, Manifests],
    good: Mapping[Path, Manifests],
    environment: Mapping[str, SecretValue] | None,
    translate: Translate,
) -> tuple[dict[Path, Manifests], Reading]:
    """Return the chosen state of each file, and the merged result with the problems found.

    A mistake that only translation finds counts like any other: the whole file is reverted to its
    last good state, so that an edit never removes a route that was served. If files conflict, those
    that have changed are reverted. `newest` is in the order of the files.
    """
    chosen = dict(newest)
    problems: list[SourceProblem] = []
    while True:
        reading, objections = merged(chosen, environment)
        translation = translate(reading.resources)
        objections += _refused(reading, translation)
        back: dict[Path, list[SourceProblem]] = {}
        for objection in objections:
            for file, problem in objection.files:
                if chosen[file] is not good.get(file):
                    back.setdefault(file, []).append(problem)
                    break
        if not back:
            break
        for file, found in back.items():
            problems += found
            if file in good:
                chosen[file] = good[file]
            else:
                del chosen[file]
    # No changed file causes the remaining objections. Refused routes are also in the translation.
    problems += [objection.problem for objection in objections if not objection.refused]
    return chosen, replace(reading, problems=problems, translation=translation)


def _refused(reading: Reading, translation: Translation) -> Iterator[Objection]:
    for name, verdict in translation.verdicts.items():
        if verdict.accepted.status:
            continue
        loser = reading.routes[name]
        files = [(Path(loser.document.file), _problem(reading, name, verdict.accepted.message))]
        if winner := translation.conflicts.get(name):
            message = (
                f"path collides with {loser.spec.path} of route {name}, which is served: use "
                "another path, or other hostnames"
            )
            winning = reading.routes[winner].document.file
            files.append((Path(winning), _problem(reading, winner, message)))
        yield Objection(tuple(files), refused=True)


def _problem(reading: Reading, name: str, message: str) -> SourceProblem:
    placed = reading.routes[name]
    return placed.document.problem((*placed.location, "spec"), f"route {name}: {message}")
