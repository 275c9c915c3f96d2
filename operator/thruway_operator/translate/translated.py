"""What translation makes of one route."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thruway_operator import ir
    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.translate.credentials import LookupFailed

__all__ = ["Translated"]


@dataclass(slots=True)
class Translated:
    """One route's IR and what it needs beside it."""

    route: ir.Route
    secrets: dict[str, SecretValue] = field(default_factory=dict)
    authorities: dict[str, str] = field(default_factory=dict)
    certificates: dict[str, ir.ClientCertificate] = field(default_factory=dict)
    failures: list[LookupFailed] = field(default_factory=list)
    slips: list[str] = field(default_factory=list)
    """Sentences about values that are sent as they are and cannot be meant so."""
