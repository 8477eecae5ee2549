"""Putting committed content into the working layer from outside: another base version, a restored path.

Inodes that the kernel refers to keep their numbers where the new content has the same kind of thing at their place;
the others live on without a name, as if they had been unlinked. Whoever asked is told which names to look up again.
What the new content has at their places is looked up before anything changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

from vfs.errors import Busy, Corrupt, InvalidInput
from vfs.model.names import join_path, show_path, split_path
from vfs.model.nodes import NodeKind
from vfs.model.objects import Entry, Kind, LinkItem, Version
from vfs.overlay.apply import Below, apply_copy_up, apply_graft, node_of_entry
from vfs.overlay.changes import differing_entries
from vfs.overlay.freezing import drop_old_journals, live_journals, next_journal, recount_children, switch_base
from vfs.overlay.journal.records import CopyUp, Graft
from vfs.overlay.namespace import Planned, inode_kind, materialise, resolve_path
from vfs.overlay.nodes import ROOT_INO, Clean, DirNode, FileNode, Node, Place
from vfs.overlay.open_journals import create_journal
from vfs.overlay.state import Group, Inode, Invalidation, Layer, State, link_group
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import find_entry
from vfs.store.trees.maps import map_items


class _Captured(NamedTuple):
    """An inode that is referred to, as it was before."""

    parent: int
    name: bytes
    place: Place | None
    entry: Entry
    directory: Entry | None
    """The committed directory that its content is in; of a directory: itself without changes."""
    changed: tuple[bytes, ...]
    """Names of a directory that differed from the committed one."""
    node: Node | None


def set_base(state: State, version: Version) -> list[Invalidation]:
    """Lets a working layer without changes stand on another version. The caller has checked that there are none."""
    _check_not_frozen(state)
    before = _capture(state, [*state.known.values(), *state.active.nodes.values()])
    ahead = NewContent(state.source, before, ROOT_INO, version.commit.root, version.commit.links)
    last = state.journal
    journal = create_journal(
        state.directory, state.branch, last.generation + 1, version, last.next_seq, state.on_step, is_start=True
    )
    state.journals[journal.generation] = state.journal = journal
    switch_base(state, version, {})
    reset_to(state, version)
    stale = _reattach(state, before, ahead)
    drop_old_journals(state, last.generation)
    return stale


def start_over(state: State) -> None:
    """Lets go of all journals of a layer that has no changes to a version; the new one gets the room kept so far.

    Times of directories are what the version says again. Raises OSError with nothing changed, as `set_base` does.
    """
    assert state.base is not None
    unread = [journal for journal in live_journals(state).values() if not journal.is_read]
    for journal in unread:
        journal.hold()
    last = state.journal
    try:
        last.release_reserve()
        set_base(state, state.base)
        for journal in unread:
            journal.clear()
    finally:
        if state.journal is last:
            last.reserve()
        for journal in unread:
            journal.release()


def start(state: State) -> int:
    """Begins an empty generation and returns the number of the one before."""
    _check_not_frozen(state)
    for journal in live_journals(state).values():
        journal.sync()
    old = state.journal.generation
    journal = next_journal(state)
    state.journals[journal.generation] = state.journal = journal
    return old


def replace(state: State, version: Version | None, root: Entry, links: bytes) -> list[Invalidation]:
    """Lets a working layer, whatever is in it, stand on a version and show a committed tree.

    Its newest generation has just begun and is empty; what was in the older ones is gone afterwards. Cut off before the
    step in the base file, it is taken from the operation that asked for it (vfs/overlay/opening.py).
    """
    _check_not_frozen(state)
    before = _capture(state, [*state.known.values(), *state.active.nodes.values()])
    ahead = NewContent(state.source, before, ROOT_INO, root, links)
    shown = CommittedTree(state.source, version, root, links)
    linked = [node for node in state.active.nodes.values() if len(node.places) > 1]
    old = state.journal.generation - 1
    reset_to(state, version)
    shown.show(state)
    switch_base(state, version, {})
    stale = _reattach(state, before, ahead)
    for node in linked:
        # Whatever stands at its names now, it may be one file no more.
        stale.extend(Invalidation(parent, name, node.ino) for parent, name in node.places)
        if state.is_in_use(node.ino) and state.find(node.ino) is None:
            node.origin, node.places = None, ()
            state.orphans[node.ino] = node
    drop_old_journals(state, old)
    return stale


def reset_to(state: State, version: Version | None, below: Version | None = None) -> None:
    """Empties the layer, in memory, over another base version; `below`: the tree that it changes in place of that."""
    state.active = Layer()
    state.base, state.below = version, below
    state.active.nodes[ROOT_INO] = state.base_root()
    state.known.clear()


class CommittedTree:
    """A committed tree that a layer is to show over a base version; everything that takes reading is read here."""

    def __init__(self, source: ObjectSource, version: Version | None, root: Entry, links: bytes) -> None:
        base = version.commit if version is not None else None
        self._is_base = base is not None and (base.root, base.links) == (root, links)
        self._root = root
        self._linked = GraftedLinks(source, root, b"" if self._is_base else links, b"")
        self._leaders = list(_leaders(source, base.links)) if base is not None and not self._is_base else []

    def show(self, state: State) -> None:
        """Lets an empty layer show the tree; durable on return. Nothing to do where its base has that tree."""
        if self._is_base:
            return
        top = Graft(ROOT_INO, 0, b"", self._root, None, state.now())
        copies = self._linked.copies(state, ROOT_INO)
        state.journal.append_all([top, *(copy.record for copy in copies)])
        state.journal.sync()
        apply_graft(state, top, self._leaders, is_below=False)
        for record, committed in copies:
            apply_copy_up(state, record, committed)


def _leaders(source: ObjectSource, links: bytes) -> Iterable[bytes]:
    return dict.fromkeys(cast("LinkItem", item).leader for item in map_items(source, NodeKind.LINKS, links))


def graft(
    state: State, path: bytes, entry: Entry | None, directory: Entry | None, links: bytes, source_path: bytes
) -> list[Invalidation]:
    """Puts committed content at a path in place of what is there; None removes it. See Overlay.graft."""
    _check_not_frozen(state)
    names = split_path(path)
    path = b"/".join(names)
    old: Node | None
    if not names:
        if entry is None or entry.kind != Kind.DIR:
            raise InvalidInput("the root can only be replaced by a directory")
        parent, name, old = state.root, b"", state.root
    else:
        name = names[-1]
        above = state.resolve_directory(resolve_path(state, b"/".join(names[:-1])).ino)
        parent = cast("DirNode", materialise(state, above.ino))
        found = state.child(parent, name)
        if found is None and entry is None:
            return []
        old = materialise(state, found.ino) if found is not None else None
    if entry is not None and entry.kind == Kind.FILE and directory is None:
        raise InvalidInput(f"{show_path(path)}: a file needs the directory that holds it")
    _materialise_groups(state, old, path)
    is_in_place = isinstance(old, DirNode) and entry is not None and entry.kind == Kind.DIR
    before = _capture(state, _below(state, old) if old is not None else [])
    # The nodes made so far show what was there. What is read from the store is read here, ahead of the record.
    ahead = NewContent(state.source, before, old.ino if old is not None and is_in_place else None, entry, b"")
    leaders = list(state.groups_below(old)) if isinstance(old, DirNode) else []
    is_below = bool(names) and entry is None and state.is_below(parent, name)
    linked_below = GraftedLinks(state.source, entry, links, source_path) if entry is not None else None
    place: Place = (parent.ino, name)
    ino = old.ino if old is not None and is_in_place else state.numbers.fresh(place)
    top = Graft(ino, parent.ino if names else 0, name, entry, directory, state.now())
    copies = linked_below.copies(state, ino) if linked_below is not None else []
    linked = [(node, len(node.places)) for node in state.active.nodes.values() if len(node.places) > 1]
    state.journal.append_all([top, *(copy.record for copy in copies)])
    apply_graft(state, top, leaders, is_below=is_below)
    for seen in before:
        state.known.pop(seen, None)
    for record, committed in copies:
        apply_copy_up(state, record, committed)
    stale = _reattach(state, before, ahead)
    for node, names_before in linked:
        if len(node.places) != names_before:
            stale.extend(Invalidation(*place, node.ino) for place in node.places)
    if names:
        stale.append(Invalidation(parent.ino, name, old.ino if old is not None else 0))
    return stale


def _check_not_frozen(state: State) -> None:
    if state.frozen is not None:
        raise Busy("a commit of this working layer is under way", hint="Try again when it is done.")


# Inodes that are referred to.


def _below(state: State, top: Inode) -> list[Inode]:
    """Returns the inodes at or below one that the kernel may know."""
    is_below: dict[int, bool] = {ROOT_INO: top.ino == ROOT_INO, top.ino: True}
    found: list[Inode] = []
    candidates: Iterable[Inode] = [*state.known.values(), *state.active.nodes.values()]
    for inode in candidates:
        climbed = []
        at = inode.ino
        while at not in is_below:
            climbed.append(at)
            at = state.parent_of(at)
        for ino in climbed:
            is_below[ino] = is_below[at]
        if is_below[inode.ino]:
            found.append(inode)
    return found


def _capture(state: State, inodes: Iterable[Inode]) -> dict[int, _Captured]:
    """Writes down what is known of inodes before their content is exchanged."""
    before: dict[int, _Captured] = {}
    for inode in inodes:
        if isinstance(inode, Clean):
            directory = inode.entry
            if inode.entry.kind != Kind.DIR:
                parent = state.resolve_directory(inode.parent)
                above = parent.entry if isinstance(parent, Clean) else parent.committed()
                assert above is not None
                directory = above
            before[inode.ino] = _Captured(inode.parent, inode.name, inode.place, inode.entry, directory, (), None)
            continue
        if len(inode.places) > 1:
            # One of its names goes, the inode stays.
            continue
        parent_ino, name = inode.places[0] if inode.places else (ROOT_INO, b"")
        committed = inode.committed() if isinstance(inode, DirNode) else None
        changed = tuple(inode.changes) if isinstance(inode, DirNode) else ()
        before[inode.ino] = _Captured(
            parent_ino, name, (parent_ino, name), inode.entry(name), committed, changed, inode
        )
    return before


class NewContent:
    """What a committed directory that takes the place of inode `top` has where inodes were; read ahead."""

    def __init__(
        self, source: ObjectSource, before: dict[int, _Captured], top: int | None, entry: Entry | None, links: bytes
    ) -> None:
        self._source = source
        self._links = links
        self.entries: dict[int, Entry | None] = {} if top is None else {top: entry}
        self.groups: dict[int, Group] = {}
        """Of hard links; only where the content becomes the base version, with its link map."""
        self.differing: dict[int, list[bytes]] = {}
        """Of directories: the names in which they differ from what was there."""
        self._paths: dict[int, bytes] = {} if top is None else {top: b""}
        for ino, seen in before.items():
            self._find(before, ino)
            found = self.entries.get(ino)
            if found is not None and found.kind == seen.entry.kind == Kind.DIR:
                self.differing[ino] = [
                    was.name if was is not None else cast("Entry", now).name
                    for was, now in differing_entries(source, seen.directory, found)
                ]

    def _find(self, before: dict[int, _Captured], ino: int) -> None:
        climbed = []
        while ino not in self.entries and ino in before and ino != ROOT_INO:
            climbed.append(ino)
            ino = before[ino].parent
        above = self.entries.get(ino)
        path = self._paths.get(ino, b"")
        for number in reversed(climbed):
            name = before[number].name
            if above is not None:
                above = find_entry(self._source, above, name) if above.kind == Kind.DIR else None
            self.entries[number] = above
            path = self._paths[number] = join_path(path, name)
            if above is not None and above.linked and self._links:
                self.groups[number] = link_group(self._source, self._links, path)


def _reattach(state: State, before: dict[int, _Captured], ahead: NewContent) -> list[Invalidation]:
    """Finds inodes at their places again, or lets them live on without a name; returns what to look up again."""
    state.reattaching = {ino: seen.place for ino, seen in before.items() if ino not in state.active.nodes}
    stale: dict[Place, int] = {}
    is_there: dict[int, bool] = {ROOT_INO: True}
    try:
        for ino in before:
            climbed = []
            at = ino
            while at not in is_there and at in before:
                climbed.append(at)
                at = before[at].parent
            is_there.setdefault(at, state.find(at) is not None)
            for number in reversed(climbed):
                seen = before[number]
                is_there[number] = is_there[seen.parent] and _reattach_one(state, number, seen, ahead)
                if not is_there[number]:
                    _orphan(state, number, seen)
        for ino, seen in before.items():
            _add_invalidations(state, ino, seen, ahead.differing.get(ino, ()) if is_there[ino] else None, stale)
    finally:
        state.reattaching = {}
    recount_children(state)
    return [Invalidation(parent, name, ino) for (parent, name), ino in stale.items()]


def _reattach_one(state: State, ino: int, seen: _Captured, ahead: NewContent) -> bool:
    """Says whether an inode is at its place again, as the same kind of thing."""
    if ino == ROOT_INO or ino in state.active.nodes:
        return True
    parent = state.find(seen.parent)
    if not isinstance(parent, (DirNode, Clean)) or inode_kind(parent) != Kind.DIR:
        return False
    found = ahead.entries.get(ino)
    is_changed = isinstance(parent, DirNode) and seen.name in parent.changes
    if found is None or is_changed or found.kind != seen.entry.kind:
        return False
    if ino in state.orphans:
        del state.orphans[ino]
    clean = state.claim(parent, seen.name, found, ahead.groups.get(ino))
    return clean.ino == ino


def _orphan(state: State, ino: int, seen: _Captured) -> None:
    """Keeps an inode that has no name any more for those who refer to it."""
    state.reattaching[ino] = None
    if not state.is_in_use(ino) or ino in state.orphans:
        return
    node = seen.node if seen.node is not None else node_of_entry(ino, seen.entry, seen.directory, None)
    node.origin = None
    node.places = ()
    if isinstance(node, DirNode):
        node.clear_changes()
        node.lower = None
    state.orphans[ino] = node


def _add_invalidations(
    state: State, ino: int, seen: _Captured, differing: Iterable[bytes] | None, stale: dict[Place, int]
) -> None:
    """Adds what is to be looked up again; `differing`: the names that are others in a directory, None: it is gone."""
    inode = state.find(ino)
    if differing is None or inode is None:
        stale[seen.parent, seen.name] = ino
        return
    entry = inode.entry if isinstance(inode, Clean) else inode.entry(seen.name)
    if entry != seen.entry:
        stale[seen.parent, seen.name] = ino
    if isinstance(inode, FileNode) or entry.kind != Kind.DIR:
        return
    for name in (*differing, *seen.changed):
        stale.setdefault((ino, name), 0)


# Hard links.


def _materialise_groups(state: State, old: Inode | None, path: bytes) -> None:
    """Makes nodes of groups of hard links of the base version that could not be found any more after a graft.

    Those with names both in a directory that goes and outside, and those with names in directories that have moved:
    the new content may have something else at the places where the base version has these directories.
    """
    if isinstance(old, DirNode) and path:
        for leader in dict.fromkeys(state.groups_below(old)):
            _materialise_group(state, leader, path + b"/")
    for node in list(state.active.nodes.values()):
        if isinstance(node, DirNode) and node.base_path and node.origin is not None and node.origin not in node.places:
            for leader in dict.fromkeys(state.groups_below(node)):
                _materialise_group(state, leader, None)


def _materialise_group(state: State, leader: bytes, inside: bytes | None) -> None:
    if leader in state.active.leaders:
        return
    _, members = state.link_group(leader)
    parents = {member: state.base_directory(member.rpartition(b"/")[0]) for member in members}
    if inside is not None and all((state.path_of(parent) + b"/").startswith(inside) for parent in parents.values()):
        return
    child = state.child(state.resolve_directory(parents[leader]), leader.rpartition(b"/")[2])
    assert child is not None
    materialise(state, child.ino)


class GraftedLinks:
    """The hard links in a committed tree that is about to be grafted, with the directories that lead to them.

    Its groups are those of another version's link map and may have names outside: so they cannot be left to be found
    there, as those of the base version are.
    """

    def __init__(self, source: ObjectSource, top: Entry, links: bytes, source_path: bytes) -> None:
        """Reads what is at `source_path` of a version with a link map; `top` is the entry there."""
        self._source = source
        self._entries: dict[bytes, Entry] = {b"": top}
        self._groups: list[list[bytes]] = []
        if top.kind != Kind.DIR or not links:
            return
        prefix = source_path + b"/" if source_path else b""
        groups: dict[bytes, list[bytes]] = {}
        for item in map_items(source, NodeKind.LINKS, links, prefix or None):
            link = cast("LinkItem", item)
            if not link.name.startswith(prefix):
                break
            groups.setdefault(link.leader, []).append(link.name[len(prefix) :])
        self._groups = list(groups.values())
        for members in self._groups:
            for member in members:
                self._find(member)

    def _find(self, path: bytes) -> Entry:
        found = self._entries.get(path)
        if found is None:
            directory, _, name = path.rpartition(b"/")
            above = self._find(directory)
            found = find_entry(self._source, above, name) if above.kind == Kind.DIR else None
            if found is None:
                raise Corrupt(f"the version's link map names {show_path(path)}, which is not there")
            self._entries[path] = found
        return found

    def copies(self, state: State, top: int) -> list[Planned]:
        """Returns what makes nodes of the links; reads nothing."""
        numbers: dict[bytes, int] = {b"": top}
        planned: list[Planned] = []
        taken = {top}

        def number(place: Place) -> int:
            ino = state.numbers.of_base(place)[0]
            return ino if ino not in taken else state.numbers.fresh(place, taken)

        def directory_number(path: bytes) -> int:
            if path not in numbers:
                above, _, name = path.rpartition(b"/")
                place = (directory_number(above), name)
                ino = numbers[path] = number(place)
                taken.add(ino)
                planned.append(Planned(CopyUp(ino, (place,)), Below(self._entries[path])))
            return numbers[path]

        for members in self._groups:
            places = []
            for member in members:
                directory, _, name = member.rpartition(b"/")
                places.append((directory_number(directory), name))
            ino = number(places[0])
            taken.add(ino)
            planned.append(Planned(CopyUp(ino, tuple(places)), Below(self._entries[members[0]])))
        return planned
