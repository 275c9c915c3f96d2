"""Envoy's metrics in Prometheus' text format, by cluster.

Envoy takes the first label of a cluster's name for the tag and leaves the rest in the metric's
name: `api.openai.com:443/0a1b2c3d4e5f` comes as
`envoy_cluster_openai_com_443_0a1b2c3d4e5f_ssl_handshake{envoy_cluster_name="api"}`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Metrics", "mangled", "read_metrics"]

_LINE = re.compile(r"envoy_(\w+)\{([^}]*)\} ([0-9.eE+-]+)(?: \d+)?")
_CLUSTER = re.compile(r'envoy_cluster_name="([^"]*)"')
_REST = re.compile(r"(?:(\w+?_[0-9a-f]{12})_)?(\w+)")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Numbers by name; of clusters by mangled name, too."""

    values: Mapping[str, float] = field(default_factory=dict)
    clusters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def mangled(name: str) -> str:
    """Return a cluster's name as the metrics have it."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def read_metrics(text: str) -> Metrics:
    """Return what is in the text; lines that are not understood are left out."""
    values: dict[str, float] = {}
    clusters: dict[str, dict[str, float]] = defaultdict(dict)
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        name, labels, value = found[1], found[2], float(found[3])
        cluster = _CLUSTER.search(labels)
        if cluster is None:
            values[name] = value
        elif name.startswith("cluster_"):
            rest = _REST.fullmatch(name.removeprefix("cluster_"))
            if rest:
                whole = f"{cluster[1]}.{rest[1]}" if rest[1] else cluster[1]
                clusters[mangled(whole)][rest[2]] = value
    return Metrics(values, dict(clusters))
