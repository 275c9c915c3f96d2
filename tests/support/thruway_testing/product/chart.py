"""The chart, rendered by Helm's own engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import yaml

__all__ = ["CHART", "NAMESPACE", "RELEASE", "objects", "render"]

CHART = Path(__file__).parents[4] / "charts" / "thruway"
RELEASE = "thruway"
NAMESPACE = "thruway-system"


def render(values: dict[str, Any]) -> dict[str, str]:
    """Return the text of each template; raises helm_python.HelmError with Helm's sentence."""
    with helm_python.Chart.load(str(CHART)) as chart:
        found = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    return {
        name.removeprefix("thruway/templates/"): text
        for name, text in found.items()
        if text.strip()
    }


def objects(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what would be applied; without notes."""
    texts = (text for name, text in render(values).items() if name.endswith(".yaml"))
    return [item for text in texts for item in yaml.safe_load_all(text) if item]
