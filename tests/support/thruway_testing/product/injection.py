"""Cases of the injector: `NAME.in.yaml` holds a namespace, its routes and a pod, or its maker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thruway_operator.api.route import KIND
from thruway_operator.diagnose.offline.shown import manifest
from thruway_operator.sidecar.decide import (
    Images,
    Injected,
    Namespace,
    Refused,
    RouteFacts,
    Settings,
    Skipped,
    facts_of,
    inject,
)
from thruway_operator.sidecar.decide.users import RANGE, read_range
from thruway_operator.sidecar.decide.workloads import pod_of
from thruway_operator.sources.files.documents import parse_documents
from thruway_operator.sources.files.manifests import read_manifests

if TYPE_CHECKING:
    from thruway_testing.product.manifests import Document

__all__ = ["FOLDER", "NAMES", "SETTINGS", "InjectionCase", "read_injection"]

FOLDER = Path(__file__).parents[3] / "operator" / "sidecar" / "decide" / "golden"
NAMES = sorted(file.name.removesuffix(".in.yaml") for file in FOLDER.glob("*.in.yaml"))
SETTINGS = Settings(
    version="1.2.3",
    namespace="thruway-system",
    operator="thruway-operator.thruway-system.svc:18000",
    images=Images("registry.example/thruway:1.2.3", "registry.example/envoy:1.40.0"),
)


@dataclass(frozen=True)
class InjectionCase:
    """One case. `pod` is as the API server gets it: of a template, with its maker's marks."""

    name: str
    namespace: Namespace
    routes: tuple[RouteFacts, ...]
    documents: tuple[Document, ...]
    """The routes, as a user applies them."""
    pod: Document

    def outcome(self) -> Injected | Skipped | Refused:
        """What the injector says."""
        return inject(self.pod, self.namespace, SETTINGS, self.routes)

    def expected(self) -> str:
        """The text of the golden file."""
        found = self.outcome()
        if isinstance(found, Refused):
            return manifest({"refused": found.sentence})
        if isinstance(found, Skipped):
            return manifest({"skipped": found.reason, "warnings": list(found.warnings)})
        return manifest({"injected": found.pod, "warnings": list(found.warnings)})


def read_injection(name: str) -> InjectionCase:
    """Read `NAME.in.yaml`."""
    file = FOLDER / f"{name}.in.yaml"
    documents, broken = parse_documents(file.read_text("utf-8"), file.name)
    assert broken == [], broken
    spaces = [item.data for item in documents if item.data["kind"] == "Namespace"]
    (space,) = spaces or [
        {"metadata": {"name": "shop", "labels": {"thruway.dev/inject": "enabled"}}}
    ]
    routes = [item for item in documents if item.data["kind"] == KIND]
    read = read_manifests(routes)
    assert read.problems == []
    (maker,) = [item.data for item in documents if pod_of(item.data) is not None]
    return InjectionCase(
        name=name,
        namespace=Namespace(
            space["metadata"]["name"],
            space["metadata"].get("labels") or {},
            read_range((space["metadata"].get("annotations") or {}).get(RANGE)),
        ),
        routes=tuple(
            facts_of(placed.resource(f"{index:08}")) for index, placed in enumerate(read.routes)
        ),
        documents=tuple(item.data for item in routes),
        pod=_pod(maker),
    )


def _pod(maker: Document) -> Document:
    pod = pod_of(maker)
    assert pod is not None
    if maker["kind"] == "Pod":
        return pod
    # What the controllers make of a template.
    template: dict[str, Any] = {**pod, "metadata": dict(pod.get("metadata") or {})}
    template["metadata"]["generateName"] = f"{maker['metadata']['name']}-"
    return {"apiVersion": "v1", "kind": "Pod", **template}
