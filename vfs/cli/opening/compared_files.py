"""The bytes of files on both sides of a comparison: in a version, a live mount, or a working layer opened here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from vfs.cli.opening.open_repository import OpenRepository
from vfs.cli.opening.working_layer import held_layer
from vfs.control.mount_table import MountLocation, visible_mount_locations
from vfs.errors import NotFound
from vfs.formats.detail import Readable
from vfs.model.ids import Buffer
from vfs.model.names import join_path, show_path
from vfs.model.objects import Kind, Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import file_content, resolve_path
from vfs.store.trees.file_reader import FileReader


class Contents(Protocol):
    """The files of one side."""

    def open(self, path: bytes) -> AbstractContextManager[Readable]:
        """Opens a regular file by its path from the root. Raises NotFound, OSError."""
        ...


class VersionContents:
    """The files of a version."""

    def __init__(self, source: ObjectSource, version: Version) -> None:
        self._source = source
        self._root = version.commit.root

    @contextmanager
    def open(self, path: bytes) -> Iterator[Readable]:
        """Opens a regular file by its path from the root. Raises NotFound."""
        directory, entry = resolve_path(self._source, self._root, path)
        if directory is None or entry.kind != Kind.FILE:
            raise NotFound(f"{show_path(path)} is no regular file")
        yield FileReader(self._source, file_content(self._source, directory, entry))


class _PlainFile:
    """An open file of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, size: int) -> Buffer:
        """Returns bytes from an offset on."""
        pieces = []
        while size > 0 and (piece := os.pread(self._descriptor, size, offset)):
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
        return b"".join(pieces)


class _MountedContents:
    """The working layer, read through a live mount."""

    def __init__(self, places: Sequence[MountLocation], top: bytes) -> None:
        self._places = places
        self._top = top

    @contextmanager
    def open(self, path: bytes) -> Iterator[Readable]:
        """Opens a regular file by its path from the root. Raises NotFound, OSError."""
        wanted = join_path(self._top, path)
        found = next(filter(None, (place.path_to(wanted) for place in self._places)), None)
        if found is None:
            raise NotFound(f"{show_path(path)} is in a part of the mount that this process does not see")
        descriptor = os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield _PlainFile(descriptor)
        finally:
            os.close(descriptor)


class _LayerFile:
    """A file of a working layer that this process has open."""

    def __init__(self, overlay: Overlay, ino: int) -> None:
        self._overlay = overlay
        self._ino = ino
        self.size = overlay.getattr(ino).size

    def read(self, offset: int, size: int) -> Buffer:
        """Returns bytes from an offset on."""
        return self._overlay.read(self._ino, offset, size)


class _LayerContents:
    """The working layer, opened here because no daemon has it."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    @contextmanager
    def open(self, path: bytes) -> Iterator[Readable]:
        ino = ROOT_INO
        for name in path.split(b"/"):
            ino = self._overlay.lookup(ino, name).ino
        yield _LayerFile(self._overlay, ino)


@contextmanager
def working_contents(opened: OpenRepository) -> Iterator[Contents]:
    """Yields the files of the working layer: through the mount that has it, else opened here. Raises Busy."""
    with held_layer(opened) as held:
        if isinstance(held, Overlay):
            yield _LayerContents(held)
        else:
            # Where this process sees the mount: in a container the path differs from the daemon's.
            yield _MountedContents(visible_mount_locations(held.device), held.top)
