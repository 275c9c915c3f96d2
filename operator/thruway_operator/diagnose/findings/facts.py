"""What is known of a cluster, a namespace and its pods, as the API server told it."""

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
    """What one question was answered with: a value, or why there is none."""

    value: Any = None
    lack: Literal["", "absent", "forbidden", "failed"] = ""
    why: str = ""
    """The right that is missing, or a sentence that says what failed."""

    @property
    def there(self) -> bool:
        """Whether there is a value."""
        return not self.lack

    @property
    def absent(self) -> bool:
        """Whether there is no such thing: that is known."""
        return self.lack == "absent"

    @property
    def items(self) -> list[Object]:
        """The items of a list; none where there is no value."""
        return list((self.value or {}).get("items") or ())

    @property
    def reason(self) -> str:
        """Why nothing is known, as part of a sentence."""
        if self.lack == "forbidden":
            return f"you lack the right to {self.why}"
        return self.why or "it was not asked for"


ABSENT: Final = Answer(lack="absent", why="there is no such thing")
NOT_ASKED: Final = Answer(lack="failed")


@dataclass(frozen=True, slots=True)
class Inside:
    """What a pod's health port says, through the API server's proxy."""

    problems: Answer = NOT_ASKED
    """A list of sentences, of /readyz."""
    metrics: Answer = NOT_ASKED
    """Text, of /metrics."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was asked. Keys of mappings are names, or pairs of namespace and name."""

    server: str
    namespace: str
    pod: str
    """The pod that was asked about; "" for all of the namespace."""
    now: dt.datetime
    version: Answer = NOT_ASKED
    namespace_object: Answer = NOT_ASKED
    group: Answer = NOT_ASKED
    """The API group thruway.dev, as discovery has it."""
    schema: Answer = NOT_ASKED
    """The OpenAPI document of the group's version."""
    deployments: Answer = NOT_ASKED
    operators: Answer = NOT_ASKED
    """The operator's pods, of all namespaces."""
    leases: Mapping[str, Answer] = field(default_factory=dict)
    """Leases named thruway-operator, by namespace."""
    leases_later: Mapping[str, Answer] = field(default_factory=dict)
    """The same some seconds later, where they looked old: clocks differ."""
    published: Mapping[str, Answer] = field(default_factory=dict)
    """The ConfigMap with the operator's CA, by the operator's namespace."""
    webhooks: Answer = NOT_ASKED
    services: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    slices: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    authority: Answer = NOT_ASKED
    """The ConfigMap thruway-ca of the namespace."""
    routes: Answer = NOT_ASKED
    secrets: Mapping[str, Answer] = field(default_factory=dict)
    """By name: of each key its shape, never its value: see `shapes`."""
    pull_secrets: Mapping[str, Answer] = field(default_factory=dict)
    """Secrets that pods with a sidecar name in imagePullSecrets, without their values."""
    config_maps: Mapping[str, Answer] = field(default_factory=dict)
    pods: Answer = NOT_ASKED
    mounts: Answer = NOT_ASKED
    """Events FailedMount of the namespace."""
    refusals: Answer = NOT_ASKED
    """Events FailedCreate of the namespace."""
    owners: Mapping[tuple[str, str], Answer] = field(default_factory=dict)
    """What those events are about, by kind and name."""
    inside: Mapping[str, Inside] = field(default_factory=dict)

    def forbidden(self) -> list[str]:
        """Return the rights that were missing, each once."""
        found: dict[str, None] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            for item in value.values() if isinstance(value, dict) else (value,):
                for answer in (
                    (item.problems, item.metrics) if isinstance(item, Inside) else (item,)
                ):
                    if isinstance(answer, Answer) and answer.lack == "forbidden":
                        found[answer.why] = None
        return list(found)
