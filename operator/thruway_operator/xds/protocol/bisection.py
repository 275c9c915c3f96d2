"""Finds the fragments that an Envoy rejects, by trying subsets of them on that Envoy.

A trial is the base (fragments known or believed to be good) plus one group of suspects. A group
that passes joins the base immediately, so that good fragments are served while the search goes on.
A group that is rejected is split. With k culprits among n suspects, this takes about 2k log2(n/k)
trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from thruway_operator.xds.protocol.resources import Fragment

__all__ = ["Bisection"]


@dataclass(slots=True)
class _Group:
    members: dict[str, Fragment]
    bad: str | None = None
    """Envoy's message if the group is known to be rejected on top of the base."""
    bad_if_sibling_passes: str | None = None
    """Whether its other half is being tried: if that passes, this one contains a culprit."""


class Bisection:
    """One search. `trial` returns what to try next; `passed` or `failed` records the outcome."""

    def __init__(
        self,
        base: Mapping[str, Fragment],
        suspects: Mapping[str, Fragment],
        message: str,
        *,
        base_passed: bool,
    ) -> None:
        self.base = dict(base)
        self.culprits: dict[str, tuple[Fragment, str]] = {}
        """Maps ids to the rejected content and Envoy's message."""
        self.error: str | None = None
        """Envoy's message if it rejects even a snapshot without any fragment."""
        self._base_passed = base_passed
        self._stack = [_Group(dict(suspects), bad=message)]
        self._trying: dict[str, Fragment] | None = None
        """The members of the group on trial; None while the base alone is on trial."""
        self._disturbed = False
        """Whether something left the group on trial or the base since the trial began."""

    def trial(self) -> dict[str, Fragment] | None:
        """Return the fragments to try next, or None when the search is over."""
        self._disturbed = False
        while self._stack:
            group = self._stack[-1]
            if not group.members:
                self._stack.pop()
            elif group.bad is None:
                self._trying = dict(group.members)
                return self.base | self._trying
            elif len(group.members) > 1:
                self._stack[-1:] = _split(group.members, group.bad)
            elif self._base_passed:
                self._stack.pop()
                [(name, fragment)] = group.members.items()
                self.culprits[name] = (fragment, group.bad)
            else:
                # Before blaming a fragment, check whether Envoy rejects the base.
                self._trying = None
                return dict(self.base)
        return None

    def passed(self, *, certain: bool = True) -> None:
        """Record that the proxy holds all of the trial; unless `certain`, a NACK may still come."""
        self._base_passed = True
        if self._trying is None:
            return
        self._stack.pop()
        self.base |= self._trying
        # The base with the first half passes, with both halves it does not: the second is bad.
        if self._stack and (message := self._stack[-1].bad_if_sibling_passes) is not None:
            self._stack[-1].bad = message if certain else None
            self._stack[-1].bad_if_sibling_passes = None

    def failed(self, message: str, blamed: Collection[str] = ()) -> None:
        """Record a NACK of the trial; `blamed` are the fragments that own a rejected resource."""
        tried = self._trying or {}
        if late := {n: f for n, f in self.base.items() if n in blamed and n not in tried}:
            self._doubt(late)  # the NACK is about an earlier trial that had passed
        elif self._disturbed:
            self._unlink()  # the cause may be a fragment that has left: try again
        elif self._trying is not None:
            self._stack[-1].bad = message
            if len(self._stack) > 1:
                self._stack[-2].bad_if_sibling_passes = None
        elif self.base:
            self._doubt(self.base)
        else:
            self.error = message
            self._stack.clear()

    def _doubt(self, members: dict[str, Fragment]) -> None:
        self._unlink()
        self._stack.append(_Group(dict(members)))
        self.base = {name: f for name, f in self.base.items() if name not in members}

    def _unlink(self) -> None:
        """Forget what was inferred, because the base has changed."""
        for group in self._stack:
            group.bad = group.bad_if_sibling_passes = None

    def undecided(self, name: str) -> bool:
        """Whether it is still unknown if this fragment is good or bad."""
        return any(name in group.members for group in self._stack)

    def rebase(self, wanted: Mapping[str, Fragment], decided: Collection[str]) -> None:
        """Apply a change of the wanted fragments during the search.

        Fragments that vanished or changed leave the search. New ones are tried last, except for
        `decided`, whose wanted content is known to be bad. The current trial goes on: its outcome
        still counts for the fragments that stay.
        """
        dropped = False
        for group in self._stack:
            stay = {n: f for n, f in group.members.items() if wanted.get(n) == f}
            dropped |= len(stay) < len(group.members)
            group.members = stay
        base = {n: f for n, f in self.base.items() if n in wanted}
        dropped |= len(base) < len(self.base)
        self.base = base
        if self._trying is not None:
            self._trying = {n: f for n, f in self._trying.items() if n in wanted}
        if dropped:
            self._disturbed = True
            self._unlink()
        new = {
            name: fragment
            for name, fragment in wanted.items()
            if fragment != self.base.get(name) and name not in decided and not self.undecided(name)
        }
        self._stack.insert(0, _Group(new))


def _split(members: Mapping[str, Fragment], message: str) -> list[_Group]:
    """Return two groups; the last one is tried first.

    Envoy sometimes names clusters or routes in its message. This hints where to split, but proves
    nothing: a message may quote a user's text, including the name of another user's route.
    """
    named = {name: f for name, f in members.items() if _mentions(message, f)}
    if not 0 < len(named) < len(members):
        half = len(members) // 2
        named = dict(list(members.items())[half:])
    rest = {name: f for name, f in members.items() if name not in named}
    return [_Group(named, bad_if_sibling_passes=message), _Group(rest)]


def _mentions(message: str, fragment: Fragment) -> bool:
    return fragment.id in message or any(c.name in message for c in fragment.clusters)
