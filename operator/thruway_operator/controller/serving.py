"""Passes the translated configuration of each group to the xDS server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_operator.envoy.fragments import Renderer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator import ir
    from thruway_operator.xds import XdsServer
    from thruway_operator.xds.protocol.resources import Fragment

__all__ = ["Serving"]


class Serving:
    """The groups that are served. Before the first `publish`, no proxy gets configuration."""

    def __init__(self, xds: XdsServer, system_ca: str) -> None:
        self._xds = xds
        self._renderer = Renderer(system_ca)
        self._fragments: dict[str, dict[str, Fragment]] | None = None
        self._joined: set[str] = set()

    @property
    def open(self) -> bool:
        """Whether the configuration is known, and proxies are served."""
        return self._fragments is not None

    def publish(self, groups: Mapping[str, ir.Config]) -> None:
        """Replace the groups' configuration; a group that is no longer named gets no routes."""
        before = self._fragments or {}
        self._fragments = self._renderer.render(groups)
        for name in self._fragments.keys() | before.keys() | self._joined:
            self._xds.publish(name, self._fragments.get(name, {}))
        self._joined.clear()

    def join(self, group: str) -> str:
        """Register a proxy of this group; a group without routes gets an empty configuration.

        Return the group's name. The proxy waits until the configuration is known.
        """
        if self._fragments is None:
            self._joined.add(group)
        elif group not in self._fragments:
            self._xds.publish(group, {})
        return group

    def digest(self, group: str, route: str) -> str:
        """Return the digest of what a group gets for a route, or ""."""
        fragment = (self._fragments or {}).get(group, {}).get(route)
        return fragment.digest if fragment else ""
