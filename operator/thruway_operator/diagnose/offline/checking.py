"""`thruway check`: all mistakes and oddities, as strictly as `thruway up`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thruway_operator.api.problems import shown_name
from thruway_operator.diagnose.findings.finding import Finding, Report, Severity
from thruway_operator.diagnose.offline.loading import ENVIRONMENT
from thruway_operator.diagnose.offline.oddities import (
    fallbacks_of,
    missing_of,
    oddities_of,
    referenced,
)
from thruway_operator.diagnose.offline.problems import from_problem
from thruway_operator.envoy.validation import EnvoyError, culprits
from thruway_operator.sources.files.environment import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thruway_operator.diagnose.offline.loading import Input

__all__ = ["check", "refusals"]

_FIELD = re.compile(r"(spec(?:\.\w+|\[\d+\])*)[ :]+(.+)", re.DOTALL)
_FIELDS = {"Conflicted": "spec.path", "ClientAuthRequired": "spec.clientAuth"}


def check(given: Input, *, in_cluster: Sequence[Finding] | None = None) -> Report:
    """Return all findings; `thruway up` would not start with an error.

    `in_cluster`: findings of a cluster; then the environment of this machine does not matter.
    """
    odd = _odd(given, here=in_cluster is None)
    refused = list(refusals(given))
    findings = [
        *_unread(given),
        *refused,
        *_rejected(given),
        *odd,
        *(finding for finding in in_cluster or () if not _is_said(finding, refused)),
    ]
    order = {finding.file: place for place, finding in enumerate(findings)}
    findings.sort(key=lambda finding: (order[finding.file], finding.line))
    return Report.of(len(given.served.routes), findings)


def _is_said(finding: Finding, refused: Sequence[Finding]) -> bool:
    """Tell whether translation rejected the same; rules of the CRD may name the outer field."""
    return finding.severity == "error" and any(
        other.route == finding.route
        and (other.field == finding.field or other.field.startswith(f"{finding.field}."))
        for other in refused
    )


def _unread(given: Input) -> Iterator[Finding]:
    reading = given.reading
    if reading is None:
        return
    for problem in reading.problems:
        yield from_problem("error", problem)
    for warning in reading.warnings:
        yield from_problem("warning", warning)
    if not reading.problems:
        for problem in reading.barren:
            yield from_problem("error", problem)


def refusals(given: Input) -> Iterator[Finding]:
    """Yield the routes that translation rejects."""
    for route, verdict in given.translation.verdicts.items():
        condition = verdict.accepted
        if condition.status:
            continue
        found = _FIELD.fullmatch(condition.message)
        field = found[1] if found else _FIELDS.get(condition.reason, "spec")
        message = found[2] if found else condition.message
        yield _at(given, "error", route, field, message)


def _rejected(given: Input) -> Iterator[Finding]:
    try:
        found = culprits(given.translation.config, given.system_ca)
    except EnvoyError as error:
        yield Finding("error", "envoy", 0, "", str(error))
        return
    for route, message in found.items():
        said = f"is rejected by Envoy: {message}; change or remove what it names"
        if route:
            yield _at(given, "error", route, "spec", said)
        else:
            yield Finding("error", "envoy", 0, "", f"the routes taken together: {said}")


def _odd(given: Input, *, here: bool) -> Iterator[Finding]:
    for warning in given.warnings if here else ():
        yield Finding("warning", ENVIRONMENT, 0, "", warning)
    if given.demonstration:
        message = f"{KEY} is not set, so `thruway up` serves made-up responses; set it"
        yield Finding("warning", ENVIRONMENT, 0, "", message)
        return
    for route in given.given.routes:
        absent = (*missing_of(route, given.served), *fallbacks_of(route, given.given))
        for field, message in absent if here else ():
            yield _at(given, "warning", route.id, field, message)
        if given.translation.verdicts[route.id].accepted.status:
            for field, message in oddities_of(route, given.served):
                yield _at(given, "warning", route.id, field, message)
    if given.reading is None or given.problems:  # an unreadable route may use it
        return
    used = referenced(given.given)
    for (kind, (namespace, name)), origin in given.reading.origins.items():
        if (kind, namespace, name) not in used:
            line = origin.document.line((*origin.location, "metadata", "name"))
            message = f"no route refers to {kind} {shown_name(name)}; remove it, or refer to it"
            yield Finding("warning", origin.document.file, line, "metadata.name", message)


def _at(given: Input, severity: Severity, route: str, field: str, message: str) -> Finding:
    file, line = given.place(route, field)
    return Finding(severity, file, line, field, message, route)
