"""Decides which fragments a group of proxies is offered, by what they ACK and NACK.

A fragment that an Envoy refuses is quarantined: its last good version goes on being served if there
is one, else it is left out, and it is tried again only when its content changes. One proxy's word
counts for the group. The search for the culprits runs on the proxy that complained, the *witness*,
alone: the trials take no route from any other.
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
    """What a proxy is to be given; tokens rise with every offer of a group."""

    token: int
    fragments: Mapping[str, Fragment]
    trial: bool = False


@dataclass(frozen=True, slots=True)
class FragmentStatus:
    """How far one wanted fragment has come."""

    proxies: int
    """How many of the connected proxies hold it as wanted."""
    programmed: bool
    """Whether at least one proxy is connected and all of them hold it as wanted."""
    rejected: str | None
    """Envoy's message if it refused this content."""


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """How far one group of proxies has come."""

    connected: int
    version: int
    """The token of what is offered to the group; rises with every change."""
    settled: bool
    """Whether a proxy is connected and all of them hold what is offered; nothing is in doubt."""
    fragments: Mapping[str, FragmentStatus]
    error: str | None
    """Envoy's message if it refuses the snapshot for no fragment's sake."""


@dataclass(slots=True)
class _Proxy:
    acked: Mapping[str, Fragment] | None = None
    acked_token: int = 0
    refusal: Refusal | None = None


class Publisher:
    """The fragments of one group. After any call `offer` may answer anew for every proxy."""

    def __init__(self) -> None:
        self._wanted: dict[str, Fragment] = {}
        self._rejected: dict[str, tuple[Fragment, str]] = {}
        self._good: dict[str, Fragment] = {}
        """The newest content of each fragment that some proxy held and no proxy refused."""
        self._good_token = 0
        self._proxies: dict[int, _Proxy] = {}
        self._token = 1
        self._main = Offer(self._token, {})
        self._trial: Offer | None = None
        self._search: Bisection | None = None
        self._witness: int | None = None
        self._barren = 0
        self._error: str | None = None

    def want(self, fragments: Mapping[str, Fragment]) -> None:
        """Replace what is wanted; equal fragments change nothing."""
        if fragments == self._wanted and list(fragments) == list(self._wanted):
            return
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

    def connect(self, proxy: int) -> None:
        """A proxy has joined the group; `proxy` names this one connection of it."""
        self._proxies[proxy] = _Proxy()

    def disconnect(self, proxy: int) -> None:
        """A proxy has left."""
        self._proxies.pop(proxy, None)
        if proxy == self._witness:
            self._stop_search()
            self._renew()

    def offer(self, proxy: int) -> Offer:
        """Return what this proxy is to be given now."""
        trial = self._trial
        return trial if trial is not None and proxy == self._witness else self._main

    def acked(self, proxy: int, token: int, *, certain: bool = True) -> bool:
        """A proxy holds all of an offer, `certain`ly or as far as is known yet.

        Return whether that is news.
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
        """A proxy refused something of an offer; refusals of past offers are ignored."""
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
        """Offer the group what is wanted, as far as it is not known to be bad."""
        self._token += 1
        served = ((name, self._served(name)) for name in self._wanted)
        self._main = Offer(self._token, {name: f for name, f in served if f is not None})

    def _served(self, name: str) -> Fragment | None:
        rejected = name in self._rejected
        if rejected or (self._search is not None and self._search.undecided(name)):
            # In doubt, and nothing better is known: others may hold it since before a restart,
            # and would lose it if it were left out. If it is bad they refuse it and keep what
            # they have.
            return self._good.get(name, None if rejected else self._wanted[name])
        return self._wanted[name]

    def _search_next(self) -> None:
        """Start a search on a proxy that refuses what is offered, unless one is under way."""
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
        # A suspect's predecessor keeps being served meanwhile.
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
        """Return the fragments that contribute a resource of the refused response."""
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
            self._error = "Envoy refuses what it accepts in parts"
        self._stop_search()
        self._renew()

    def _stop_search(self) -> None:
        self._search = self._trial = self._witness = None

    def status(self) -> GroupStatus:
        """Return how far the group has come."""
        proxies = self._proxies.values()
        # Proxies share the mappings of offers: however many there are, few mappings are distinct.
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
