"""Which changes of a working layer become a version: those at some paths, those that no ignore rule leaves out.

Both trees are stored: what the branch's newest version has, and all that the working layer shows. The version takes the
second, and in it names that are left out are as in the first. The cost follows what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import msgspec

from vfs.errors import NotADirectory, NotFound
from vfs.history.merge_trees import Tree
from vfs.model.ids import NodeId
from vfs.model.names import join_path, show_path
from vfs.model.nodes import LINKS
from vfs.model.objects import Entry, Form, Kind, LinkItem
from vfs.overlay.layer_changes import differing_entries
from vfs.repo.ignore_rules import Rules
from vfs.repo.tree_placement import rules_text
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.trees.directories import Directory, edit_directory, file_content, resolve_path
from vfs.store.trees.hard_links import group_of, link_items, set_linked
from vfs.store.trees.map_diff import either
from vfs.store.trees.maps import map_edit, map_get, map_items

_NOTHING = Directory(NodeId(b""), NodeId(b""), 0, 0)


class Selected(NamedTuple):
    """The tree of a version. `is_whole`: it has all changes; else paths, or attributes of directories, are left out."""

    tree: Tree
    is_whole: bool


class Selection:
    """The selected changes: those at `paths` and below (none: all), but for new files that `rules` ignore.

    A path that is named itself is selected, also where the rules ignore it.
    """

    def __init__(self, rules: Rules, paths: Iterable[bytes] = ()) -> None:
        self.rules = rules
        self.paths = frozenset(paths)
        self._above = {path[:at] for path in self.paths for at in _ends(path)}

    def takes(self, path: bytes) -> bool:
        """Returns True if changes at a path are taken, as far as the paths go."""
        return not self.paths or any(path[:at] in self.paths for at in _ends(path)) or path in self.paths

    def leads_on(self, path: bytes) -> bool:
        """Returns True if a path that is not taken has one below it that is."""
        return path in self._above

    def require_paths(self, source: ObjectSource, trees: Iterable[Entry]) -> None:
        """Raises NotFound for a path that none of the trees has."""
        roots = list(trees)
        for path in sorted(self.paths):
            if not any(_has(source, root, path) for root in roots):
                raise NotFound(f"nothing has been at {show_path(path)}, neither before nor now")


def select(sink: ObjectSink, old: Tree | None, new: Tree, selection: Selection) -> Selected:
    """Stores the tree of a version that takes the selected changes from one tree to another."""
    made = _TreeSelection(sink, selection)
    root = made.run(old.root if old is not None else None, new.root)
    if root == new.root:
        return Selected(new, is_whole=True)
    links, flags = _Links(sink, old, new, made).run()
    return Selected(Tree(set_linked(sink, root, flags) if flags else root, links), is_whole=False)


class _Frame:
    """A directory that both sides have, or the new one, or (`is_going`) the old one alone. `edits`: of the new one."""

    __slots__ = ("edits", "is_going", "is_ignored", "new", "old", "path", "rest", "rules", "takes")

    def __init__(self, path: bytes, old: Entry | None, new: Entry, rules: Rules) -> None:
        self.path = path
        self.old = old
        self.new = new
        self.rules = rules
        self.is_ignored = False
        self.takes = True
        self.is_going = False
        self.edits: dict[bytes, tuple[Entry, bytes] | None] = {}
        self.rest: Iterator[tuple[Entry | None, Entry | None]] = iter(())


class _TreeSelection:
    """One walk over what differs. `kept_old`: the paths left out at which the version has what the old tree has."""

    def __init__(self, sink: ObjectSink, selection: Selection) -> None:
        self._sink = sink
        self._selection = selection
        self.left_out: list[bytes] = []
        self.kept_old: set[bytes] = set()

    def run(self, old: Entry | None, new: Entry) -> Entry:
        top = self._frame(b"", old, new, self._selection.rules)
        top.takes = not self._selection.paths or b"" in self._selection.paths
        stack = [top]
        while True:
            frame = stack[-1]
            following = next(frame.rest, None)
            if following is not None:
                below = self._select_entry(frame, *following)
                if below is not None:
                    stack.append(below)
                continue
            stack.pop()
            entry = self._leave(frame)
            if not stack:
                return entry
            if frame.is_going or entry != frame.new:
                stack[-1].edits[entry.name] = entry, b""

    def _frame(self, path: bytes, old: Entry | None, new: Entry, rules: Rules) -> _Frame:
        frame = _Frame(path, old, new, rules.inside(path, rules_text(self._sink, new, path)))
        frame.rest = differing_entries(self._sink, old, new)
        return frame

    def _select_entry(self, frame: _Frame, was: Entry | None, now: Entry | None) -> _Frame | None:
        """Selects one name; returns the frame of a directory to go into."""
        name = either(was, now).name
        path = join_path(frame.path, name)
        takes, leads_on = frame.takes or self._selection.takes(path), self._selection.leads_on(path)
        if not takes and not leads_on:
            self._leave_out(frame, path, was)
            return None
        is_named = path in self._selection.paths
        old = was if was is not None and was.kind == Kind.DIR else None
        if now is None:
            if takes or old is None:
                return None
            below = self._frame(path, old, _emptied(old), frame.rules)
            below.takes, below.is_going = False, True
            return below
        is_directory = now.kind == Kind.DIR
        is_ignored = not is_named and (
            frame.is_ignored or frame.rules.ignores(frame.path, name, is_directory=is_directory)
        )
        is_versioned = was is not None and (was.kind == Kind.DIR) == is_directory
        if is_ignored and not is_versioned and not leads_on:
            self._leave_out(frame, path, None)
            return None
        if not is_directory:
            if not takes:
                self._leave_out(frame, path, was)
            return None
        below = self._frame(path, old, now, frame.rules)
        below.takes, below.is_ignored = takes, is_ignored
        return below

    def _leave_out(self, frame: _Frame, path: bytes, was: Entry | None) -> None:
        self.left_out.append(path)
        name = path[len(frame.path) + 1 :] if frame.path else path
        frame.edits[name] = None
        if was is not None:
            self.kept_old.add(path)
            is_tiny = was.kind == Kind.FILE and was.form == Form.TINY
            tiny = file_content(self._sink, cast("Entry", frame.old), was).tiny if is_tiny else b""
            frame.edits[name] = was, tiny

    def _leave(self, frame: _Frame) -> Entry:
        made = frame.new
        if frame.edits:
            made = _with(made, edit_directory(self._sink, made, frame.edits))
        if frame.takes or frame.old is None:
            return made
        # The directory's own mode and times are no part of what was asked for.
        contents = Directory(NodeId(made.content), NodeId(made.tiny), made.files, made.size)
        return _with(frame.old, contents)


class _Links:
    """The hard links of a version that takes part of a tree's changes.

    Names that it has of one tree are links of each other where they are so there; a group of the old tree of which the
    new one has changed nothing but names goes on as one.
    """

    def __init__(self, sink: ObjectSink, old: Tree | None, new: Tree, made: _TreeSelection) -> None:
        self._sink = sink
        self._old = old
        self._new = new
        self._left_out = frozenset(made.left_out)
        self._kept_old = made.kept_old
        self._paths = made.left_out

    def run(self) -> tuple[bytes, dict[bytes, bool]]:
        """Stores the link map; returns its root, and the flags that are to be set in the tree."""
        old_links = self._old.links if self._old is not None else b""
        groups = [
            {path for path in group_of(self._sink, old_links, leader) if self._is_as_before(path)}
            for leader in sorted(self._touched(old_links))
        ]
        leaders = self._touched(self._new.links)
        leaders |= {found for path in set().union(*groups) if (found := self._leader(path)) is not None}
        edits: dict[bytes, LinkItem | None] = {}
        for leader in sorted(leaders):
            members = group_of(self._sink, self._new.links, leader)
            edits.update(dict.fromkeys(members))
            groups.append({path for path in members if not self._is_left_out(path)})
        flags: dict[bytes, bool] = {}
        for group in _joined(groups):
            if len(group) == 1:
                flags[min(group)] = False
            edits.update((item.name, item) for item in (link_items([sorted(group)]) if len(group) > 1 else []))
        tree = map_edit(self._sink, LINKS, self._new.links, dict(edits))
        return tree.id, flags

    def _touched(self, links: bytes) -> set[bytes]:
        """Returns the leaders of the groups with a name that was left out."""
        found: set[bytes] = set()
        for path in self._paths if links else ():
            item = map_get(self._sink, LINKS, links, path)
            found.update([item.leader] if item is not None else [])
            start = path + b"/"
            for below in map_items(self._sink, LINKS, links, start):
                if not below.name.startswith(start):
                    break
                found.add(below.leader)
        return found

    def _leader(self, path: bytes) -> bytes | None:
        if self._is_left_out(path):
            return None
        item = map_get(self._sink, LINKS, self._new.links, path)
        return item.leader if item is not None else None

    def _is_left_out(self, path: bytes) -> bool:
        return any(path[:at] in self._left_out for at in _ends(path)) or path in self._left_out

    def _is_as_before(self, path: bytes) -> bool:
        """Returns True if the version has at a path of the old tree what that has."""
        if self._is_left_out(path):
            return not self._kept_old.isdisjoint((path, *(path[:at] for at in _ends(path))))
        assert self._old is not None
        return _find(self._sink, self._old.root, path) == _find(self._sink, self._new.root, path)


def _joined(groups: Iterable[set[bytes]]) -> list[set[bytes]]:
    """Returns the groups with those made one that have a member in common; empty ones are gone."""
    found: list[set[bytes]] = []
    for group in groups:
        touching = [other for other in found if other & group]
        found = [other for other in found if not other & group]
        found.append(group.union(*touching))
    return [group for group in found if group]


def _find(source: ObjectSource, root: Entry, path: bytes) -> Entry | None:
    try:
        return resolve_path(source, root, path).entry
    except (NotFound, NotADirectory):
        return None


def _has(source: ObjectSource, root: Entry, path: bytes) -> bool:
    return _find(source, root, path) is not None


def _ends(path: bytes) -> list[int]:
    """Returns where the paths of the directories above a path end, that of the root first."""
    return [0, *(at for at in range(1, len(path)) if path[at : at + 1] == b"/")] if path else []


def _emptied(directory: Entry) -> Entry:
    return _with(directory, _NOTHING)


def _with(directory: Entry, contents: Directory) -> Entry:
    return msgspec.structs.replace(
        directory, content=contents.content, tiny=contents.tiny, files=contents.files, size=contents.size
    )
