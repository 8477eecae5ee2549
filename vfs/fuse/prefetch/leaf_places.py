"""Where all small files of a directory's leaf lie, given to the native session layer at once.

A program that reads some files of a leaf in no order, as training does that shuffles, mostly reads the others too; to
look all of them up takes a few microseconds each, and one alone a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

from vfs.backend.protocol import MissingKey, OnDisk
from vfs.errors import VfsError
from vfs.fuse.native_leaves import NativeLeaves
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile
from vfs.model.ids import NodeId
from vfs.model.nodes import NodeKind, encode_node
from vfs.model.objects import Entry
from vfs.native.session import Found, FoundFile, NativeSession, Prepared
from vfs.store.object_store import ObjectStore
from vfs.store.trees.chunk_lists import list_runs

INDEX_BYTES_MAX = 64 * 1024 * 1024
"""Of an index that is larger, a mount reads only a part into memory, and each look-up may wait for the disk."""
_RUNS_MAX = 65
"""One more than the chunks that a file may have which is read natively."""


class LeafPlaces:
    """Prepares files whose leaf the native layer keeps. Used by one thread."""

    def __init__(self, store: ObjectStore, native: NativeSession, leaves: NativeLeaves) -> None:
        self._store = store
        self._native = native
        self._leaves = leaves
        self._is_used = store.remote is None and store.index.bytes_used() <= INDEX_BYTES_MAX

    def prepare(self, file: VersionFile, prepared: int) -> bool:
        """Locates the files of a leaf where `prepared` says that it is time; returns whether this one is prepared."""
        directory, position = file.directory.ino, file.position
        if prepared == Prepared.WORTH_LOCATING and self._is_used and self._locate(directory, position):
            prepared = self._native.prepare_at(directory, position, file.ino)
        return prepared == Prepared.YES

    def find(self, directory: VersionDirectory, entries: Sequence[tuple[int, Entry]]) -> list[FoundFile]:
        """Returns what is known of files, given with their positions; the places of their leaves are looked up."""
        positions = [position for position, _ in entries]
        while self._is_used:
            found = self._native.find_files(directory.ino, positions)
            missing = next((at for at, file in enumerate(found) if file.found == Found.NOT_LOCATED), None)
            if missing is None or not self._open(directory, *entries[missing]):
                return found
        return []

    def _open(self, directory: VersionDirectory, position: int, entry: Entry) -> bool:
        """Hands over the leaf of a position, located; returns False where it is not kept. Raises NotLocal, Corrupt."""
        if not self._leaves.hand_over(directory, entry.name):
            return False
        self._locate(directory.ino, position)
        return all(file.found != Found.NOT_LOCATED for file in self._native.find_files(directory.ino, [position]))

    def _locate(self, directory: int, position: int) -> bool:
        # The descriptors of packs have to stay open until the native layer has its own.
        opened: list[OnDisk] = []
        with suppress(VfsError, OSError):
            return self._native.locate_leaf(directory, position, self._lists, partial(self._places, opened))
        return False

    def _lists(self, ids: list[bytes]) -> list[bytes | memoryview]:
        return [self._list(NodeId(list_id)) for list_id in ids]

    def _list(self, list_id: NodeId) -> bytes | memoryview:
        """Returns a chunk list as one leaf, encoded, however many nodes it has; nothing for one that cannot be read."""
        # The request that reads its file reports it.
        with suppress(VfsError, OSError):
            encoded = self._store.encoded_node(list_id)
            if not encoded[1]:
                return encoded
            runs = [run for _, run in islice(list_runs(self._store, list_id), _RUNS_MAX)]
            return encode_node(NodeKind.CHUNKS, 0, runs)
        return b""

    def _places(self, opened: list[OnDisk], ids: list[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
        """Returns the index's rows of chunks, and number and descriptor of each pack."""
        store = self._store
        rows, packs = store.index.rows(ids)
        descriptors = []
        for number in packs:
            with suppress(VfsError, MissingKey, OSError):
                on_disk = store.backend.on_disk(store.index.pack_key(number), 0, 0)
                if on_disk is not None:
                    opened.append(on_disk)
                    descriptors.append((number, on_disk[0].descriptor))
        return rows, descriptors
