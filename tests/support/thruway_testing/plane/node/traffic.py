"""Steady traffic through the gateway's Service while something is done to it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.node.calls import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["traffic"]


@contextlib.contextmanager
def traffic(base: str, key: str) -> Iterator[Traffic]:
    """Have it flow while the context lasts, and more of it before and after what is done there.

    `base`: the route's URL. No request may fail at the end, and no stream be cut.
    """
    found = Traffic.of(base, key)

    def more() -> None:
        done, whole = found.done, found.whole
        wait_until(lambda: found.done > done + 50 and found.whole > whole + 4, "it flows", 60)

    with found:
        more()
        yield found
        more()
    assert not found.failures, (len(found.failures), found.done, found.failures[:5])
    # The last streams end when the clients do.
    assert not found.cut, (len(found.cut), found.whole, found.cut[:5])
