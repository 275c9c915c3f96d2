"""Fragments for tests of xDS, which know nothing about routes."""

from __future__ import annotations

import hashlib

from thruway_operator.xds.protocol.resources import Fragment, Resource

__all__ = ["fragment_of"]


def fragment_of(
    id_: str,
    clusters: tuple[Resource, ...] = (),
    secrets: tuple[Resource, ...] = (),
    routes: object = None,
) -> Fragment:
    """Return a fragment whose digest is that of its content."""
    content = repr([(r.name, r.version) for r in (*clusters, *secrets)]) + repr(routes)
    digest = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
    return Fragment(id_, digest, clusters, secrets, routes)
