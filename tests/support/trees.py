"""Working layers and versions as plain dictionaries, to be compared."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind, Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import walk
from vfs.store.trees.file_reader import open_file

Picture = dict[bytes, bytes | None]
"""Path to bytes (of a file, or a link's target); None for anything else."""


def picture_of_version(source: ObjectSource, version: Version) -> Picture:
    """Returns what a version holds."""
    return {path: _content(source, directory, entry) for path, directory, entry in walk(source, version.commit.root)}


def _content(source: ObjectSource, directory: Entry, entry: Entry) -> bytes | None:
    if entry.kind == Kind.SYMLINK:
        return entry.content
    if entry.kind != Kind.FILE:
        return None
    return bytes(open_file(source, directory, entry, entry.name).read(0, entry.size))


def picture_of_overlay(overlay: Overlay) -> Picture:
    """Returns what a working layer holds."""
    found: Picture = {}
    stack = [(b"", ROOT_INO)]
    while stack:
        path, ino = stack.pop()
        for name in overlay.names(ino):
            attr = overlay.lookup(ino, name)
            child = join_path(path, name)
            if attr.kind == Kind.DIR:
                found[child] = None
                stack.append((child, attr.ino))
            elif attr.kind == Kind.FILE:
                found[child] = bytes(overlay.read(attr.ino, 0, attr.size))
            elif attr.kind == Kind.SYMLINK:
                found[child] = overlay.readlink(attr.ino)
            else:
                found[child] = None
    return found


def picture_of_directory(root: Path) -> Picture:
    """Returns what a plain directory holds."""
    found: Picture = {}
    top = os.fsencode(root)
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            content = None
            if stat.S_ISREG(mode):
                content = Path(os.fsdecode(path)).read_bytes()
            elif stat.S_ISLNK(mode):
                content = os.readlink(path)
            found[os.path.relpath(path, top)] = content
    return found


def write_file(overlay: Overlay, path: bytes, data: bytes) -> int:
    """Writes a file of a working layer whole, with the directories that lead there; returns its inode."""
    parent = ROOT_INO
    *directories, name = path.split(b"/")
    for directory in directories:
        if directory in set(overlay.names(parent)):
            parent = overlay.lookup(parent, directory).ino
        else:
            parent = overlay.mkdir(parent, directory, 0o755, 0, 0).ino
    if name in set(overlay.names(parent)):
        ino = overlay.lookup(parent, name).ino
        overlay.setattr(ino, size=0)
    else:
        ino = overlay.mknod(parent, name, stat.S_IFREG | 0o644, 0, 0, 0).ino
    overlay.write(ino, 0, data)
    return ino
