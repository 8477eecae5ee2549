"""Replaces content of the working layer by committed content: another base version, a graft, a restored path.

Inodes that the kernel refers to keep their numbers if the new content has an inode of the same kind at their place
(they are reattached); the others become orphans, as if they had been unlinked. The caller gets the names to invalidate.
The new content at those places is read before anything changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

from vfs.errors import Busy, Corrupt, InvalidInput
from vfs.model.names import join_path, show_path, split_path
from vfs.model.nodes import LINKS
from vfs.model.objects import Entry, Kind, Version
from vfs.overlay.apply import Below, apply_copy_up, apply_graft, node_of_entry
from vfs.overlay.copy_up import Planned, materialise
from vfs.overlay.freezing import drop_old_journals, live_journals, next_journal, recount_children, switch_base
from vfs.overlay.journal.journal_records import CopyUp, Graft
from vfs.overlay.layer_changes import differing_entries
from vfs.overlay.layer_nodes import ROOT_INO, Clean, DirNode, FileNode, Node, Place
from vfs.overlay.namespace import inode_kind, resolve_path
from vfs.overlay.open_journals import create_journal
from vfs.overlay.state import Group, Inode, Invalidation, Layer, State, link_group
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import find_entry
from vfs.store.trees.map_diff import either
from vfs.store.trees.maps import map_items


class _Captured(NamedTuple):
    """The state of a referred-to inode before the replacement."""

    parent: int
    name: bytes
    place: Place | None
    entry: Entry
    directory: Entry | None
    """The committed directory that holds it; for a directory: its own committed entry."""
    changed: tuple[bytes, ...]
    """Names of a directory that differed from the committed one."""
    node: Node | None


def set_base(state: State, version: Version) -> list[Invalidation]:
    """Gives a working layer another base version. The caller has checked that there are no changes."""
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
    invalidations = _reattach(state, before, ahead)
    drop_old_journals(state, last.generation)
    return invalidations


def start_over(state: State) -> None:
    """Replaces all journals of a layer without changes by an empty one, which gets the space reserved so far.

    Directories get their committed times back. Raises OSError with nothing changed, as `set_base` does.
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
    """Gives a working layer a base version and a committed tree as its content; discards its changes.

    Its newest generation has just begun and is empty; the older ones are discarded. If the process dies before the step
    in the base file, the next opening repeats it from the operation log (vfs/overlay/opening.py).
    """
    _check_not_frozen(state)
    before = _capture(state, [*state.known.values(), *state.active.nodes.values()])
    ahead = NewContent(state.source, before, ROOT_INO, root, links)
    tree = CommittedTree(state.source, version, root, links)
    linked = [node for node in state.active.nodes.values() if len(node.places) > 1]
    old = state.journal.generation - 1
    reset_to(state, version)
    tree.graft_into(state)
    switch_base(state, version, {})
    invalidations = _reattach(state, before, ahead)
    for node in linked:
        # Its names may belong to different files now.
        invalidations.extend(Invalidation(parent, name, node.ino) for parent, name in node.places)
        if state.is_in_use(node.ino) and state.find(node.ino) is None:
            node.origin, node.places = None, ()
            state.orphans[node.ino] = node
    drop_old_journals(state, old)
    return invalidations


def reset_to(state: State, version: Version | None, below: Version | None = None) -> None:
    """Makes the layer empty, in memory, over another base; `below`: the commit that it changes in place of that."""
    state.active = Layer()
    state.base, state.below = version, below
    state.active.nodes[ROOT_INO] = state.base_root()
    state.known.clear()


class CommittedTree:
    """A committed tree to graft over a base version; everything that is needed from the store is read here."""

    def __init__(self, source: ObjectSource, version: Version | None, root: Entry, links: bytes) -> None:
        base = version.commit if version is not None else None
        self._is_base = base is not None and (base.root, base.links) == (root, links)
        self._root = root
        self._linked = GraftedLinks(source, root, b"" if self._is_base else links, b"")
        self._leaders = list(_leaders(source, base.links)) if base is not None and not self._is_base else []

    def graft_into(self, state: State) -> None:
        """Grafts the tree into an empty layer, durably; does nothing if it is the base version's tree."""
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
    return dict.fromkeys(item.leader for item in map_items(source, LINKS, links))


def graft(
    state: State, path: bytes, entry: Entry | None, directory: Entry | None, links: bytes, source_path: bytes
) -> list[Invalidation]:
    """Grafts committed content at a path; None removes the path. See Overlay.graft."""
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
    # The nodes made so far equal what was there. Everything from the store is read here, before the record.
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
    invalidations = _reattach(state, before, ahead)
    for node, names_before in linked:
        if len(node.places) != names_before:
            invalidations.extend(Invalidation(*place, node.ino) for place in node.places)
    if names:
        invalidations.append(Invalidation(parent.ino, name, old.ino if old is not None else 0))
    return invalidations


def _check_not_frozen(state: State) -> None:
    if state.frozen is not None:
        raise Busy("a commit of this working layer is in progress", hint="Try again when it has finished.")


# Referred-to inodes.


def _below(state: State, top: Inode) -> list[Inode]:
    """Returns the known inodes at or below one."""
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
    """Captures the state of inodes before their content is replaced."""
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
            # It loses one of its names, and stays.
            continue
        parent_ino, name = inode.places[0] if inode.places else (ROOT_INO, b"")
        committed = inode.committed() if isinstance(inode, DirNode) else None
        changed = tuple(inode.changes) if isinstance(inode, DirNode) else ()
        before[inode.ino] = _Captured(
            parent_ino, name, (parent_ino, name), inode.entry(name), committed, changed, inode
        )
    return before


class NewContent:
    """The new content at the places of known inodes, below the inode `top` that `entry` replaces; read in advance."""

    def __init__(
        self, source: ObjectSource, before: dict[int, _Captured], top: int | None, entry: Entry | None, links: bytes
    ) -> None:
        self._source = source
        self._links = links
        self.entries: dict[int, Entry | None] = {} if top is None else {top: entry}
        self.groups: dict[int, Group] = {}
        """Groups of hard links; only if the content becomes the base version, with its link map."""
        self.differing: dict[int, list[bytes]] = {}
        """By directory: the names in which old and new content differ."""
        self._paths: dict[int, bytes] = {} if top is None else {top: b""}
        for ino, seen in before.items():
            self._find(before, ino)
            found = self.entries.get(ino)
            if found is not None and found.kind == seen.entry.kind == Kind.DIR:
                self.differing[ino] = [
                    either(was, now).name for was, now in differing_entries(source, seen.directory, found)
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
    """Reattaches inodes to their places, or makes them orphans; returns the names to invalidate."""
    state.reattaching = {ino: seen.place for ino, seen in before.items() if ino not in state.active.nodes}
    found: dict[Place, int] = {}
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
            _add_invalidations(state, ino, seen, ahead.differing.get(ino, ()) if is_there[ino] else None, found)
    finally:
        state.reattaching = {}
    recount_children(state)
    return [Invalidation(parent, name, ino) for (parent, name), ino in found.items()]


def _reattach_one(state: State, ino: int, seen: _Captured, ahead: NewContent) -> bool:
    """Reattaches an inode; returns False if its place has nothing of the same kind."""
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
    """Keeps an inode without a name while it is referred to."""
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
    state: State, ino: int, seen: _Captured, differing: Iterable[bytes] | None, found: dict[Place, int]
) -> None:
    """Adds the names to invalidate; `differing`: the changed names of a directory, None if the inode is an orphan."""
    inode = state.find(ino)
    if differing is None or inode is None:
        found[seen.parent, seen.name] = ino
        return
    entry = inode.entry if isinstance(inode, Clean) else inode.entry(seen.name)
    if entry != seen.entry:
        found[seen.parent, seen.name] = ino
    if isinstance(inode, FileNode) or entry.kind != Kind.DIR:
        return
    for name in (*differing, *seen.changed):
        found.setdefault((ino, name), 0)


# Hard links.


def _materialise_groups(state: State, old: Inode | None, path: bytes) -> None:
    """Materialises groups of hard links of the base version that could not be found after a graft.

    These are groups with names both inside and outside of a removed directory, and groups with names in directories
    that have moved: the new content may have other inodes at the places of these directories in the base version.
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
    """The hard links in a committed tree that is about to be grafted, with the directories above them.

    Its groups come from another version's link map and may have names outside of the tree: so they get nodes at once,
    while groups of the base version are found in its link map when needed.
    """

    def __init__(self, source: ObjectSource, top: Entry, links: bytes, source_path: bytes) -> None:
        """Reads the links below `source_path` of a version with a link map; `top` is the entry there."""
        self._source = source
        self._entries: dict[bytes, Entry] = {b"": top}
        self._groups: list[list[bytes]] = []
        if top.kind != Kind.DIR or not links:
            return
        prefix = source_path + b"/" if source_path else b""
        groups: dict[bytes, list[bytes]] = {}
        for item in map_items(source, LINKS, links, prefix or None):
            link = item
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
        """Returns the copy-ups that materialise the links; reads nothing from the store."""
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
