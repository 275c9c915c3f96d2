"""Envoy's metrics in Prometheus' text format, by cluster.

`api.openai.com:443/0a1b2c3d4e5f` appears as
`envoy_cluster_ssl_handshake{envoy_cluster_name="api_openai_com_443/0a1b2c3d4e5f"}`. A status is a
label, `envoy_cluster_upstream_rq{envoy_response_code="401",…}`, and becomes `upstream_rq_401`, as
Envoy itself names it.
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
_CODE = re.compile(r'envoy_response_code="(\d{3})"')
_CLUSTER = re.compile(r'envoy_cluster_name="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Metrics:
    """Values by name; for clusters also by mangled name."""

    values: Mapping[str, float] = field(default_factory=dict)
    clusters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def mangled(name: str) -> str:
    """Return a cluster's name as it appears in the metrics."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def read_metrics(text: str) -> Metrics:
    """Parse the text; lines that are not understood are ignored."""
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
            code = _CODE.search(labels)
            stat = f"{name}_{code[1]}" if code else name
            clusters[mangled(cluster[1])][stat.removeprefix("cluster_")] = value
    return Metrics(values, dict(clusters))
