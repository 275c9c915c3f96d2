"""`thruway inject`: adds sidecars to the pods in files, and leaves everything else unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.api.problems import shown_name
from thruway_operator.api.route import KIND
from thruway_operator.sidecar.decide import Injected, Namespace, Refused, Skipped, facts_of, inject
from thruway_operator.sidecar.decide.workloads import KINDS, pod_of, with_pod
from thruway_operator.sources.files.documents import parse_documents
from thruway_operator.sources.files.lists import is_list, items_of, typed_item
from thruway_operator.sources.files.manifests import read_manifests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thruway_operator.sidecar.decide import RouteFacts, Settings
    from thruway_operator.sources.files.documents import Document, SourceProblem

__all__ = ["Outcome", "inject_texts"]

_KINDS: Final = frozenset((KIND, *(kind for _, kind in KINDS)))


@dataclass(slots=True)
class Outcome:
    """The documents to print, and messages about them."""

    documents: list[Any] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    problems: list[SourceProblem] = field(default_factory=list)
    """What could not be read."""
    pods: int = 0
    """The number of pods, with or without a sidecar."""


def inject_texts(texts: Mapping[str, str], settings: Settings, namespace: str) -> Outcome:
    """Return the injected YAML texts, by the names of their files.

    `namespace` is the namespace of objects that name none.
    """
    outcome = Outcome()
    documents: list[Document] = []
    for name, text in texts.items():
        found, problems = parse_documents(text, name)
        documents += found
        outcome.problems += problems
    maker = _Maker(outcome, settings, namespace, _routes(documents, namespace, outcome))
    for document in documents:
        outcome.documents.append(maker.made(document, document.data, ()))
    return outcome


def _routes(
    documents: Iterable[Document], namespace: str, outcome: Outcome
) -> dict[str, list[RouteFacts]]:
    only = [document for document in documents if _holds_routes(document)]
    manifests = read_manifests(only)
    outcome.problems += manifests.problems
    found: dict[str, list[RouteFacts]] = {}
    for index, placed in enumerate(manifests.routes):
        named = _namespace(placed.document.data, placed.location) or namespace
        found.setdefault(named, []).append(facts_of(placed.resource(f"{index:08}")))
    return found


def _holds_routes(document: Document) -> bool:
    items = (item for _, item in items_of(document.data, _KINDS))
    return any(isinstance(item, dict) and item.get("kind") == KIND for item in items)


def _namespace(data: Any, place: tuple[str | int, ...] = ()) -> str:  # noqa: ANN401 - any YAML
    for step in place:
        data = data[step]
    metadata = data.get("metadata") if isinstance(data, dict) else None
    found = metadata.get("namespace") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else ""


class _Maker:
    def __init__(
        self,
        outcome: Outcome,
        settings: Settings,
        namespace: str,
        routes: Mapping[str, list[RouteFacts]],
    ) -> None:
        self._outcome = outcome
        self._settings = settings
        self._namespace = namespace
        self._routes = routes

    def made(self, document: Document, data: Any, place: tuple[str | int, ...]) -> Any:  # noqa: ANN401 - any YAML
        """Return the document, or an item of a list, with its sidecar."""
        if is_list(data, _KINDS) and isinstance(data.get("items"), list):
            made = [
                self.made(document, typed_item(data, item), (*place, "items", index))
                for index, item in enumerate(data["items"])
            ]
            return {**data, "items": made}
        pod = pod_of(data)
        return data if pod is None else self._with_sidecar(document, data, pod, place)

    def _with_sidecar(
        self,
        document: Document,
        data: dict[str, Any],
        pod: dict[str, Any],
        place: tuple[str | int, ...],
    ) -> dict[str, Any]:
        outcome = self._outcome
        outcome.pods += 1
        namespace = _namespace(data) or self._namespace
        routes = self._routes.get(namespace)  # the cluster may have more than the files
        found = inject(pod, Namespace(namespace), self._settings, routes, asked=True)
        where = f"{document.file}:{document.line(place)}: {_named(data)}"
        if isinstance(found, Refused):
            outcome.refusals.append(f"{where}: {found.sentence}")
        elif isinstance(found, Skipped):
            outcome.warnings.append(f"{where} gets no sidecar: {found.reason}")
        elif isinstance(found, Injected):
            outcome.warnings += [f"{where}: {warning}" for warning in found.warnings]
            return with_pod(data, found.pod)
        return data


def _named(data: Mapping[str, Any]) -> str:
    metadata = data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("name") or metadata.get("generateName") or ""
    return f"{data['kind']} {shown_name(str(name))}"
