"""Composed trees: an older tree with any subset of the changes that lead to a newer one.

With all changes it is the newer tree, id for id; with none the older one. Files that a composed tree takes from either
have the same entries at the same paths, so a mount shows them under the same inode numbers. What makes no sense by
halves is one change: a rename, all names of a file with hard links, a directory that became a file. A directory that
one tree alone has is there as long as something is in it. The cost follows the changes, not the trees.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import msgspec

from vfs.history.diff import PathChange, diff_trees
from vfs.history.directory_moves import entry_at
from vfs.history.merge_trees import Tree
from vfs.history.renames import find_renames
from vfs.model.nodes import LINKS
from vfs.model.objects import Entry, Form, Kind, LinkItem
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.trees.directories import edit_directory, file_content
from vfs.store.trees.hard_links import group_of
from vfs.store.trees.map_diff import either, map_diff
from vfs.store.trees.maps import map_edit, map_get


class Atom(NamedTuple):
    """Changes that are made together. `links`: paths whose hard links change along, without a change of their own."""

    changes: tuple[PathChange, ...]
    links: tuple[bytes, ...] = ()

    @property
    def paths(self) -> tuple[bytes, ...]:
        """All paths that the change concerns, in order."""
        return tuple(sorted({*(change.path for change in self.changes), *self.links}))


class Composition:
    """Two trees, and the changes between them, each an atom, ordered by path."""

    def __init__(self, source: ObjectSource, old: Tree, new: Tree) -> None:
        self._source = source
        self.old, self.new = old, new
        self.atoms = _Atoms(source, old, new).build()
        self._groups: list[set[bytes]] = []
        self._group_of: dict[bytes, int] = {}
        for number, atom in enumerate(self.atoms):
            for path in atom.links:
                self._group_of[path] = number

    def tree(self, sink: ObjectSink, chosen: Iterable[int]) -> Tree:
        """Stores the tree with the atoms of the given numbers and returns it; chunks are those of the two trees."""
        numbers = set(chosen)
        if not numbers:
            return self.old
        if len(numbers) == len(self.atoms):
            # Their ids are equal to what the edits below give, as the tests show.
            return self.new
        return self.edited(sink, numbers)

    def edited(self, sink: ObjectSink, numbers: Collection[int]) -> Tree:
        """Stores the tree by editing the older one, whatever the subset."""
        chosen = [self.atoms[number] for number in sorted(numbers)]
        edits = _Edits(sink, self.old.root, self.new.root)
        for atom in chosen:
            for change in atom.changes:
                edits.add(change)
        root = edits.store()
        changed: dict[bytes, LinkItem | None] = {}
        for atom in chosen:
            for path in atom.links:
                changed[path] = map_get(sink, LINKS, self.new.links, path) if self.new.links else None
        links = map_edit(sink, LINKS, self.old.links, changed).id if changed else self.old.links
        return Tree(root, links)


class _Atoms:
    """Which changes belong together: a union of sets of paths."""

    def __init__(self, source: ObjectSource, old: Tree, new: Tree) -> None:
        self._source = source
        self._old, self._new = old, new
        self._above: dict[bytes, bytes] = {}
        self._linked: set[bytes] = set()

    def build(self) -> list[Atom]:
        found = diff_trees(self._source, self._old.root, self._new.root, directory_times=True)
        every = list(found)
        # A directory that one side alone has comes and goes with what is in it.
        full = {change.path.rpartition(b"/")[0] for change in every if change.path}
        changes = [change for change in every if not (_is_one_sided_directory(change) and change.path in full)]
        changed = {change.path for change in changes}
        self._join_types(changes)
        self._join_renames(every, changed)
        self._join_links(changes)
        self._join_times(changes)
        grouped: dict[bytes, list[PathChange]] = {}
        for change in changes:
            grouped.setdefault(self._top(change.path), []).append(change)
        links: dict[bytes, list[bytes]] = {}
        for path in self._linked:
            links.setdefault(self._top(path), []).append(path)
        tops = [*grouped, *sorted(top for top in links if top not in grouped)]
        return [Atom(tuple(grouped.get(top, ())), tuple(sorted(links.get(top, ())))) for top in tops]

    def _top(self, path: bytes) -> bytes:
        while (above := self._above.get(path, path)) != path:
            self._above[path] = self._above.get(above, above)
            path = above
        return path

    def _join(self, one: bytes, other: bytes) -> None:
        low, high = sorted((self._top(one), self._top(other)))
        self._above[high] = low

    def _join_types(self, changes: Iterable[PathChange]) -> None:
        """What was below a directory that became a file, or is below a file that became one, is one change with it."""
        top: bytes | None = None
        for change in changes:
            if top is not None and change.path.startswith(top + b"/"):
                self._join(top, change.path)
            elif _turns_into_or_from_directory(change):
                top = change.path

    def _join_renames(self, every: list[PathChange], changed: Collection[bytes]) -> None:
        moved = {}
        for rename in find_renames(self._source, every):
            self._join(rename.old_path, rename.path)
            if rename.is_directory:
                moved[rename.path] = moved[rename.old_path] = rename.path
        for path in changed if moved else ():
            above = path
            while above:
                if above in moved:
                    self._join(path, moved[above])
                    break
                above = above.rpartition(b"/")[0]

    def _join_links(self, changes: Iterable[PathChange]) -> None:
        """Joins the names of files with hard links, of which anything differs."""
        todo = [change.path for change in changes if _is_linked(change.old) or _is_linked(change.new)]
        if self._old.links != self._new.links:
            todo += [either(*pair).name for pair in map_diff(self._source, LINKS, self._old.links, self._new.links)]
        while todo:
            path = todo.pop()
            for links in (self._old.links, self._new.links):
                item = map_get(self._source, LINKS, links, path) if links else None
                for member in group_of(self._source, links, item.leader) if item is not None else ():
                    self._join(path, member)
                    if member not in self._linked:
                        self._linked.add(member)
                        todo.append(member)

    def _join_times(self, changes: Iterable[PathChange]) -> None:
        """Directories of which the modification time alone differs: all of them are one change."""
        times = [change.path for change in changes if change.is_directory and change.aspects == ("mtime",)]
        for path in times[1:]:
            self._join(times[0], path)


def _is_one_sided_directory(change: PathChange) -> bool:
    return change.is_directory and change.kind != "modified"


def _turns_into_or_from_directory(change: PathChange) -> bool:
    old, new = change.old, change.new
    return old is not None and new is not None and old.kind != new.kind and Kind.DIR in (old.kind, new.kind)


def _is_linked(entry: Entry | None) -> bool:
    return entry is not None and entry.linked


class _Edits:
    """Edits of the older tree's directories, applied from the deepest up."""

    def __init__(self, sink: ObjectSink, old: Entry, new: Entry) -> None:
        self._sink = sink
        self._old = {b"": old}
        self._new = {b"": new}
        self._edits: dict[bytes, dict[bytes, tuple[Entry, bytes] | None]] = {b"": {}}
        self._takes_attributes: set[bytes] = set()
        self._replaced: bytes | None = None

    def add(self, change: PathChange) -> None:
        """Applies one change; those of an atom come in the order of a diff."""
        path, new = change.path, change.new
        if self._replaced is not None and path.startswith(self._replaced + b"/"):
            # It comes or goes with the whole of what is there.
            return
        if change.kind == "modified" and change.is_directory and not _turns_into_or_from_directory(change):
            self._takes_attributes.add(path)
            self._open(path)
            return
        if _turns_into_or_from_directory(change):
            self._replaced = path
        parent, _, name = path.rpartition(b"/")
        tiny = b""
        if new is not None and new.kind == Kind.FILE and new.form == Form.TINY:
            above = self._at(self._new, parent)
            assert above is not None
            tiny = file_content(self._sink, above, new).tiny
        self._open(parent)[name] = None if new is None else (new, tiny)

    def store(self) -> Entry:
        """Stores the edited tree and returns its root."""
        for path in sorted(self._edits, key=_depth, reverse=True):
            old, new = self._at(self._old, path), self._at(self._new, path)
            made = edit_directory(self._sink, old, self._edits[path])
            like = new if old is None or path in self._takes_attributes else old
            assert like is not None
            entry = msgspec.structs.replace(
                like, content=made.content, tiny=made.tiny, files=made.files, size=made.size
            )
            if not path:
                return entry
            parent, _, name = path.rpartition(b"/")
            is_gone = not made.content and (new is None or old is None)
            self._edits[parent].setdefault(name, None if is_gone else (entry, b""))
        raise AssertionError("the root is a directory")

    def _open(self, path: bytes) -> dict[bytes, tuple[Entry, bytes] | None]:
        """Returns the edits of a directory, after those above it are open."""
        for above in _above(path):
            self._edits.setdefault(above, {})
        return self._edits.setdefault(path, {})

    def _at(self, known: dict[bytes, Entry], path: bytes) -> Entry | None:
        """Returns a tree's directory at a path, None where it has none; `known` has the root."""
        if path not in known:
            parent, _, name = path.rpartition(b"/")
            above = self._at(known, parent)
            found = entry_at(self._sink, above, name) if above is not None else None
            if found is None or found.kind != Kind.DIR:
                return None
            known[path] = found
        return known[path]


def _depth(path: bytes) -> int:
    return path.count(b"/") + 1 if path else 0


def _above(path: bytes) -> Iterator[bytes]:
    while path:
        path = path.rpartition(b"/")[0]
        yield path
