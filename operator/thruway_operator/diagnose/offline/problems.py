"""What a source could not read, as findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_operator.diagnose.findings.finding import Finding

if TYPE_CHECKING:
    from thruway_operator.diagnose.findings.finding import Severity
    from thruway_operator.sources.files.documents import SourceProblem

__all__ = ["from_problem"]


def from_problem(severity: Severity, problem: SourceProblem) -> Finding:
    """Return what a source said as a finding."""
    return Finding(severity, problem.file, problem.line, problem.field, problem.reason)
