"""Versions, checked one after the other: the first in full, each later one where it differs from its parent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import msgspec

from vfs.errors import Corrupt, NotADirectory, NotFound
from vfs.model.names import join_path, show_path
from vfs.model.nodes import ENTRIES, LINKS, TINY, NodeKind
from vfs.model.objects import Commit, Entry, Kind, LinkItem, TinyItem
from vfs.repo.check.node_check import NodeChecker, NodeFacts, content_fault, entry_fault, tiny_fault
from vfs.store.object_store import ObjectStore
from vfs.store.trees.directories import find_entry, resolve_path
from vfs.store.trees.map_diff import either, map_diff
from vfs.store.trees.maps import map_get, map_items

Report = Callable[[bytes, str], None]
"""(path, what is wrong there)"""

FAULTS_MAX = 1000
"""So many faults of one version are reported; a tree whose subtrees are shared could repeat one for ever."""
_NOT_A_GROUP = "its group of hard links is not as groups are written"


class _Pair(NamedTuple):
    """A directory to check, and the sound entry of the parent version at its path (None: there is none)."""

    path: bytes
    old: Entry | None
    new: Entry


class _Key(NamedTuple):
    """Identifies the entries to check in a directory: the roots of its maps, before and now."""

    old_content: bytes
    old_tiny: bytes
    content: bytes
    tiny: bytes


def _key(pair: _Pair) -> _Key:
    old = pair.old if pair.old is not None and pair.old.kind == Kind.DIR else None
    before = (old.content, old.tiny) if old is not None else (b"-", b"-")
    return _Key(*before, pair.new.content, pair.new.tiny)


class _Member(NamedTuple):
    """A name of a directory to check; `has_tiny` is True if the tiny map could be read."""

    name: bytes
    old: Entry | None
    new: Entry | None
    tiny: TinyItem | None
    has_tiny: bool = True


class VersionChecker:
    """Checks versions; parents come before their children. Faults of objects go to the node checker."""

    def __init__(self, store: ObjectStore, nodes: NodeChecker, tiny_bytes_max: int) -> None:
        self._store = store
        self._nodes = nodes
        self._tiny_bytes_max = tiny_bytes_max
        self._has_links: dict[_Key, bool] = {}
        """Directories of the version looked at, and whether a hard link is below, which depends on the path."""
        self._linked = 0
        self._has_removed = False
        self.files = 0

    def check(self, commit: Commit, parent: Commit | None) -> list[tuple[bytes, str]]:
        """Checks a version's tree and links; returns (path, fault) for faults between several objects.

        `parent` is a version that was checked and found right, None checks everything.
        """
        found: list[tuple[bytes, str]] = []

        def report(path: bytes, what: str) -> None:
            found.append((path, what))

        fault = entry_fault(commit.root, self._tiny_bytes_max)
        if fault:
            report(b"", fault)
        leaders: set[bytes] = set()
        self._has_removed = False
        self._has_links.clear()
        stack: list[_Pair | _Key] = [_Pair(b"", parent.root if parent is not None else None, commit.root)]
        linked = [False]
        while stack and len(found) < FAULTS_MAX:
            at = stack.pop()
            if isinstance(at, _Key):
                # All below it has been looked at.
                has_links = self._has_links[at] = linked.pop()
                linked[-1] = linked[-1] or has_links
                continue
            key = _key(at)
            if self._has_links.get(key) is False:
                # Faults below were reported at the first place: a shared subtree is checked once.
                self._check_sums(at, report)
                continue
            stack.append(key)
            before = self._linked
            stack.extend(self._check_directory(at, commit, leaders, report))
            linked.append(self._linked > before)
        self._check_links(commit, parent.links if parent is not None else b"", leaders, report)
        return found

    def _check_directory(self, pair: _Pair, commit: Commit, leaders: set[bytes], report: Report) -> list[_Pair]:
        """Checks one directory's own names; returns the directories below it that are still to check."""
        path, old, new = pair
        if old is not None and old.kind != Kind.DIR:
            old = None
        if old is not None and (old.content, old.tiny) == (new.content, new.tiny):
            if (old.files, old.size) != (new.files, new.size):
                report(path, "the directory's sums changed and its contents did not")
            return []
        facts = self._check_sums(pair, report)
        tiny = self._nodes.check_tree(NodeKind.TINY, new.tiny)
        for kind, root in ((NodeKind.ENTRIES, new.content), (NodeKind.TINY, new.tiny)):
            if self._nodes.is_foreign(kind, root):
                report(path, "the directory names a tree node of another kind")
        is_whole = facts is not None and tiny is not None
        below: list[_Pair] = []
        for member in self._members(old, new) if is_whole else self._readable_members(new):
            child = join_path(path, member.name)
            for fault in self._faults(member, child, commit, leaders):
                report(child, fault)
            if member.new is not None and member.new.kind == Kind.DIR:
                below.append(_Pair(child, member.old, member.new))
        return below

    def _check_sums(self, pair: _Pair, report: Report) -> NodeFacts | None:
        facts = self._nodes.check_tree(NodeKind.ENTRIES, pair.new.content)
        if facts is not None and (facts.files, facts.size) != (pair.new.files, pair.new.size):
            report(pair.path, "the directory's sums are not those of what is in it")
        return facts

    def _members(self, old: Entry | None, new: Entry) -> Iterator[_Member]:
        """Yields the names to check: all, or those in which the directory differs from one without a fault."""
        if old is None or any(
            self._nodes.check_tree(kind, root) is None
            for kind, root in ((NodeKind.ENTRIES, old.content), (NodeKind.TINY, old.tiny))
        ):
            old = Entry(b"", Kind.DIR, 0, 0, 0, 0)
        seen: set[bytes] = set()
        for before, after in map_diff(self._store, ENTRIES, old.content, new.content):
            name = either(after, before).name
            tiny = map_get(self._store, TINY, new.tiny, name)
            if tiny is not None:
                seen.add(name)
            yield _Member(name, before, after, tiny)
        for left, right in map_diff(self._store, TINY, old.tiny, new.tiny):
            name = either(right, left).name
            if name not in seen:
                entry = find_entry(self._store, new, name)
                yield _Member(name, entry, entry, right)

    def _readable_members(self, new: Entry) -> Iterator[_Member]:
        """Yields the entries of a damaged directory that can be read."""
        for items in self._nodes.leaves(NodeKind.ENTRIES, new.content):
            for item in items:
                entry = cast("Entry", item)
                yield _Member(entry.name, None, entry, None, has_tiny=False)

    def _faults(self, member: _Member, path: bytes, commit: Commit, leaders: set[bytes]) -> Iterator[str]:
        entry = member.new
        if entry is None:
            if member.tiny is not None:
                yield "the directory keeps tiny bytes under a name that it does not have"
            self._has_removed = self._has_removed or (member.old is not None and member.old.kind == Kind.DIR)
            return
        self.files += entry.kind != Kind.DIR
        self._linked += entry.linked or (member.old is not None and member.old.linked)
        found = [entry_fault(entry, self._tiny_bytes_max)]
        if member.has_tiny:
            found.append(tiny_fault(entry, member.tiny))
        if entry.kind == Kind.FILE:
            found.append(content_fault(self._nodes, entry))
        yield from filter(None, found)
        if entry.kind != Kind.DIR:
            item = self._link_item(commit, path)
            if (item is not None) != entry.linked:
                yield "it is a hard link without a group" if entry.linked else "the link map names it and it is no link"
            elif item is not None:
                leaders.add(item.leader)

    def _check_links(self, commit: Commit, old_links: bytes, leaders: set[bytes], report: Report) -> None:
        if self._nodes.check_tree(NodeKind.LINKS, commit.links) is None:
            if self._nodes.is_foreign(NodeKind.LINKS, commit.links):
                report(b"", "the commit's link map is a tree of another kind")
            return
        if self._nodes.check_tree(NodeKind.LINKS, old_links) is None:
            old_links = b""
        if self._has_removed:
            # What was below a directory that is gone was not looked at: the map must name nothing there.
            leaders.update(item.leader for item in map_items(self._store, LINKS, commit.links))
        for before, after in map_diff(self._store, LINKS, old_links, commit.links):
            leaders.update(item.leader for item in (before, after) if item is not None)
        for leader in sorted(leaders):
            # What cannot be read is some object's damage, which is reported as that.
            with contextlib.suppress(Corrupt):
                fault = self._group_fault(commit, leader)
                if fault:
                    report(leader, fault)

    def _group_fault(self, commit: Commit, leader: bytes) -> str:
        item = self._link_item(commit, leader)
        if item is None:
            # A group that is gone; its former members were looked at as entries.
            return ""
        members = item.members
        if item.leader != leader and not members:
            # It led a group before, and belongs to another now, whose leader the map's item names.
            return self._group_fault(commit, item.leader) if self._leads(commit, item.leader) else _NOT_A_GROUP
        if item.leader != leader or len(members) < 2 or members[0] != leader or list(members) != sorted(set(members)):
            return _NOT_A_GROUP
        first: Entry | None = None
        for path in members:
            link = self._link_item(commit, path)
            if link is None or link.leader != leader or (path != leader and link.members):
                return f"the link map does not say the same of {show_path(path)}"
            try:
                entry = resolve_path(self._store, commit.root, path).entry
            except (NotFound, NotADirectory):
                return f"its group of hard links names {show_path(path)}, which does not exist"
            same = msgspec.structs.replace(entry, name=b"")
            if not entry.linked or same != (first or same):
                return f"{show_path(path)} is not the same file"
            first = first or same
        return ""

    def _leads(self, commit: Commit, path: bytes) -> bool:
        item = self._link_item(commit, path)
        return item is not None and item.leader == path

    def _link_item(self, commit: Commit, path: bytes) -> LinkItem | None:
        if self._nodes.check_tree(NodeKind.LINKS, commit.links) is None:
            return None
        return map_get(self._store, LINKS, commit.links, path)
