"""Converts objects of the API server to the input of translation. Nothing here raises.

The API server has validated them, but perhaps against an older CRD. So an unreadable object becomes
a problem of that object alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from thruway_operator.api.problems import problems
from thruway_operator.api.route import PassthroughRoute, PassthroughRouteSpec
from thruway_operator.resources.secret import SecretValue

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "RouteObject",
    "config_map_texts",
    "read_route",
    "secret_values",
]

_CREATED = "metadata.creationTimestamp"


@dataclass(frozen=True, slots=True)
class RouteObject:
    """A PassthroughRoute as the API server has it.

    It has either a `route` or a `problem`, a sentence that says why it cannot be read.
    """

    uid: str
    resource_version: int
    generation: int
    created: str
    route: PassthroughRoute | None
    problem: str
    status: Mapping[str, Any] = field(hash=False)
    received: str = field(repr=False)
    """A hash of what `route` was read from."""


def read_route(item: Mapping[str, Any], before: RouteObject | None = None) -> RouteObject:
    """Return the object; an unchanged spec is not read again; `before` is its last state."""
    metadata = item["metadata"]
    created = str(metadata.get("creationTimestamp", ""))
    generation = int(metadata.get("generation", 0))
    uid = str(metadata.get("uid", ""))
    text = json.dumps([uid, created, generation, item.get("spec")], sort_keys=True)
    received = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    if before and before.received == received:
        route, problem = before.route, before.problem
    else:
        route, problem = _read(item, created, generation)
        if before and before.route and (before.uid, before.generation) == (uid, generation):
            # Nobody has changed the spec: a newer CRD than ours has added the default of a field.
            route, problem = route or before.route, ""
    return RouteObject(
        uid=uid,
        resource_version=int(metadata.get("resourceVersion", 0)),
        generation=generation,
        created=created,
        route=route,
        problem=problem,
        status=item.get("status") or {},
        received=received,
    )


def _read(
    item: Mapping[str, Any], created: str, generation: int
) -> tuple[PassthroughRoute | None, str]:
    metadata = item["metadata"]
    try:
        spec = PassthroughRouteSpec.model_validate(item.get("spec"))
        route = PassthroughRoute(
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
            created=created,
            generation=generation,
            spec=spec,
        )
    except ValidationError as error:
        part = "spec" if error.title == "PassthroughRouteSpec" else "metadata"
        found = problems(error, (part,))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return None, f"{found[0]}{more}"
    return route, ""


def secret_values(item: Mapping[str, Any]) -> dict[str, SecretValue]:
    """Return a Secret's entries; bytes that are not UTF-8 become text no credential may contain."""
    return {key: SecretValue(_decoded(text)) for key, text in (item.get("data") or {}).items()}


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except ValueError:
        return "\x00"


def config_map_texts(item: Mapping[str, Any]) -> dict[str, str]:
    """Return a ConfigMap's entries, without `binaryData`, which contains no certificates."""
    return dict(item.get("data") or {})
