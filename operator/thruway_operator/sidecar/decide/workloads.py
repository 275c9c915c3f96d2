"""Pods inside the objects that create them: Deployments, Jobs and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "pod_of", "with_pod"]

_TEMPLATE: Final = ("spec", "template")
KINDS: Final = {
    ("v1", "Pod"): (),
    ("v1", "ReplicationController"): _TEMPLATE,
    ("apps/v1", "Deployment"): _TEMPLATE,
    ("apps/v1", "ReplicaSet"): _TEMPLATE,
    ("apps/v1", "StatefulSet"): _TEMPLATE,
    ("apps/v1", "DaemonSet"): _TEMPLATE,
    ("batch/v1", "Job"): _TEMPLATE,
    ("batch/v1", "CronJob"): ("spec", "jobTemplate", *_TEMPLATE),
}
"""The place of the pod in each kind, by apiVersion and kind."""


def pod_of(document: object) -> dict[str, Any] | None:
    """Return the pod in a document, such as a template's; None if it is of another kind.

    Anything but a mapping is returned as an empty pod, which `inject` rejects.
    """
    place = _place(document)
    if place is None:
        return None
    found: Any = document
    for step in place:
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def with_pod(document: Mapping[str, Any], pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with this pod instead of its own."""
    return _put(document, _place(document) or (), pod)


def _put(
    document: Mapping[str, Any], place: tuple[str, ...], pod: Mapping[str, Any]
) -> dict[str, Any]:
    if not place:
        return dict(pod)
    first, *rest = place
    return {**document, first: _put(document[first], tuple(rest), pod)}


def _place(document: object) -> tuple[str, ...] | None:
    if not isinstance(document, dict):
        return None
    version, kind = document.get("apiVersion"), document.get("kind")
    if not (isinstance(version, str) and isinstance(kind, str)):
        return None
    return KINDS.get((version, kind))
