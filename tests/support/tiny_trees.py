"""Trees of tiny files, made from plain dictionaries of path to bytes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vfs.model.objects import Entry, Kind
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.trees.content_writer import tiny_content
from vfs.store.trees.directories import edit_directory, file_content, walk
from vfs.store.trees.file_reader import FileReader

Files = Mapping[bytes, bytes]
EMPTY = Entry(b"", Kind.DIR, 0o755, 0, 0, 0)


def build(sink: ObjectSink, files: Files, name: bytes = b"") -> Entry:
    """Stores a tree of tiny files, given by path."""
    below: dict[bytes, dict[bytes, bytes]] = {}
    edits: dict[bytes, tuple[Entry, bytes] | None] = {}
    for path, data in files.items():
        first, slash, rest = path.partition(b"/")
        if slash:
            below.setdefault(first, {})[rest] = data
        else:
            content = tiny_content(data)
            entry = Entry(first, Kind.FILE, 0o644, 0, 0, 0, content.size, content.id, content.form)
            edits[first] = (entry, content.tiny)
    for directory, names in below.items():
        edits[directory] = (build(sink, names, directory), b"")
    made = edit_directory(sink, None, edits)
    return msgspec.structs.replace(
        EMPTY, name=name, content=made.content, tiny=made.tiny, files=made.files, size=made.size
    )


def files_of(source: ObjectSource, root: Entry) -> dict[bytes, bytes]:
    """Returns the bytes of a stored tree's files, by path."""
    return {
        path: bytes(FileReader(source, file_content(source, directory, entry)).read(0, entry.size))
        for path, directory, entry in walk(source, root)
        if entry.kind == Kind.FILE
    }
