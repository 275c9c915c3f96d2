"""Checks the API server, the caller's permissions, and Thruway's CustomResourceDefinition."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.api.crd import GROUP, PLURAL, VERSION, crd
from thruway_operator.api.route import KIND
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_api", "check_crd"]

_LOGIN: Final = "log in again, or name another context with --context"
_NETWORK: Final = "check the kubeconfig and the network"


def check_api(facts: Facts) -> Iterator[Step]:
    """Yield whether the API server responds, and whether we may read what every check needs.

    Other missing permissions are listed here once, and again where a check is skipped for lack of
    one.
    """
    name = "api"
    if not facts.version.there:
        said = facts.version.reason
        yield failed(name, said, _LOGIN if "401" in said or "nauthorized" in said else _NETWORK)
        return
    for answer in (facts.namespace_object, facts.pods, facts.routes):
        if answer.lack == "forbidden":
            remedy = f"ask for the ClusterRole view in namespace {facts.namespace}"
            yield failed(name, answer.reason, remedy)
            return
        if answer.lack == "failed" and answer.why:
            yield failed(name, answer.why, _NETWORK)
            return
    lacking = facts.forbidden()
    text = f"the API server at {facts.server} responds"
    yield good(name, f"{text}; you may not {', nor '.join(lacking)}" if lacking else text)


def check_crd(facts: Facts) -> Iterator[Step]:
    """Yield whether the cluster knows PassthroughRoutes with every field of this version."""
    name, whole = "crd", f"{PLURAL}.{GROUP}"
    if facts.group.absent or facts.routes.absent:
        served = [str(item["version"]) for item in (facts.group.value or {}).get("versions") or ()]
        if served and VERSION not in served:
            yield failed(
                name,
                f"the cluster serves {whole} as {', '.join(served)}, not as {VERSION}",
                "use the version of thruway that is installed in the cluster",
            )
            return
        yield failed(
            name,
            f"the cluster does not know {whole}",
            "install the chart with crds.enabled (see charts/thruway)",
        )
        return
    if not facts.schema.there:
        yield unchecked(name, facts.schema.reason)
        return
    missing = sorted(_wanted() - _fields(_spec(facts.schema.value)))
    if missing:
        yield failed(
            name,
            f"the CustomResourceDefinition of {whole} is from another version of thruway: it does "
            f"not know spec.{missing[0]}, which the API server silently drops from routes",
            "upgrade the chart, or use the version of thruway that is installed",
        )
        return
    yield good(name, f"{whole} is installed, version {VERSION}")


def _wanted() -> set[str]:
    version = _version()
    return _fields(version["schema"]["openAPIV3Schema"]["properties"]["spec"])


def _spec(document: dict[str, Any]) -> dict[str, Any]:
    schemas = (document.get("components") or {}).get("schemas") or {}
    for found in schemas.values():
        kinds = found.get("x-kubernetes-group-version-kind") or ()
        if any(item.get("kind") == KIND and item.get("version") == VERSION for item in kinds):
            spec: dict[str, Any] = (found.get("properties") or {}).get("spec") or {}
            return spec
    return {}


def _fields(schema: dict[str, Any], path: str = "") -> set[str]:
    """Return the paths of all fields below a schema."""
    found: set[str] = set()
    for name, item in (schema.get("properties") or {}).items():
        where = f"{path}.{name}".removeprefix(".")
        found |= {where} | _fields(item, where)
    items = schema.get("items")
    return found | _fields(items, path) if isinstance(items, dict) else found


@functools.cache
def _version() -> dict[str, Any]:
    version: dict[str, Any] = crd()["spec"]["versions"][0]
    return version
