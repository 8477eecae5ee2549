"""Stores a frozen layer as a committed tree: file contents, edited directories, and the map of hard links.

The frozen layer is immutable, so none of this needs the overlay's lock, and writers continue meanwhile. The cost
follows the size of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from vfs.errors import Advice, Corrupt, Hint, TooLarge
from vfs.model.names import join_path, show_path
from vfs.model.nodes import LINKS
from vfs.model.objects import Content, Entry, Form, Kind
from vfs.model.validation import SIZE_MAX
from vfs.overlay.content import committed_content, fetch_into, layer_pieces, runs_of
from vfs.overlay.freezing import Frozen
from vfs.overlay.layer_nodes import ROOT_INO, WHITEOUT, CommittedFile, DirNode, FileNode
from vfs.store.object_store import ObjectSink
from vfs.store.progress_callbacks import FileProgress
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.directories import edit_directory, find_entry
from vfs.store.trees.maps import map_edit

Expecting = Callable[[int], None]
"""Called once with the number of bytes in all, before the first is done."""

_PENDING_BYTES_MAX = 32 * 1024 * 1024
"""A directory is edited in parts of about this size: not all of its tiny files are in memory at once."""
_EDIT_BYTES = 512

Edits = dict[bytes, tuple[Entry, bytes] | None]


def snapshot(
    frozen: Frozen,
    sink: ObjectSink,
    ingest: ContentWriter,
    progress: FileProgress | None = None,
    expecting: Expecting | None = None,
) -> tuple[Entry, bytes]:
    """Stores a frozen layer's tree and returns its root and the root of its link map; takes no lock.

    Keeps the new entries in `frozen`, for `Overlay.complete`. Raises TooLarge, before anything is stored, if the files'
    sizes add up to more than a version can hold.
    """
    # If its end got lost after the commit, the next generation would have no base (docs/durability.md, W6).
    frozen.sync()
    _require_countable(frozen)
    if expecting is not None:
        expecting(sum(node.size for node in frozen.layer.nodes.values() if isinstance(node, FileNode)))
    return _Snapshot(frozen, sink, ingest, progress).make()


class _Snapshot:
    """One run: the entries made so far, by inode number, and the contents of files with several names."""

    def __init__(self, frozen: Frozen, sink: ObjectSink, ingest: ContentWriter, progress: FileProgress | None) -> None:
        self._frozen = frozen
        self._sink = sink
        self._ingest = ingest
        self._progress = progress
        self._entries: dict[int, Entry] = {}
        self._linked: dict[int, Content] = {}
        self._files = 0
        self._bytes = 0
        self._damaged = {number: list(journal.damaged_data()) for number, journal in frozen.journals.items()}
        self._total = sum(node.kind != Kind.DIR for node in frozen.layer.nodes.values())

    def make(self) -> tuple[Entry, bytes]:
        for directory in _children_first(self._frozen):
            self._entries[directory.ino] = self._directory(directory)
        links = self._frozen.finish(self._entries)
        old_links = self._frozen.base.commit.links if self._frozen.base is not None else b""
        tree = map_edit(self._sink, LINKS, old_links, links.edits)
        return self._entries[ROOT_INO], tree.id

    def _directory(self, node: DirNode) -> Entry:
        nodes = self._frozen.layer.nodes
        made = node.lower
        assert not isinstance(made, DirNode)
        edits: Edits = {}
        pending = 0
        for name in node.sorted_names():
            if pending > _PENDING_BYTES_MAX:
                made = self._edited(node, made, edits)
                edits, pending = {}, 0
            ino = node.changes[name]
            if ino == WHITEOUT:
                edits[name] = None
                continue
            child = nodes[ino]
            if isinstance(child, DirNode):
                edits[name] = self._entries[ino], b""
            elif isinstance(child, FileNode):
                edit = edits[name] = self._file(child, name)
                pending += _EDIT_BYTES + len(edit[1])
            else:
                edits[name] = child.entry(name), b""
                self._entries[ino] = child.entry(name)
                self._done(0)
        return self._edited(node, made, edits)

    def _edited(self, node: DirNode, lower: Entry | None, edits: Edits) -> Entry:
        made = edit_directory(self._sink, lower, edits)
        entry = node.entry(node.places[0][1] if node.places else b"")
        return msgspec.structs.replace(entry, content=made.content, tiny=made.tiny, files=made.files, size=made.size)

    def _file(self, node: FileNode, name: bytes) -> tuple[Entry, bytes]:
        content = self._linked.get(node.ino)
        if content is None:
            content = self._content(node)
            self._done(node.size)
            if len(node.places) > 1:
                self._linked[node.ino] = content
        entry = msgspec.structs.replace(
            node.entry(name), content=content.id, form=content.form, size=content.size, hole_bytes=content.hole_bytes
        )
        if node.places[0][1] == name:
            self._entries[node.ino] = entry
        return entry, content.tiny

    def _content(self, node: FileNode) -> Content:
        self._check_data(node)
        lower = node.lower
        assert not isinstance(lower, FileNode)
        frozen = self._frozen
        if lower is not None and node.is_content_of(lower):
            return committed_content(frozen.source, lower)
        read = partial(self._read, node)
        runs = partial(runs_of, frozen.source, node)
        if lower is None or lower.entry.form != Form.LIST:
            return self._ingest.from_reader(node.size, read, runs)
        return self._ingest.update(
            committed_content(frozen.source, lower), node.size, _changed(node, lower), read, runs
        )

    def _read(self, node: FileNode, offset: int, buffer: memoryview) -> int:
        size = _read(self._frozen, node, offset, buffer)
        if self._progress is not None:
            self._progress(self._files, self._bytes + min(offset + size, node.size), self._total)
        return size

    def _check_data(self, node: FileNode) -> None:
        """Raises Corrupt for a file whose data in the journal is damaged (docs/durability.md, W10)."""
        for begin, stop, segment, position in node.extents:
            end = position + stop - begin
            if any(position < to and start < end for start, to in self._damaged.get(segment, ())):
                path = show_path(_path_of(self._frozen, node))
                raise Corrupt(
                    f"the uncommitted bytes of {path} are damaged in the working layer's journal",
                    hint=Hint(Advice.REWRITE_OR_RESTORE, {"path": path}),
                )

    def _done(self, size: int) -> None:
        self._files += 1
        self._bytes += size
        if self._progress is not None:
            self._progress(self._files, self._bytes, self._total)


def _children_first(frozen: Frozen) -> Iterator[DirNode]:
    """Yields the layer's directories, children before their parents."""
    nodes = frozen.layer.nodes
    stack: list[tuple[DirNode, bool]] = [(frozen.layer.directory(ROOT_INO), False)]
    while stack:
        node, is_ready = stack.pop()
        if is_ready:
            yield node
            continue
        stack.append((node, True))
        for name in reversed(node.sorted_names()):
            child = nodes.get(node.changes[name])
            if isinstance(child, DirNode):
                stack.append((child, False))


def _require_countable(frozen: Frozen) -> None:
    """Raises TooLarge if the sum of the files' sizes cannot be stored; sparse files can reach that."""
    if _total(frozen, is_exact=False) > SIZE_MAX and _total(frozen, is_exact=True) > SIZE_MAX:
        raise TooLarge(
            f"the files have more than {SIZE_MAX} bytes together, the most that a version can have",
            hint="Sparse files count with their holes: shrink or remove some of them, then try again.",
        )


def _total(frozen: Frozen, *, is_exact: bool) -> int:
    """Returns the bytes of all files; if not `is_exact`, includes replaced files and reads nothing."""
    nodes = frozen.layer.nodes
    totals: dict[int, int] = {}
    for directory in _children_first(frozen):
        lower = directory.lower
        assert not isinstance(lower, DirNode)
        total = lower.size if lower is not None else 0
        for name, ino in directory.changes.items():
            old = find_entry(frozen.source, lower, name) if is_exact and lower is not None else None
            if old is not None and old.kind in (Kind.FILE, Kind.DIR):
                total -= old.size
            child = nodes.get(ino)
            if isinstance(child, FileNode):
                total += child.size
            elif isinstance(child, DirNode):
                total += totals[ino]
        totals[directory.ino] = total
    return totals[ROOT_INO]


def _path_of(frozen: Frozen, node: FileNode) -> bytes:
    """Returns a path of a file of the layer; all directories above it are in the layer too."""
    parent, path = node.places[0]
    while parent != ROOT_INO:
        parent, name = frozen.layer.directory(parent).places[0]
        path = join_path(name, path)
    return path


def _read(frozen: Frozen, node: FileNode, offset: int, buffer: memoryview) -> int:
    end = min(offset + len(buffer), node.size)
    return fetch_into(layer_pieces(frozen.source, frozen.journals, node, offset, end), buffer)


def _changed(node: FileNode, lower: CommittedFile) -> list[tuple[int, int]]:
    """Returns the stretches that differ from the committed file, sorted, and joined where they touch."""
    stretches = [(stretch.start, stretch.end) for stretch in node.extents]
    both = min(node.size, lower.entry.size)
    if node.lower_size < both:
        # Truncated and grown again: zeros now.
        stretches.append((node.lower_size, both))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
