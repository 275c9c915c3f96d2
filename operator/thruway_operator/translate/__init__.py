"""Turns resources into the IR, and a verdict on each route.

No I/O and no clock. The same input gives the same output, whatever its order. An invalid
route gets a condition and is left out; it never affects the others.
Contracts: "layers of the operator", "pure packages do no I/O".
"""

from __future__ import annotations

from thruway_operator.resources.model import Resources
from thruway_operator.translate.translator import Translation, Translator, translate
from thruway_operator.translate.verdict import Condition, Verdict

__all__ = ["Condition", "Resources", "Translation", "Translator", "Verdict", "translate"]
