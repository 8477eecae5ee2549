"""Blame: the revision that added each line of a text or row of a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from vfs.text.matching import matching_blocks

R = TypeVar("R")

Items = Sequence[Hashable]
Relation = Callable[[Items, Items], Iterator[tuple[int, int]]]
"""Yields (place in the old items, place in the new items) of those that went on, each place once."""


def match_in_order(old: Items, new: Items) -> Iterator[tuple[int, int]]:
    """Relates items that are equal and stand in the same order: the lines of a text."""
    for block in matching_blocks(old, new):
        for offset in range(block.size):
            yield block.old + offset, block.new + offset


def match_anywhere(old: Items, new: Items) -> Iterator[tuple[int, int]]:
    """Relates items that are equal, wherever they stand: the rows of a table that carry their key."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place in reversed(range(len(old))):
        places[old[place]].append(place)
    for place, item in enumerate(new):
        if places[item]:
            yield places[item].pop(), place


def blame(revisions: Iterable[tuple[R, Items]], relation: Relation) -> list[R]:
    """Returns, for each item of the first revision, the revision that added it.

    Revisions come newest first, each with its items; the last one added all that it has. No more of them are asked
    for than are needed.
    """
    rest = iter(revisions)
    first = next(rest, None)
    if first is None:
        return []
    revision, items = first
    found: list[R] = [revision] * len(items)
    # Where the items that are still looked for stand in the current revision: place there to place in the first one.
    sought = {place: place for place in range(len(items))}
    while sought:
        for place in sought.values():
            found[place] = revision
        older = next(rest, None)
        if older is None:
            break
        sought = {old: sought[new] for old, new in relation(older[1], items) if new in sought}
        revision, items = older
    return found
