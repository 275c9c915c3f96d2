"""A pure function from a pod, and what is known about its namespace, to the pod with its sidecar.

`injector` decides (opted in, opted out, rejected), `options` reads the pod's annotations,
`containers` returns what is added, `environment` the variables of applications, and `routes` the
route that they lead to.
The webhook and `thruway inject` both call it.
Contracts: "layers of the sidecar", "pure packages do no I/O".
"""

from thruway_operator.sidecar.decide.injector import Injected, Namespace, Refused, Skipped, inject
from thruway_operator.sidecar.decide.routes import RouteFacts, facts_of
from thruway_operator.sidecar.decide.settings import Images, InjectorError, Settings

__all__ = [
    "Images",
    "Injected",
    "InjectorError",
    "Namespace",
    "Refused",
    "RouteFacts",
    "Settings",
    "Skipped",
    "facts_of",
    "inject",
]
