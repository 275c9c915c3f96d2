"""Finds the fragments that an Envoy refuses by trying subsets of them on that Envoy.

A trial is the base (fragments known or believed to be fine) plus one group of suspects. A group
that passes joins the base at once, so that good fragments are served while the search goes on; one
that is refused is split. With k culprits among n suspects that takes about 2k log2(n/k) trials.
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
    """Known to be refused on top of the base, with this message."""
    bad_if_sibling_passes: str | None = None
    """Its other half is being tried: should that pass, then this one holds a culprit."""


class Bisection:
    """One search. `trial` says what to try next; `passed` or `failed` tell the outcome."""

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
        """Id to the refused content and Envoy's message."""
        self.error: str | None = None
        """Envoy's message when it refuses even a snapshot without any fragment."""
        self._base_passed = base_passed
        self._stack = [_Group(dict(suspects), bad=message)]
        self._trying: dict[str, Fragment] | None = None
        """The members of the group on trial; None while the base alone is."""
        self._disturbed = False
        """Whether something left the group on trial or the base since the trial began."""

    def trial(self) -> dict[str, Fragment] | None:
        """Return the fragments to try next, None when the search is over."""
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
                # Before anybody is blamed: is it the base that Envoy refuses?
                self._trying = None
                return dict(self.base)
        return None

    def passed(self, *, certain: bool = True) -> None:
        """The proxy holds all of the trial; unless `certain`, it may refuse a cluster yet."""
        self._base_passed = True
        if self._trying is None:
            return
        self._stack.pop()
        self.base |= self._trying
        # Base and first half pass, base and both halves did not: so it is the second half.
        if self._stack and (message := self._stack[-1].bad_if_sibling_passes) is not None:
            self._stack[-1].bad = message if certain else None
            self._stack[-1].bad_if_sibling_passes = None

    def failed(self, message: str, blamed: Collection[str] = ()) -> None:
        """The proxy refused the trial; `blamed` are those that a refused resource belongs to."""
        tried = self._trying or {}
        if late := {n: f for n, f in self.base.items() if n in blamed and n not in tried}:
            self._doubt(late)  # a NACK that came after the trial that it is about had passed
        elif self._disturbed:
            self._unlink()  # it may have been for something that has left: try again
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
        """Forget what was inferred: the base is another one now."""
        for group in self._stack:
            group.bad = group.bad_if_sibling_passes = None

    def undecided(self, name: str) -> bool:
        """Whether this fragment has not been found good or bad yet."""
        return any(name in group.members for group in self._stack)

    def rebase(self, wanted: Mapping[str, Fragment], decided: Collection[str]) -> None:
        """Follow a change of what is wanted in the midst of the search.

        Fragments that are gone or have other content leave; what is new is tried last, but for
        `decided`, whose wanted content is known to be bad. The trial under way goes on: its outcome
        still counts for those that stayed.
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
    """Return two groups, the one to be tried first last.

    Envoy sometimes names clusters or routes in its message. That is a hint where to cut, no proof:
    a message may quote what a user wrote, the name of somebody else's route included.
    """
    named = {name: f for name, f in members.items() if _mentions(message, f)}
    if not 0 < len(named) < len(members):
        half = len(members) // 2
        named = dict(list(members.items())[half:])
    rest = {name: f for name, f in members.items() if name not in named}
    return [_Group(named, bad_if_sibling_passes=message), _Group(rest)]


def _mentions(message: str, fragment: Fragment) -> bool:
    return fragment.id in message or any(c.name in message for c in fragment.clusters)
