"""Passes the translated configuration of each group to the xDS server if it has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_operator.envoy.fragments import render_fragments

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
        self._system_ca = system_ca
        self._configs: dict[str, ir.Config] | None = None
        self._fragments: dict[str, Mapping[str, Fragment]] = {}
        self._joined: set[str] = set()

    @property
    def open(self) -> bool:
        """Whether the configuration is known, and proxies are served."""
        return self._configs is not None

    def publish(self, groups: Mapping[str, ir.Config]) -> None:
        """Replace the groups' configuration; a group that is no longer named gets no routes."""
        before = self._configs or {}
        for name, config in groups.items():
            if before.get(name) is not config:
                self._fragments[name] = render_fragments(config, self._system_ca)
                self._xds.publish(name, self._fragments[name])
        for name in (before.keys() | self._joined) - groups.keys():
            self._fragments.pop(name, None)
            self._xds.publish(name, {})
        self._joined.clear()
        self._configs = dict(groups)

    def join(self, group: str) -> str:
        """Register a proxy of this group; a group without routes gets an empty configuration.

        Return the group's name. The proxy waits until the configuration is known.
        """
        if self._configs is None:
            self._joined.add(group)
        elif group not in self._configs:
            self._xds.publish(group, {})
        return group

    def fragment(self, group: str, route: str) -> Fragment | None:
        """Return the fragment that a group gets for a route, or None."""
        return self._fragments.get(group, {}).get(route)
