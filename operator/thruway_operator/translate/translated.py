"""The result of translating one route."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thruway_operator import ir
    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.translate.credentials import LookupFailed

__all__ = ["Translated"]


@dataclass(slots=True)
class Translated:
    """One route's IR, and the secrets and certificates that it uses."""

    route: ir.Route
    secrets: dict[str, SecretValue] = field(default_factory=dict)
    authorities: dict[str, str] = field(default_factory=dict)
    certificates: dict[str, ir.ClientCertificate] = field(default_factory=dict)
    failures: list[LookupFailed] = field(default_factory=list)
    slips: list[str] = field(default_factory=list)
    """Sentences about values that are sent unchanged, and are probably mistakes."""

    def seal(self) -> None:
        """Compute the route's digest, once everything is complete."""
        hashed = hashlib.blake2b(repr(self.route).encode(), digest_size=12)
        values = {f"secret {name}": value for name, value in self.secrets.items()}
        values |= {f"client {client.id}": client.key for client in self.route.clients or ()}
        for name, pair in self.certificates.items():
            values[f"certificate {name} {pair.chain}"] = pair.key
        for name, value in sorted(values.items()):
            hashed.update(f"\0{name}\0{value.digest()}".encode())
        self.route = replace(self.route, digest=hashed.hexdigest())
