"""The result of each step of a diagnosis, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from thruway_operator.diagnose.findings.finding import conceal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Diagnosis", "State", "Step", "failed", "good", "unchecked"]

State = Literal["ok", "failed", "unchecked"]

_MARKS: Final = {"ok": "ok", "failed": "FAIL", "unchecked": "-"}
_COLORS: Final = {"ok": "\x1b[32m", "failed": "\x1b[31m", "unchecked": "\x1b[33m"}
_RESET: Final = "\x1b[0m"
_WIDTH: Final = len("environment")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the chain."""

    name: str
    state: State
    message: str
    """What was found, or why it could not be checked."""
    remedy: str = ""
    """What to do if it failed."""

    def text(self, *, color: bool = False) -> str:
        """Return the step as one line: `FAIL  webhook  what is wrong: what to do`."""
        mark = _MARKS[self.state].ljust(4)
        if color:
            mark = f"{_COLORS[self.state]}{mark}{_RESET}"
        said = f"{self.message}: {self.remedy}" if self.remedy else self.message
        return f"{mark}  {self.name.ljust(_WIDTH)}  {conceal(said)}"

    def data(self) -> dict[str, Any]:
        """Return the step for JSON."""
        return {
            "step": self.name,
            "state": self.state,
            "message": conceal(self.message),
            "remedy": conceal(self.remedy) or None,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The steps up to the first fault."""

    namespace: str
    pod: str
    steps: Sequence[Step]

    @property
    def healthy(self) -> bool:
        """Whether no step failed."""
        return all(step.state != "failed" for step in self.steps)

    def summary(self) -> str:
        """Return the last line."""
        if not self.healthy:
            return "This is the first problem; later steps were not checked."
        blind = sum(step.state == "unchecked" for step in self.steps)
        if not blind:
            return "No problems found."
        return f"No problems found, but some steps were not checked: {blind} (the lines with -)."

    def data(self) -> dict[str, Any]:
        """Return the diagnosis for JSON."""
        return {
            "version": 1,
            "namespace": self.namespace,
            "pod": self.pod or None,
            "healthy": self.healthy,
            "steps": [step.data() for step in self.steps],
        }


def good(name: str, message: str) -> Step:
    """Return a step without a fault."""
    return Step(name, "ok", message)


def failed(name: str, message: str, remedy: str) -> Step:
    """Return the step at which the chain is broken."""
    return Step(name, "failed", message.rstrip(". "), remedy)


def unchecked(name: str, why: str) -> Step:
    """Return a step that could not be checked."""
    return Step(name, "unchecked", f"not checked: {why}")
