"""Decides which fragments a group of proxies is offered, based on their ACKs and NACKs.

A fragment that an Envoy rejects is quarantined: its last good version is served if there is one,
otherwise it is left out. It is tried again only when its content changes. One proxy's NACK counts
for the whole group. The search for the culprits runs only on the proxy that sent the NACK, the
*witness*, so that trials take no route away from other proxies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator.xds.protocol.bisection import Bisection
from thruway_operator.xds.protocol.resources import CLUSTER, ROUTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.xds.protocol.refusal import Refusal
    from thruway_operator.xds.protocol.resources import Fragment

__all__ = ["FragmentStatus", "GroupStatus", "Offer", "Publisher"]

_MAX_BARREN: Final = 3


@dataclass(frozen=True, slots=True)
class Offer:
    """What a proxy should be given; tokens rise with every offer of a group."""

    token: int
    fragments: Mapping[str, Fragment]
    trial: bool = False


@dataclass(frozen=True, slots=True)
class FragmentStatus:
    """The rollout of one wanted fragment."""

    proxies: int
    """How many of the connected proxies hold the wanted content."""
    programmed: bool
    """Whether at least one proxy is connected and all of them hold the wanted content."""
    rejected: str | None
    """Envoy's message if it rejected this content."""


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """The rollout in one group of proxies."""

    connected: int
    version: int
    """The token of the group's current offer; it rises with every change."""
    settled: bool
    """Whether a proxy is connected, all hold what is offered, and no fragment is in doubt."""
    fragments: Mapping[str, FragmentStatus]
    error: str | None
    """Envoy's message if it rejects the snapshot and no fragment is the cause."""


@dataclass(slots=True)
class _Proxy:
    acked: Mapping[str, Fragment] | None = None
    acked_token: int = 0
    refusal: Refusal | None = None


class Publisher:
    """The fragments of one group. After any call, `offer` may return a new offer for any proxy."""

    def __init__(self) -> None:
        self._wanted: dict[str, Fragment] = {}
        self._rejected: dict[str, tuple[Fragment, str]] = {}
        self._good: dict[str, Fragment] = {}
        """The newest content of each fragment that some proxy held and no proxy rejected."""
        self._good_token = 0
        self._proxies: dict[int, _Proxy] = {}
        self._token = 1
        self._main = Offer(self._token, {})
        self._trial: Offer | None = None
        self._search: Bisection | None = None
        self._witness: int | None = None
        self._barren = 0
        self._error: str | None = None

    def want(self, fragments: Mapping[str, Fragment]) -> bool:
        """Replace the wanted fragments; return whether any of them is different."""
        if fragments == self._wanted and list(fragments) == list(self._wanted):
            return False
        self._wanted = dict(fragments)
        self._rejected = {
            name: rejection
            for name, rejection in self._rejected.items()
            if fragments.get(name) == rejection[0]
        }
        self._good = {name: f for name, f in self._good.items() if name in fragments}
        self._error, self._barren = None, 0
        if self._search is not None:
            self._search.rebase(self._wanted, self._rejected)
        self._renew()
        return True

    def connect(self, proxy: int) -> None:
        """Add a proxy to the group; `proxy` identifies this connection."""
        self._proxies[proxy] = _Proxy()

    def disconnect(self, proxy: int) -> None:
        """Remove a proxy from the group."""
        self._proxies.pop(proxy, None)
        if proxy == self._witness:
            self._stop_search()
            self._renew()

    def offer(self, proxy: int) -> Offer:
        """Return what this proxy should be given now."""
        trial = self._trial
        return trial if trial is not None and proxy == self._witness else self._main

    def acked(self, proxy: int, token: int, *, certain: bool = True) -> bool:
        """Record that a proxy holds all of an offer; unless `certain`, a NACK may still come.

        Return whether this changes anything.
        """
        offer, state = self.offer(proxy), self._proxies[proxy]
        if token != offer.token or state.acked_token == token:
            return False
        state.acked, state.acked_token, state.refusal = offer.fragments, token, None
        if token != self._good_token:
            self._good_token = token
            self._good |= {n: f for n, f in offer.fragments.items() if n in self._wanted}
        if self._search is not None and proxy == self._witness:
            self._search.passed(certain=certain)
            self._next_trial(self._search)
        return True

    def nacked(self, proxy: int, refusal: Refusal) -> None:
        """Record that a proxy rejected part of an offer; refusals of past offers are ignored."""
        state = self._proxies[proxy]
        if refusal.token != self.offer(proxy).token:
            return
        state.refusal = refusal
        if self._search is not None and proxy == self._witness:
            self._search.failed(refusal.message, self._blamed(refusal, self.offer(proxy)))
            self._next_trial(self._search)
        else:
            self._search_next()

    def _renew(self) -> None:
        """Offer the group the wanted fragments, except for those known to be bad."""
        self._token += 1
        served = ((name, self._served(name)) for name in self._wanted)
        self._main = Offer(self._token, {name: f for name, f in served if f is not None})

    def _served(self, name: str) -> Fragment | None:
        rejected = name in self._rejected
        if rejected or (self._search is not None and self._search.undecided(name)):
            # The fragment is in doubt, and no better version is known. Other proxies may hold it
            # since before a restart and would lose it if it were left out. If it is bad, they
            # reject it and keep what they have.
            return self._good.get(name, None if rejected else self._wanted[name])
        return self._wanted[name]

    def _search_next(self) -> None:
        """Start a search on a proxy that rejects what is offered, unless one is running."""
        if self._search is not None or self._error is not None:
            return
        for proxy, state in self._proxies.items():
            if state.refusal is not None and state.refusal.token == self._main.token:
                self._start_search(proxy, state, state.refusal)
                return

    def _start_search(self, proxy: int, state: _Proxy, refusal: Refusal) -> None:
        offered, acked = self._main.fragments, state.acked or {}
        suspects = self._blamed(refusal, self._main)
        if refusal.type_url == ROUTE or not suspects:
            suspects = {name for name, f in offered.items() if f != acked.get(name)}
        suspects = suspects or set(offered)
        base = {name: f for name, f in offered.items() if name not in suspects}
        # Meanwhile, a suspect's previous version is served.
        base |= {n: f for n, f in acked.items() if n in suspects and f != offered[n]}
        self._search = Bisection(
            base,
            {name: f for name, f in offered.items() if name in suspects},
            refusal.message,
            base_passed=state.acked is not None and all(acked.get(n) == base[n] for n in base),
        )
        self._witness = proxy
        self._next_trial(self._search)

    @staticmethod
    def _blamed(refusal: Refusal, offer: Offer) -> set[str]:
        """Return the fragments that contribute a resource to the rejected response."""
        names = refusal.names
        if refusal.type_url == ROUTE:
            return set()
        return {
            name
            for name, f in offer.fragments.items()
            for resource in (f.clusters if refusal.type_url == CLUSTER else f.secrets)
            if names.get(resource.name) == resource.version
        }

    def _next_trial(self, search: Bisection) -> None:
        fragments = search.trial()
        for name, (fragment, _) in search.culprits.items():
            if self._good.get(name) == fragment:
                del self._good[name]
        self._rejected |= {
            name: culprit
            for name, culprit in search.culprits.items()
            if self._wanted.get(name) == culprit[0]
        }
        if fragments is not None:
            self._token += 1
            ordered = {name: fragments[name] for name in self._wanted if name in fragments}
            self._trial = Offer(self._token, ordered, trial=True)
            return
        self._barren = 0 if search.culprits else self._barren + 1
        self._error = search.error
        if self._barren >= _MAX_BARREN and self._error is None:
            self._error = "Envoy rejects the whole snapshot, but accepts each of its parts"
        self._stop_search()
        self._renew()

    def _stop_search(self) -> None:
        self._search = self._trial = self._witness = None

    def status(self) -> GroupStatus:
        """Return the rollout's state in the group."""
        proxies = self._proxies.values()
        # Proxies share the mappings of offers, so there are few distinct ones for many proxies.
        held: dict[int, tuple[Mapping[str, Fragment], int]] = {}
        for state in proxies:
            if state.acked is not None:
                _, count = held.get(id(state.acked), (state.acked, 0))
                held[id(state.acked)] = (state.acked, count + 1)
        fragments = {}
        for name, wanted in self._wanted.items():
            count = sum(n for mapping, n in held.values() if mapping.get(name) == wanted)
            _, message = self._rejected.get(name, (None, None))
            fragments[name] = FragmentStatus(count, 0 < count == len(proxies), message)
        settled = self._search is None and all(s.acked_token == self._main.token for s in proxies)
        return GroupStatus(
            len(proxies), self._main.token, settled and bool(proxies), fragments, self._error
        )
