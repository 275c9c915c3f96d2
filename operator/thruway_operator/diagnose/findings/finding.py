"""The findings of a check: one line each, for people and for programs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from thruway_operator.text.safe import printable

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["Finding", "Report", "Severity", "conceal", "hide"]

Severity = Literal["error", "warning"]

_COLORS = {"error": "\x1b[31m", "warning": "\x1b[33m"}
_RESET = "\x1b[0m"

# Keys as well-known APIs issue them, wherever they were pasted. The minimum length lets words like
# `sk-learn` pass.
_KEY = re.compile(r"(?:(?:sk|gsk|xai)-[\w-]{8,}|gsk_\w{16,}|AIza[\w-]{16,})[\w.%~-]*")


def hide(text: str) -> str:
    """Return the text with everything redacted that looks like an API key."""
    return _KEY.sub("[redacted]", text)


def conceal(text: str) -> str:
    """Return the text in one line, with everything redacted that looks like an API key."""
    return printable(hide(" ".join(text.split())))


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem in one place: an error, or something valid but suspicious (a warning)."""

    severity: Severity
    file: str
    line: int
    """Counts from 1; 0 means the whole file, or a source other than a file."""
    field: str
    """The place in the user's words: `spec.overrides[0].path`; empty for the whole document."""
    message: str
    """What is wrong and, after a colon or semicolon, what to do."""
    route: str = ""
    """`namespace/name` of the route, if it concerns one."""

    def text(self, *, color: bool = False) -> str:
        """Return the finding as one line: `file:line: severity: field: message`."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        severity = f"{_COLORS[self.severity]}{self.severity}{_RESET}" if color else self.severity
        route = "" if self.line else self.route  # a line number already identifies the route
        said = ": ".join(part for part in (route, self.field, self.message) if part)
        return f"{conceal(place)}: {severity}: {conceal(said)}"

    def data(self) -> dict[str, Any]:
        """Return the finding for JSON."""
        return {
            "severity": self.severity,
            "file": conceal(self.file),
            "line": self.line or None,
            "route": conceal(self.route) or None,
            "field": conceal(self.field) or None,
            "message": conceal(self.message),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All findings of a check, in the order of files and lines."""

    routes: int
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, routes: int, findings: Iterable[Finding]) -> Report:
        """Return the report, without duplicate findings."""
        return cls(routes, tuple(dict.fromkeys(findings)))

    def count(self, severity: Severity) -> int:
        """Return how many findings have this severity."""
        return Counter(finding.severity for finding in self.findings)[severity]

    def summary(self) -> str:
        """Return the last line: `2 routes, 0 errors, 1 warning`."""
        counts = {
            "route": self.routes,
            "error": self.count("error"),
            "warning": self.count("warning"),
        }
        return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for word, n in counts.items())

    def data(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "version": 1,
            "routes": self.routes,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "findings": [finding.data() for finding in self.findings],
        }
