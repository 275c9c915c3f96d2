"""The two kinds of proxies: an application's sidecar, and a pod of the shared gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.conventions import (
    ENVOY,
    EXTPROC,
    ended,
    name_of,
    namespace_of,
)
from thruway_operator.diagnose.findings.facts import Inside
from thruway_operator.diagnose.findings.states import container_status

if TYPE_CHECKING:
    from thruway_operator.diagnose.findings.facts import Facts, Object

__all__ = ["Proxy", "gateway_of", "sidecar_of"]

_GATEWAY: Final = ("envoy", "extproc")
"""The containers of the gateway's pods, as in the chart."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A pod with an Envoy and an extproc, and what it says of itself."""

    pod: Object
    inside: Inside
    envoy: str = ENVOY
    extproc: str = EXTPROC

    @property
    def is_gateway(self) -> bool:
        """Whether it is the shared gateway's."""
        return self.envoy != ENVOY

    @property
    def subject(self) -> str:
        """The pod as the subject of a sentence."""
        return f"gateway pod {name_of(self.pod)}" if self.is_gateway else f"pod {name_of(self.pod)}"

    @property
    def runs(self) -> bool:
        """Whether its containers run, so that its health port can be read."""
        states = [container_status(self.pod, name).get("state") for name in self.parts]
        return not ended(self.pod) and all("running" in (state or {}) for state in states)

    @property
    def parts(self) -> tuple[str, str]:
        """The names of its containers."""
        return self.extproc, self.envoy

    def log(self, container: str = "") -> str:
        """Return the command that prints a container's log; by default Envoy's."""
        where = f"kubectl -n {namespace_of(self.pod)} logs {name_of(self.pod)}"
        return f"{where} -c {container or self.envoy}"


def sidecar_of(facts: Facts, pod: Object) -> Proxy:
    """Return a pod's sidecar."""
    return Proxy(pod, facts.inside.get(name_of(pod), Inside()))


def gateway_of(facts: Facts, pod: Object) -> Proxy:
    """Return the proxy in one of the gateway's pods."""
    inside = facts.inside_gateways.get((namespace_of(pod), name_of(pod)), Inside())
    return Proxy(pod, inside, *_GATEWAY)
