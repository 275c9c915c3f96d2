"""The sidecar's way into a pod: a pure function from a pod and what is known of its namespace.

`inject` decides (opted in or out, refused), `options` reads the pod's annotations, `containers`
says what is added, `environment` what applications are told, `routes` which route they are told of.
Nothing here does I/O: the admission server and `thruway inject` both call it.
"""

from thruway_operator.inject.injector import Injected, Namespace, Refused, Skipped, inject
from thruway_operator.inject.routes import RouteFacts, facts_of
from thruway_operator.inject.settings import Images, InjectorError, Settings

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
