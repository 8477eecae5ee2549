"""Replays journals: applies their records again, which rebuilds the layer.

A record that does not apply to the state is skipped with a warning: it changes nothing, and later records count. An
invalid record is refused. Entries of the layers below are looked up before a record is applied.
"""

from __future__ import annotations

from collections import Counter

from vfs.errors import Corrupt, Unsupported
from vfs.model.names import is_name, show_path
from vfs.model.objects import Entry, Kind
from vfs.overlay.apply import (
    Below,
    apply_attributes,
    apply_copy_up,
    apply_create,
    apply_data,
    apply_graft,
    apply_inode_record,
    apply_link,
    apply_moved,
    apply_rename,
    apply_unlink,
    apply_whiteouts,
    apply_write,
    apply_xattr,
)
from vfs.overlay.journal.framing import StoredRecord
from vfs.overlay.journal.journal import Journal
from vfs.overlay.journal.journal_records import (
    CopyUp,
    Create,
    Data,
    Freed,
    Graft,
    InodeRecord,
    Link,
    Moved,
    Record,
    Rename,
    SetAttributes,
    SetXattr,
    Synced,
    Unlink,
    Whiteouts,
    Write,
    decode_stored,
)
from vfs.overlay.journal.recovery_hints import RECOVER_HINT
from vfs.overlay.layer_nodes import ROOT_INO, WHITEOUT, DirNode, Node, Place
from vfs.overlay.namespace import FILE_BYTES_MAX
from vfs.overlay.state import State, link_group

_WARNINGS_MAX = 5


class Inapplicable(Exception):
    """A record does not apply to the state that the records before it have led to; nothing has changed."""


class Replayer:
    """Replays journals into a state, one after the other. `passes_damage`: skips invalid records, too."""

    def __init__(self, state: State, *, passes_damage: bool = False) -> None:
        self._state = state
        self._passes_damage = passes_damage
        self._skipped: list[str] = []
        self._skipped_count: Counter[str] = Counter()
        self.records = 0

    def replay(self, journal: Journal) -> None:
        """Applies a journal's records to the active layer; raises Corrupt, Unsupported, and what the store raises."""
        self._state.journals[journal.generation] = journal
        for found in journal.records():
            try:
                self._apply(_decoded(found, journal), found, journal.generation)
            except Inapplicable as reason:
                self._skip(journal, found, str(reason))
            except (Corrupt, Unsupported) as error:
                if not self._passes_damage:
                    raise
                self._skip(journal, found, error.message)
            self.records += 1
        self._state.journal = journal

    def _skip(self, journal: Journal, found: StoredRecord, why: str) -> None:
        name = journal.path.name
        self._skipped_count[name] += 1
        if self._skipped_count[name] <= _WARNINGS_MAX:
            self._skipped.append(f"record {found.seq} of {name} was passed over: {why}")

    def notes(self) -> list[str]:
        """Returns warnings about skipped records."""
        more = sum(max(0, count - _WARNINGS_MAX) for count in self._skipped_count.values())
        return [*self._skipped, f"{more:,} more records were passed over"] if more else self._skipped

    def _apply(self, record: Record, found: StoredRecord, segment: int) -> None:
        """Applies a record; raises Inapplicable, and Corrupt for an invalid record."""
        state = self._state
        match record:
            case Write():
                _check_end(record.offset, found)
                apply_write(state, record, segment, found.data_position, found.data_bytes)
            case CopyUp():
                self._copy_up(record)
            case Create():
                self._create(record)
            case SetAttributes():
                apply_attributes(state, record)
            case Rename():
                self._rename(record)
            case Unlink():
                parent, _ = self._named(record.parent, record.name)
                apply_unlink(state, record, is_below=state.is_below(parent, record.name))
            case Link():
                self._link(record)
            case SetXattr():
                apply_xattr(state, record)
            case Graft():
                self._graft(record)
            case InodeRecord():
                self._inode_record(record, found, segment)
            case Data():
                _check_end(record.offset, found)
                apply_data(state, record, found, segment)
            case Whiteouts():
                self._directory(record.ino)
                apply_whiteouts(state, record)
            case Moved():
                apply_moved(state, record)
            case Synced() | Freed():
                pass
            case _:
                raise Corrupt(f"a {type(record).__name__} record in a layer's journal", hint=RECOVER_HINT)

    # The conditions of records. None of these methods changes anything.

    def _directory(self, ino: int) -> DirNode:
        node = self._state.active.nodes.get(ino)
        if not isinstance(node, DirNode):
            raise Inapplicable(f"there is no directory {ino}")
        return node

    def _named(self, parent: int, name: bytes) -> tuple[DirNode, Node]:
        """Returns a directory and the node that a name stands for there."""
        directory = self._directory(parent)
        node = self._state.active.nodes.get(directory.changes.get(name, WHITEOUT))
        if node is None:
            raise Inapplicable(f"{show_path(name)} is not in its directory")
        return directory, node

    def _free(self, parent: int, name: bytes) -> DirNode:
        """Returns a directory in which the layer has no inode at a name."""
        directory = self._directory(parent)
        if directory.changes.get(name, WHITEOUT) != WHITEOUT:
            raise Inapplicable(f"{show_path(name)} is in its directory already")
        return directory

    def _check_fresh(self, ino: int) -> None:
        if ino in self._state.active.nodes:
            raise Inapplicable(f"inode {ino} is there already")

    def _check_places(self, places: tuple[Place, ...]) -> None:
        for parent, name in places:
            if not is_name(name):
                raise Corrupt(f"{show_path(name)!r} cannot be a name", hint=RECOVER_HINT)
            self._directory(parent)

    def _below(self, place: Place) -> Below:
        """Returns what the base version has at a place of the active layer."""
        parent, name = place
        directory = self._directory(parent)
        entry = self._state.find_below(directory, name)
        if not isinstance(entry, Entry):
            raise Inapplicable(f"no version has {show_path(name)} there")
        leader = None
        if entry.linked and entry.kind != Kind.DIR and directory.base_path is not None:
            path = directory.base_path + b"/" + name if directory.base_path else name
            base = self._state.base
            leader = link_group(self._state.source, base.commit.links if base is not None else b"", path)[0]
        return Below(entry, leader)

    # Records that change names.

    def _copy_up(self, record: CopyUp) -> None:
        state = self._state
        if record.ino in state.active.nodes:
            # Journals of two generations that are replayed as one layer (a commit that failed) may both have it.
            return
        self._check_places(record.places)
        is_frozen = state.frozen is not None and record.ino in state.frozen.nodes
        apply_copy_up(state, record, None if is_frozen else self._below(record.places[0]))

    def _create(self, record: Create) -> None:
        self._free(record.parent, record.name)
        self._check_fresh(record.ino)
        if record.kind == Kind.SYMLINK and not record.target:
            raise Corrupt(f"{show_path(record.name)} leads nowhere", hint=RECOVER_HINT)
        apply_create(self._state, record)

    def _link(self, record: Link) -> None:
        node = self._state.active.nodes.get(record.ino)
        if node is None or isinstance(node, DirNode):
            raise Inapplicable(f"there is no file {record.ino}")
        self._free(record.parent, record.name)
        apply_link(self._state, record)

    def _rename(self, record: Rename) -> None:
        state = self._state
        old_parent, node = self._named(record.parent, record.name)
        new_parent = self._directory(record.new_parent)
        target = state.active.nodes.get(new_parent.changes.get(record.new_name, WHITEOUT))
        if record.exchange and target is None:
            raise Inapplicable(f"{show_path(record.new_name)} is not there to change places with")
        if target is node:
            raise Inapplicable(f"{show_path(record.name)} and {show_path(record.new_name)} are one file")
        self._check_not_below(node, new_parent)
        if record.exchange and target is not None:
            self._check_not_below(target, old_parent)
        apply_rename(state, record, is_below=state.is_below(old_parent, record.name))

    def _check_not_below(self, node: Node, directory: DirNode) -> None:
        if not isinstance(node, DirNode):
            return
        at: Node = directory
        while at.ino != ROOT_INO:
            if at is node:
                raise Inapplicable(f"directory {node.ino} would be in itself")
            if not at.places:
                return
            at = self._directory(at.places[0][0])

    def _graft(self, record: Graft) -> None:
        state = self._state
        entry = record.entry
        if entry is not None and entry.kind == Kind.FILE and record.directory is None:
            raise Corrupt("a committed file without the directory that holds it", hint=RECOVER_HINT)
        if not record.parent:
            if entry is None or entry.kind != Kind.DIR:
                raise Corrupt("no directory for the root", hint=RECOVER_HINT)
            apply_graft(state, record, list(state.groups_below(state.root)), is_below=False)
            return
        parent = self._directory(record.parent)
        old = state.active.nodes.get(parent.changes.get(record.name, WHITEOUT))
        if entry is not None and (old is None or old.ino != record.ino):
            self._check_fresh(record.ino)
        leaders = list(state.groups_below(old)) if isinstance(old, DirNode) else []
        apply_graft(state, record, leaders, is_below=entry is None and state.is_below(parent, record.name))

    def _inode_record(self, record: InodeRecord, found: StoredRecord, segment: int) -> None:
        _check_end(record.offset, found)
        self._check_places(record.places)
        present = self._state.active.nodes.get(record.ino)
        if present is not None and record.ino != ROOT_INO:
            raise Inapplicable(f"inode {record.ino} is there already")
        if record.ino == ROOT_INO and (record.kind != Kind.DIR or record.places):
            raise Corrupt("the root is no directory of its own", hint=RECOVER_HINT)
        if record.ino != ROOT_INO and not record.places:
            raise Inapplicable(f"inode {record.ino} has no name")
        apply_inode_record(self._state, record, found, segment)


def _decoded(found: StoredRecord, journal: Journal) -> Record:
    try:
        return decode_stored(found)
    except Corrupt as error:
        raise Corrupt(f"{journal.path}: {error.message}", hint=RECOVER_HINT) from error


def _check_end(offset: int, found: StoredRecord) -> None:
    if offset + found.data_bytes > FILE_BYTES_MAX:
        raise Corrupt("bytes behind the end of what a file can hold", hint=RECOVER_HINT)
