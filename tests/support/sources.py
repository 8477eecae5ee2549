"""Versions by path, as tests look into them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vfs.errors import IsADirectory, NotADirectory
from vfs.model.names import show_path, split_path
from vfs.model.nodes import NodeKind
from vfs.model.objects import Entry, Kind, Version
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import Place, entries, resolve_path, walk
from vfs.store.trees.file_reader import FileReader, open_file
from vfs.store.trees.maps import tree_sum


class Usage(NamedTuple):
    """What is at and below a path: `files` counts what is no directory, `size` the bytes of regular files."""

    files: int
    size: int


class Source:
    """One version, read by path."""

    def __init__(self, source: ObjectSource, version: Version) -> None:
        self.objects = source
        self.version = version
        self.root = version.commit.root

    def resolve(self, path: bytes) -> Place:
        """Returns what is at a path; the empty path is the root. Raises NotFound, NotADirectory."""
        return resolve_path(self.objects, self.root, b"/".join(split_path(path)))

    def list(self, path: bytes) -> Iterator[Entry]:
        """Yields a directory's entries by name; for anything else, its own entry."""
        entry = self.resolve(path).entry
        return entries(self.objects, entry) if entry.kind == Kind.DIR else iter((entry,))

    def count(self, path: bytes) -> int:
        """Returns how many entries a directory has, without reading them."""
        entry = self.resolve(path).entry
        if entry.kind != Kind.DIR:
            raise NotADirectory(f"{show_path(path)} is not a directory")
        return tree_sum(self.objects, NodeKind.ENTRIES, entry.content).items

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, Entry, Entry]]:
        """Yields (path, directory, entry) for all below a directory, in order."""
        entry = self.resolve(path).entry
        if entry.kind != Kind.DIR:
            raise NotADirectory(f"{show_path(path)} is not a directory")
        return walk(self.objects, entry, b"/".join(split_path(path)))

    def open(self, path: bytes) -> FileReader:
        """Opens a regular file. Raises IsADirectory, or InvalidInput for what has no bytes."""
        place = self.resolve(path)
        if place.directory is None or place.entry.kind == Kind.DIR:
            raise IsADirectory(f"{show_path(path) or '.'} is a directory")
        return open_file(self.objects, place.directory, place.entry, path)

    def usage(self, path: bytes) -> Usage:
        """Returns the sums at and below a path; reads no more than the way to it."""
        entry = self.resolve(path).entry
        return usage_of(entry)


def usage_of(entry: Entry) -> Usage:
    """Returns an entry's sums."""
    if entry.kind == Kind.DIR:
        return Usage(entry.files, entry.size)
    return Usage(1, entry.size if entry.kind == Kind.FILE else 0)
