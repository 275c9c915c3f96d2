"""Converts documents to resources: `PassthroughRoute`, `Secret`, `ConfigMap`, and lists of them."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from thruway_operator.api.problems import field_name, problems, shown_name
from thruway_operator.api.route import API_VERSION, KIND, PassthroughRoute, PassthroughRouteSpec
from thruway_operator.resources.secret import SecretValue
from thruway_operator.sources.files.lists import is_list, items_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thruway_operator.resources.keys import ObjectKey
    from thruway_operator.sources.files.documents import Document, SourceProblem

__all__ = ["Manifests", "Origin", "Placed", "read_manifests"]


KINDS: Final = (KIND, "Secret", "ConfigMap")
"""What is read."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The place where a Secret or ConfigMap was read."""

    document: Document
    location: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A route's spec, its identity, and the place where it was read."""

    namespace: str
    name: str
    spec: PassthroughRouteSpec
    document: Document
    location: tuple[str | int, ...] = ()
    """Its location in the document: empty at the root, not empty in a `List`."""

    def resource(self, created: str) -> PassthroughRoute:
        """Return the route, with its position in the order that decides conflicts."""
        return PassthroughRoute(
            namespace=self.namespace, name=self.name, created=created, spec=self.spec
        )


@dataclass(slots=True)
class Manifests:
    """The resources in one file. Secrets print `[redacted]`."""

    namespace: str = "default"
    """The namespace of objects that name none."""
    routes: list[Placed] = field(default_factory=list)
    secrets: dict[ObjectKey, dict[str, SecretValue]] = field(default_factory=dict)
    config_maps: dict[ObjectKey, dict[str, str]] = field(default_factory=dict)
    origins: dict[tuple[str, ObjectKey], Origin] = field(default_factory=dict)
    """The origin of each Secret and ConfigMap, by its kind and key."""
    warnings: list[SourceProblem] = field(default_factory=list)
    problems: list[SourceProblem] = field(default_factory=list)


class _Wrong(Exception):  # noqa: N818 - caught one level up
    def __init__(
        self,
        location: tuple[str | int, ...],
        message: str,
        subject: str = "",
        more: Sequence[SourceProblem] = (),
    ) -> None:
        super().__init__(message)
        self.more = more
        self.location = location
        self.message = message
        self.subject = subject


def read_manifests(documents: Iterable[Document], namespace: str = "default") -> Manifests:
    """Return the resources in the documents, and their problems.

    `namespace` is where objects without a namespace belong.
    """
    manifests = Manifests(namespace)
    for document in documents:
        for location, data in items_of(document.data, KINDS):
            try:
                _read_one(document, location, data, manifests)
            except _Wrong as wrong:
                place = (*location, *wrong.location)
                name = field_name(wrong.location)
                manifests.problems.append(
                    document.problem(place, wrong.message, field=name, subject=wrong.subject)
                )
                manifests.problems += wrong.more
    manifests.problems.sort(key=lambda problem: problem.line)
    return manifests


def _read_one(
    document: Document,
    location: tuple[str | int, ...],
    data: Any,  # noqa: ANN401 - any YAML
    manifests: Manifests,
) -> None:
    if not isinstance(data, dict):
        raise _Wrong((), "a document must be a mapping with apiVersion, kind and metadata")
    kind = data.get("kind")
    if not isinstance(kind, str):
        raise _Wrong(("kind",), f"kind is required: {KIND} or Secret")
    if kind == KIND:
        manifests.routes.append(_route(document, location, data, manifests.namespace))
    elif is_list(data, KINDS):
        raise _Wrong(("items",), f"items of a {kind} must be a list")
    elif kind == "Secret":
        key = _key(data, manifests.namespace)
        _add(manifests.secrets, key, _secret_data(data), kind)
        manifests.origins[kind, key] = Origin(document, location)
    elif kind == "ConfigMap":
        key = _key(data, manifests.namespace)
        _add(manifests.config_maps, key, _config_map_data(data), kind)
        manifests.origins[kind, key] = Origin(document, location)
    else:
        manifests.warnings.append(
            document.problem(
                (*location, "kind"),
                f"{shown_name(kind)} is ignored: only {KIND}, Secret and ConfigMap are read",
                field="kind",
            )
        )


def _add(
    found: dict[ObjectKey, Any],
    key: ObjectKey,
    data: Mapping[str, Any],
    kind: str,
) -> None:
    if key in found:
        raise _Wrong(("metadata", "name"), f"{kind} {shown_name(key[1])} appears twice: keep one")
    found[key] = dict(data)


def _route(
    document: Document,
    location: tuple[str | int, ...],
    data: Mapping[str, Any],
    default: str,
) -> Placed:
    version = data.get("apiVersion")
    if version != API_VERSION:
        raise _Wrong(("apiVersion",), f"apiVersion of a {KIND} must be {API_VERSION}")
    known = {"apiVersion", "kind", "metadata", "spec", "status"}
    unknown = sorted(str(key) for key in set(data) - known)
    if unknown:
        shown = field_name((unknown[0],))
        raise _Wrong((unknown[0],), f"{shown} is not a known field: did you mean spec?")
    namespace, name = _key(data, default)
    if "spec" not in data:
        raise _Wrong((), "spec is required")
    try:
        spec = PassthroughRouteSpec.model_validate(data["spec"])
        PassthroughRoute(namespace=namespace, name=name, spec=spec)
    except ValidationError as error:
        part = "spec" if error.title == "PassthroughRouteSpec" else "metadata"
        found = problems(error, (part,))
        first, *more = found
        shown = shown_name(name)
        rest = [
            document.problem(
                (*location, *item.location), f"{shown}: {item}", field=item.field, subject=shown
            )
            for item in more
        ]
        raise _Wrong(first.location, f"{shown}: {first}", shown, rest) from None
    return Placed(namespace, name, spec, document, location)


def _key(data: Mapping[str, Any], default: str) -> ObjectKey:
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        raise _Wrong(("metadata",), "metadata with a name is required")
    name, namespace = metadata.get("name"), metadata.get("namespace", default)
    if not isinstance(name, str) or not name:
        raise _Wrong(("metadata", "name"), "metadata.name is required and must be text")
    if not isinstance(namespace, str) or not namespace:
        raise _Wrong(("metadata", "namespace"), "metadata.namespace must be text")
    return namespace, name


def _secret_data(data: Mapping[str, Any]) -> dict[str, SecretValue]:
    found: dict[str, SecretValue] = {}
    for key, value in _texts(data, "data").items():
        try:
            # Ignore line breaks, like Kubernetes: `base64` writes lines of 76 characters.
            decoded = base64.b64decode("".join(value.splitlines()), validate=True).decode()
        except ValueError:  # not ASCII, not base64 or not UTF-8
            raise _Wrong(
                ("data", key),
                f"data.{shown_name(key)} is not base64-encoded text: encode it, or put it under "
                "stringData",
            ) from None
        found[key] = SecretValue(decoded)
    for key, value in _texts(data, "stringData").items():
        found[key] = SecretValue(value)
    return found


def _config_map_data(data: Mapping[str, Any]) -> dict[str, str]:
    return _texts(data, "data")


def _texts(data: Mapping[str, Any], part: str) -> dict[str, str]:
    entries = data.get(part) or {}
    if not isinstance(entries, dict):
        raise _Wrong((part,), f"{part} must be a mapping")
    for key, value in entries.items():
        if not isinstance(key, str) or not isinstance(value, str):
            name = shown_name(str(key))
            raise _Wrong((part, str(key)), f"{part}.{name} must be text; put it in quotes")
    return {key: value for key, value in entries.items() if isinstance(value, str)}
