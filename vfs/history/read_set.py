"""What a program read of a version, and whether another version is the same for it.

A program that is run again on a version in which nothing differs that it read takes the same steps: `bisect` need not
run it there. What a mount sees of a program are opened files and listed directories; what it cannot see (the attributes
of a known file, a name that was looked for and not found) it may have asked of any directory that holds a file which it
opened. So a version is the same for the program if

- every opened file is the same, with its attributes and the attributes of the directories that lead to it,
- every listed directory has the same names, and everything in it but directories has the same content and attributes,
- every directory that holds an opened file has the same names,
- every symbolic link is the same: following one is not seen.

A program that asks only for attributes or absent names in directories of which it reads nothing is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from vfs.history.diff import differing_names
from vfs.model.ids import NodeId
from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind
from vfs.store.object_store import ObjectSource
from vfs.store.trees.map_diff import either


class ReadSet(msgspec.Struct, frozen=True):
    """The files that a program opened and the directories that it listed: paths from a version's root."""

    opened: frozenset[bytes] = frozenset()
    listed: frozenset[bytes] = frozenset()

    def __or__(self, other: ReadSet) -> ReadSet:
        """Returns what either has read."""
        return ReadSet(self.opened | other.opened, self.listed | other.listed)

    @property
    def is_empty(self) -> bool:
        """True if nothing was read: then all versions are the same."""
        return not self.opened and not self.listed


class ReadFilter:
    """Tells for a read set which differences between two trees it concerns. The cost follows the differences."""

    def __init__(self, read: ReadSet) -> None:
        self.read = read
        self._holding = {path.rpartition(b"/")[0] for path in read.opened}
        self._above = set(_above(read.opened | read.listed))

    def is_affected(self, source: ObjectSource, old: Entry, new: Entry) -> bool:
        """Returns True if a program with this read set may tell two roots apart."""
        if _attributes(old) != _attributes(new) and (self._above or b"" in self.read.listed):
            return True
        stack: list[tuple[bytes, Iterator[tuple[Entry | None, Entry | None]]]] = [
            (b"", differing_names(source, old, new))
        ]
        while stack:
            path, pairs = stack[-1]
            pair = next(pairs, None)
            if pair is None:
                stack.pop()
                continue
            below = join_path(path, either(*pair).name)
            if self._is_seen(path, below, *pair):
                return True
            stack.append((below, differing_names(source, *pair)))
        return False

    def _is_seen(self, directory: bytes, path: bytes, old: Entry | None, new: Entry | None) -> bool:
        is_listed = directory in self.read.listed
        if path in self.read.opened or Kind.SYMLINK in (old and old.kind, new and new.kind):
            return True
        if old is None or new is None or old.kind != new.kind:
            return is_listed or directory in self._holding or path in self._above or path in self.read.listed
        if old.kind != Kind.DIR:
            return is_listed
        return (is_listed or path in self._above or path in self.read.listed) and _attributes(old) != _attributes(new)


def _above(paths: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the directories that paths are in, without the root's parents; some more than once."""
    seen: set[bytes] = set()
    for path in paths:
        while path:
            path = path.rpartition(b"/")[0]
            if path in seen:
                break
            seen.add(path)
            yield path


def _attributes(directory: Entry) -> Entry:
    """Returns a directory's own attributes. Its time says no more than its names, which are compared."""
    return msgspec.structs.replace(directory, content=NodeId(b""), tiny=NodeId(b""), size=0, files=0, mtime_ns=0)
