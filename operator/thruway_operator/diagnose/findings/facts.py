"""The facts about a cluster, a namespace and its pods, as read from the API server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

__all__ = ["ABSENT", "NOT_ASKED", "Answer", "Facts", "Inside", "Object"]

Object = dict[str, Any]
"""An object as the API server has it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one query: a value, or why there is none."""

    value: Any = None
    lack: Literal["", "absent", "forbidden", "failed"] = ""
    why: str = ""
    """The missing permission, or a sentence that says what failed."""

    @property
    def there(self) -> bool:
        """Whether there is a value."""
        return not self.lack

    @property
    def absent(self) -> bool:
        """Whether the object is known not to exist."""
        return self.lack == "absent"

    @property
    def items(self) -> list[Object]:
        """The items of a list; empty if there is no value."""
        return list((self.value or {}).get("items") or ())

    @property
    def reason(self) -> str:
        """Why there is no value, as part of a sentence."""
        if self.lack == "forbidden":
            return f"you lack permission to {self.why}"
        return self.why or "it was not requested"


ABSENT: Final = Answer(lack="absent", why="it does not exist")
NOT_ASKED: Final = Answer(lack="failed")


@dataclass(frozen=True, slots=True)
class Inside:
    """What a proxy's pod says of itself, read through the API server."""

    problems: Answer = NOT_ASKED
    """A list of sentences from /readyz."""
    metrics: Answer = NOT_ASKED
    """The text of /metrics."""
    metrics_later: Answer = NOT_ASKED
    """The same some seconds later, if the calls cannot be read."""
    calls: Answer = NOT_ASKED
    """A list of `Call`, the latest, from Envoy's log."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The results of all queries. Mappings are keyed by name, or by namespace and name."""

    server: str
    namespace: str
    pod: str
    """The pod to check; "" for all of the namespace."""
    now: dt.datetime
    version: Answer = NOT_ASKED
    namespace_object: Answer = NOT_ASKED
    group: Answer = NOT_ASKED
    """The API group thruway.dev, from discovery."""
    schema: Answer = NOT_ASKED
    """The OpenAPI document of the group's version."""
    deployments: Answer = NOT_ASKED
    operators: Answer = NOT_ASKED
    """The operator's pods in all namespaces."""
    operator_problems: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    """A list of sentences from /readyz of each of them that serves the namespace."""
    gateways: Answer = NOT_ASKED
    """The shared gateway's pods in all namespaces."""
    gateway_services: Answer = NOT_ASKED
    """Its Services in all namespaces."""
    leases: Mapping[str, Answer] = field(default_factory=dict)
    """Leases named thruway-operator, by namespace."""
    leases_later: Mapping[str, Answer] = field(default_factory=dict)
    """Those that looked old, read again some seconds later, because clocks differ."""
    published: Mapping[str, Answer] = field(default_factory=dict)
    """The ConfigMap with the operator's CA, by the operator's namespace."""
    webhooks: Answer = NOT_ASKED
    services: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    slices: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    authority: Answer = NOT_ASKED
    """The ConfigMap thruway-ca of the namespace."""
    routes: Answer = NOT_ASKED
    secrets: Mapping[str, Answer] = field(default_factory=dict)
    """By name: the shape of each key's value, never the value itself; see `shapes`."""
    pull_secrets: Mapping[str, Answer] = field(default_factory=dict)
    """Secrets that pods with a sidecar name in imagePullSecrets, without their values."""
    config_maps: Mapping[str, Answer] = field(default_factory=dict)
    """Those from which containers take their environment."""
    env_secrets: Mapping[str, Answer] = field(default_factory=dict)
    """Secrets from which they take it: the list of their keys, without values."""
    pods: Answer = NOT_ASKED
    mounts: Answer = NOT_ASKED
    """FailedMount Events of the namespace."""
    refusals: Answer = NOT_ASKED
    """FailedCreate Events of the namespace."""
    owners: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    """The objects of those Events, by kind and name."""
    inside: Mapping[str, Inside] = field(default_factory=dict)
    """By pod, of those with a sidecar."""
    inside_gateways: Mapping[tuple[str, str], Inside] = field(default_factory=dict)
    crashes: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    """By pod and container, of those that keep exiting: whether the log says that a port is in use.
    """

    def forbidden(self) -> list[str]:
        """Return the missing permissions, each once."""
        found: dict[str, None] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            for item in value.values() if isinstance(value, dict) else (value,):
                for answer in _answers(item):
                    if isinstance(answer, Answer) and answer.lack == "forbidden":
                        found[answer.why] = None
        return list(found)


def _answers(item: object) -> tuple[object, ...]:
    if isinstance(item, Inside):
        return item.problems, item.metrics, item.calls
    return (item,)
