"""The added, changed and removed entries between two trees: each a tree of its own, read by directory.

A directory is part of such a tree where something below it is; that is searched for in what differs alone, and the
search ends with the first find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol, TypeVar

from vfs.history.diff import differing_names
from vfs.model.objects import Entry, Kind
from vfs.store.object_store import ObjectSource

Part = Literal["added", "modified", "removed"]
PARTS: tuple[Part, ...] = ("added", "modified", "removed")


class Compared(Protocol):
    """The entries at one path on the two sides; None for nothing."""

    @property
    def name(self) -> bytes:
        """The path's last name."""
        ...

    @property
    def old(self) -> Entry | None:
        """The entry on the old side."""
        ...

    @property
    def new(self) -> Entry | None:
        """The entry on the new side."""
        ...

    @property
    def has_same_content(self) -> bool:
        """Returns True if two entries of one kind have the same bytes, target or device; unused for directories."""
        ...


C = TypeVar("C", bound=Compared)
Below = Callable[[C], Iterator[C]]
"""Yields what may differ in the directories that stand at a path, in the order of names."""


class Pair(NamedTuple):
    """Two entries of committed trees."""

    name: bytes
    old: Entry | None
    new: Entry | None

    @property
    def has_same_content(self) -> bool:
        """Returns True if both are there with the same content."""
        old, new = self.old, self.new
        return (
            old is not None
            and new is not None
            and (old.content, old.form, old.size, old.rdev) == (new.content, new.form, new.size, new.rdev)
        )


def pairs_below(source: ObjectSource, pair: Pair) -> Iterator[Pair]:
    """Yields the names that differ in the directories that stand at a path of two committed trees."""
    for old, new in differing_names(source, pair.old, pair.new):
        found = old if old is not None else new
        if found is not None:
            yield Pair(found.name, old, new)


def part_at(compared: Compared) -> Part | None:
    """Returns the part that a path itself belongs to, None for none; directories belong to none by themselves.

    `modified` is what has other content, not what has another mode or time. What took a directory's place was added.
    """
    is_old, is_new = _is_leaf(compared.old), _is_leaf(compared.new)
    if is_old and is_new:
        same_kind = compared.old is not None and compared.new is not None and compared.old.kind == compared.new.kind
        return None if same_kind and compared.has_same_content else "modified"
    if is_new:
        return "added"
    return "removed" if is_old else None


def has_below(part: Part, compared: C, below: Below[C]) -> bool:
    """Returns True if a part has anything below the directories that stand at a path."""
    if not _may_have(part, compared):
        return False
    stack = [iter((compared,))]
    while stack:
        at = next(stack[-1], None)
        if at is None:
            stack.pop()
        elif len(stack) > 1 and part_at(at) == part:
            return True
        elif _may_have(part, at):
            side = at.new if part == "added" else at.old
            if part != "modified" and not _are_both_directories(at) and side is not None and side.files:
                # All of a directory that one side alone has belongs to one part.
                return True
            stack.append(below(at))
    return False


def directories_of(part: Part, compared: C, below: Below[C]) -> frozenset[bytes]:
    """Returns the names of the directories in a directory that have anything of a part below them."""
    return frozenset(child.name for child in below(compared) if has_below(part, child, below))


def children_of(part: Part, compared: C, below: Below[C], directories: frozenset[bytes]) -> Iterator[C]:
    """Yields what a part shows in a directory: leaves that belong to it, and `directories_of` it."""
    for child in below(compared):
        if part_at(child) == part or child.name in directories:
            yield child


def _may_have(part: Part, compared: Compared) -> bool:
    """Returns True if the directories at a path are such that a part can have something below them."""
    if part == "added":
        return _is_directory(compared.new)
    if part == "removed":
        return _is_directory(compared.old)
    return _are_both_directories(compared)


def _are_both_directories(compared: Compared) -> bool:
    return _is_directory(compared.old) and _is_directory(compared.new)


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind == Kind.DIR


def _is_leaf(entry: Entry | None) -> bool:
    return entry is not None and entry.kind != Kind.DIR
