"""Entries of a version for Python programs, and finding them by path; links are followed within the version."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import NamedTuple

from vfs.api.documents import kind_name
from vfs.errors import InvalidInput, NotADirectory, NotFound
from vfs.model.names import join_path, path_text, show_path
from vfs.model.objects import Entry as StoredEntry
from vfs.model.objects import Kind
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import find_entry

_LINKS_MAX = 40
"""As many as the kernel follows."""


class Entry(NamedTuple):
    """A file, directory or link of a version.

    `path` is relative to the version's root; bytes of it that are no UTF-8 are lone surrogates, as in `os.fsdecode`.
    `type` is `file`, `directory`, `symlink`, … `size` is in bytes, of a directory the sum of its files. `hash` is the
    content's id: equal for equal content. `mtime_ns` is Unix time in nanoseconds. `files` counts a directory's files.
    """

    path: str
    type: str
    size: int
    mode: int
    mtime_ns: int
    hash: str | None = None
    target: str | None = None
    files: int = 0

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def mtime(self) -> datetime:
        """The modification time, with its zone (UTC)."""
        return datetime.fromtimestamp(self.mtime_ns / 1e9, UTC)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.type == "file"

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.type == "directory"


def entry_of(path: bytes, stored: StoredEntry) -> Entry:
    """Returns a stored entry for a program."""
    is_link = stored.kind == Kind.SYMLINK
    return Entry(
        path_text(path),
        kind_name(stored),
        stored.size,
        stored.mode,
        stored.mtime_ns,
        stored.content.hex() if stored.content and not is_link else None,
        path_text(stored.content) if is_link else None,
        stored.files if stored.kind == Kind.DIR else 0,
    )


class Found(NamedTuple):
    """An entry, the directory that it is in (None: it is the root), and its path without links."""

    path: bytes
    directory: StoredEntry | None
    entry: StoredEntry


def path_bytes(path: str | os.PathLike[str]) -> bytes:
    """Returns a path of a version as it is stored: without slashes around it and empty parts.

    Raises InvalidInput for parts that are `.` or `..`, and for a NUL.
    """
    names = [name for name in os.fsencode(path).split(b"/") if name and name != b"."]
    if b".." in names or any(b"\0" in name for name in names):
        raise InvalidInput(f"{show_path(os.fsencode(path))} is no path of a version")
    return b"/".join(names)


def find(source: ObjectSource, root: StoredEntry, path: bytes, *, follow: bool = True) -> Found:
    """Returns the entry at a path below a version's root; `follow`: of a link, the entry that it leads to.

    Links on the way are followed. Raises NotFound, also for a link that leads out of the version; NotADirectory.
    """
    above: list[tuple[bytes, StoredEntry]] = []
    at, entry = b"", root
    names = list(reversed([name for name in path.split(b"/") if name]))
    links = 0
    while names:
        name = names.pop()
        if name == b".":
            continue
        if entry.kind != Kind.DIR:
            raise NotADirectory(f"{show_path(path)}: {show_path(at)} is not a directory")
        if name == b"..":
            if not above:
                raise NotFound(f"{show_path(path)} leads out of the version")
            at, entry = above.pop()
            continue
        found = find_entry(source, entry, name)
        if found is None:
            raise NotFound(f"no file or directory {show_path(path)} in this version")
        if found.kind == Kind.SYMLINK and (follow or names):
            links += 1
            if found.content.startswith(b"/") or links > _LINKS_MAX:
                raise NotFound(f"{show_path(path)}: the link {show_path(join_path(at, name))} leads out of the version")
            names.extend(reversed([part for part in found.content.split(b"/") if part]))
            continue
        above.append((at, entry))
        at, entry = join_path(at, name), found
    return Found(at, above[-1][1] if above else None, entry)
