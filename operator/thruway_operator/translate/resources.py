"""The input of translation: routes and what they may refer to, whatever source they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.api.route import PassthroughRoute
    from thruway_operator.ir import SecretValue

__all__ = ["ObjectKey", "Resources"]

ObjectKey = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that one group of proxies is made from."""

    routes: tuple[PassthroughRoute, ...]
    secrets: Mapping[ObjectKey, Mapping[str, SecretValue]] = field(default_factory=dict)
    config_maps: Mapping[ObjectKey, Mapping[str, str]] = field(default_factory=dict)
    environment: Mapping[str, SecretValue] | None = None
    """On a laptop: where a key is looked up that no Secret holds, by its name. None elsewhere."""
