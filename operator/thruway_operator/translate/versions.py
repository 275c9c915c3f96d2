"""Decides which version, if any, is inserted into the paths of a route."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from thruway_extproc.rule import VERSION_SEGMENT
from thruway_operator.api.presets import PRESETS

if TYPE_CHECKING:
    from thruway_operator.api.route import PassthroughRouteSpec, Upstream

__all__ = ["final_version", "has_version", "inserted_version", "route_version"]


def inserted_version(spec: PassthroughRouteSpec, upstream: Upstream, base: str) -> str:
    """Return what is inserted if a client's path names no version: `/v1`, or "" for nothing.

    `upstream` is the route's or an override's, and `base` its base path. The upstream's
    `versionPrefix` takes precedence, then the route's, then the preset's. The preset's is not used
    if the base path contains a version: an API at `/v1beta/openai` has no `/v1` below it.
    """
    for stated in (upstream.version_prefix, spec.upstream.version_prefix):
        if stated is not None:
            return stated
    if spec.provider is None or has_version(base):
        return ""
    return PRESETS[spec.provider].version


def route_version(spec: PassthroughRouteSpec) -> str:
    """Return the version that belongs behind the route's path in a base URL, or "".

    Any URL is accepted; translation reports invalid ones.
    """
    try:
        base = urlsplit(spec.upstream.url or "").path
    except ValueError:
        base = ""
    return inserted_version(spec, spec.upstream, base)


def has_version(base: str) -> bool:
    """Tell whether some segment of a base path is a version."""
    return any(VERSION_SEGMENT.fullmatch(segment) for segment in base.split("/"))


def final_version(base: str) -> str:
    """Return the version that a base path ends in, such as `/v1`, or ""."""
    last = base.rpartition("/")[2]
    return f"/{last}" if VERSION_SEGMENT.fullmatch(last) else ""
