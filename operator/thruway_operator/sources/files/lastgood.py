"""Decides which state of each file holds: the newest, or the last with which all was well."""

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
    """Return the state of each file that holds, and the whole, with the problems of the others.

    What only translation sees is a mistake like any other: a file with it goes back as a whole, so
    that an edit takes nothing down that was served. Of files that dispute with one another, those
    go back that have changed. `newest` is in the order of the files.
    """
    chosen = dict(newest)
    problems: list[SourceProblem] = []
    while True:
        reading, objections = merged(chosen, environment)
        objections += _refused(reading, translate(reading.resources))
        back: dict[Path, list[SourceProblem]] = {}
        for objection in objections:
            for file, problem in objection.files:
                if chosen[file] is not good.get(file):
                    back.setdefault(file, []).append(problem)
                    break
        if not back:
            break
        for file, said in back.items():
            problems += said
            if file in good:
                chosen[file] = good[file]
            else:
                del chosen[file]
    # Of what is left, nothing that changed is to blame; a refusal is also in the translation.
    problems += [found.problem for found in objections if not found.refused]
    return chosen, replace(reading, problems=problems)


def _refused(reading: Reading, translation: Translation) -> Iterator[Objection]:
    for name, verdict in translation.verdicts.items():
        if verdict.accepted.status:
            continue
        loser = reading.routes[name]
        files = [(Path(loser.document.file), _told(reading, name, verdict.accepted.message))]
        if winner := translation.conflicts.get(name):
            message = (
                f"path collides with {loser.spec.path} of route {name}, which is served: use "
                "another path, or other hostnames"
            )
            winning = reading.routes[winner].document.file
            files.append((Path(winning), _told(reading, winner, message)))
        yield Objection(tuple(files), refused=True)


def _told(reading: Reading, name: str, message: str) -> SourceProblem:
    placed = reading.routes[name]
    return placed.document.problem((*placed.location, "spec"), f"route {name}: {message}")
