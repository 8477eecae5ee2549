"""The first bad version of a history with branches and merges, in few tests, as git finds it.

Candidates are the bad commit and its ancestors that are no ancestors of a good one. The commit whose ancestors are
nearest to half of the candidates is tested next. Commits that differ from a parent in nothing that the command reads
have that parent's result: only the others count, and only they are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from fractions import Fraction
from math import ceil, log2
from typing import Literal

from vfs.model.ids import CommitId

Verdict = Literal["good", "bad", "skip"]
ParentsOf = Callable[[CommitId], Collection[CommitId]]
IsSame = Callable[[CommitId, CommitId], bool]
"""(commit, a parent): True if they are the same for the command, as far as is known of it."""


class VersionSearch:
    """A search between good commits and a bad one. `is_same` is asked again after each result, as more is known."""

    def __init__(
        self, parents_of: ParentsOf, goods: Iterable[CommitId], bad: CommitId, is_same: IsSame = lambda *_: False
    ) -> None:
        self._parents_of = parents_of
        self._is_same = is_same
        self._differing: set[tuple[CommitId, CommitId]] = set()
        self._given_bad = self.bad = bad
        self.results: dict[CommitId, Verdict] = {}
        self._good: set[CommitId] = set()
        self._skips = 0
        for good in goods:
            self._spread_good(good)

    @property
    def is_contradiction(self) -> bool:
        """True if the bad commit is an ancestor of a good one: what made it bad was mended before."""
        return self.bad in self._good

    def mark(self, commit: CommitId, verdict: Verdict) -> None:
        """Takes the result of a commit."""
        self.results[commit] = verdict
        self._skips = self._skips + 1 if verdict == "skip" else 0
        if verdict == "good":
            self._spread_good(commit)
        elif verdict == "bad":
            self.bad = commit

    def _spread_good(self, commit: CommitId) -> None:
        stack = [commit]
        while stack:
            found = stack.pop()
            if found not in self._good:
                self._good.add(found)
                stack.extend(self._parents_of(found))

    def candidates(self) -> list[CommitId]:
        """Returns what may be the first bad commit, ancestors before descendants."""
        order: list[CommitId] = []
        seen: set[CommitId] = set()
        stack: list[tuple[CommitId, Iterator[CommitId]]] = []

        def enter(commit: CommitId) -> None:
            if commit not in seen and commit not in self._good:
                seen.add(commit)
                stack.append((commit, iter(self._parents_of(commit))))

        enter(self.bad)
        while stack:
            commit, parents = stack[-1]
            parent = next(parents, None)
            if parent is None:
                order.append(commit)
                stack.pop()
            else:
                enter(parent)
        return order

    def relevant(self, candidates: Iterable[CommitId]) -> list[CommitId]:
        """Returns the candidates that are not the same as one of their parents for the command."""
        return [commit for commit in candidates if self._same_parent(commit) is None]

    def _same_parent(self, commit: CommitId) -> CommitId | None:
        for parent in self._parents_of(commit):
            if (commit, parent) in self._differing:
                continue
            if self._is_same(commit, parent):
                return parent
            # More may be known to be read later, never less.
            self._differing.add((commit, parent))
        return None

    def next(self) -> CommitId | None:
        """Returns the commit to test next, None where the search is over."""
        candidates = self.candidates()
        relevant = self.relevant(candidates)
        if len(relevant) > 1:
            counted = self._counts(candidates, set(relevant))
            open_ones = [commit for commit in relevant if commit not in self.results and commit != self.bad]
            if open_ones:
                return self._choose(open_ones, counted, len(relevant))
            return None
        return self._unconfirmed(relevant[0]) if relevant else None

    def _choose(self, open_ones: list[CommitId], counts: dict[CommitId, int], total: int) -> CommitId:
        # After a skip the next one is looked for elsewhere: its neighbours are likely not to be tested either.
        share = Fraction(1, 2) if not self._skips else _spread(self._skips)
        return min(open_ones, key=lambda commit: abs(counts[commit] - share * total))

    def _counts(self, candidates: list[CommitId], relevant: set[CommitId]) -> dict[CommitId, int]:
        """Returns for each candidate how many relevant ones it descends from, itself counted."""
        counts: dict[CommitId, int] = {}
        inside = set(candidates)
        for commit in candidates:
            parents = [parent for parent in self._parents_of(commit) if parent in inside]
            if len(parents) < 2:
                counts[commit] = (counts[parents[0]] if parents else 0) + (commit in relevant)
                continue
            seen = {commit}
            stack = [commit]
            while stack:
                for parent in self._parents_of(stack.pop()):
                    if parent in inside and parent not in seen:
                        seen.add(parent)
                        stack.append(parent)
            counts[commit] = len(seen & relevant)
        return counts

    def _unconfirmed(self, found: CommitId) -> CommitId | None:
        """Returns a commit that has to be tested before the only relevant one left is the first bad one.

        What commits between have in common with it is known from runs of other versions. The given ends are trusted.
        """
        if found != self.bad and self.results.get(self.bad) != "bad" and found not in self.results:
            return found
        for parent in self._parents_of(found):
            while parent not in self._good and parent not in self.results:
                below = self._same_parent(parent)
                if below is None or (below in self._good and self.results.get(below) != "good"):
                    return parent
                parent = below
        return None

    def suspects(self) -> list[CommitId]:
        """Returns what is left at the end: the first bad commit, or with skipped ones several that it may be."""
        candidates = self.candidates()
        relevant = self.relevant(candidates)
        return relevant or candidates[-1:]

    def runs_expected(self) -> int:
        """Returns how many tests are left, about."""
        count = len(self.relevant(self.candidates()))
        return ceil(log2(count)) if count > 1 else 0


def _spread(skips: int) -> Fraction:
    """Returns 1/4, 3/4, 1/8, 3/8, 5/8 and so on."""
    parts = 4
    while skips > parts // 2:
        skips -= parts // 2
        parts *= 2
    return Fraction(2 * skips - 1, parts)
