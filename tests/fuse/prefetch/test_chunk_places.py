"""Places of chunks: what the native layer is told of files of versions."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from support.repositories import Repositories
from support.trees import write_file
from vfs.backend.local import LocalBackend
from vfs.backend.wrappers import FaultBackend
from vfs.fuse.inodes import InodeTable
from vfs.fuse.prefetch.chunk_places import ChunkPlaces
from vfs.fuse.view.version_inodes import VersionFile, VersionInodes
from vfs.model.ids import ChunkId
from vfs.model.objects import content_of
from vfs.native.session import WINDOW_BYTES, Place
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.remote.lazy_packs import LazyPacks
from vfs.repo.commit import commit
from vfs.store.object_store import ObjectStore
from vfs.store.packs.blocks import find_object
from vfs.store.packs.compression import Compression
from vfs.store.trees.directories import entries
from vfs.store.trees.file_reader import FileReader

CONTENTS = {
    b"large": random.Random(1).randbytes(10 << 20).hex().encode(),
    b"noise": random.Random(2).randbytes(1 << 20),
    b"one": random.Random(3).randbytes(20_000),
    b"pair": random.Random(4).randbytes(20_000),
    b"several": random.Random(5).randbytes(200_000),
    b"tiny": b"tiny",
    b"zero": b"",
}


class Places:
    """The places of a version's files, and the files that the disk was asked to read."""

    def __init__(self, repositories: Repositories, lazy: Path | None = None) -> None:
        """`lazy`: an empty directory, for which the repository is a remote."""
        made = repositories.make()
        overlay = repositories.overlay(made)
        for name, data in CONTENTS.items():
            write_file(overlay, name, data)
        write_file(overlay, b"holes", b"x" * 5000)
        holes = overlay.lookup(ROOT_INO, b"holes")
        overlay.setattr(holes.ino, size=8 << 20)
        version = commit(made, overlay, "a test", "tester").version
        overlay.close()
        repo = repositories.reopen(made)
        inodes = VersionInodes(repo.store, InodeTable())
        root = inodes.root(version)
        self.files: dict[bytes, VersionFile] = {}
        for entry in entries(repo.store, root.entry):
            file = inodes.child(root, entry)
            assert isinstance(file, VersionFile)
            self.files[entry.name] = file
        self._positions = {file.ino: file.position for file in self.files.values()}
        self.prepared: dict[int, Place] = {}
        self.store = repo.store
        if lazy is not None:
            packs = LazyPacks(LocalBackend(lazy), lazy, lambda: [FaultBackend(repo.backend, lambda *_: None)])
            self.store = ObjectStore(packs, repo.store.index)
        self.places = ChunkPlaces(self.store, self._prepare)

    def _prepare(self, ino: int, place: Place, directory: int, position: int) -> bool:
        assert (directory, position) == (self.files[b"one"].directory.ino, self._positions[ino])
        self.prepared[ino] = place
        return True

    def fetch(self, name: bytes, offset: int = 0, end: int | None = None) -> None:
        """Reads part of a file, which keeps it where packs are lazy."""
        reader = FileReader(self.store, content_of(self.files[name].entry))
        for _, ref in reader.refs(offset, end):
            self.store.get_chunk(ChunkId(ref.id))

    def found(self, name: bytes, offset: int, size: int) -> Place | None:
        """Returns a place, after a look at the bytes that lie there."""
        located = self.places.find(self.files[name], offset, offset + size)
        if located is None:
            return None
        place = located[0]
        data = CONTENTS[name]
        at = place.start
        for piece in place.pieces:
            raw = os.pread(piece.descriptor, piece.block_bytes - piece.rest_bytes, piece.offset)
            raw += os.pread(piece.descriptor, piece.rest_bytes, piece.rest_offset)
            assert find_object(raw, piece.id, "the pack", Compression()) == data[at : at + piece.size]
            at += piece.size
        assert place.size == len(data)
        assert place.start <= offset
        assert at >= min(offset + size, len(data))
        return place


@pytest.fixture
def places(repositories: Repositories) -> Places:
    return Places(repositories)


def test_a_small_file_is_located_whole(places: Places) -> None:
    for name in (b"one", b"pair", b"several"):
        for offset in (0, 10_000):
            place = places.found(name, offset, 4096)
            assert place is not None
            assert place.start == 0
            assert sum(piece.size for piece in place.pieces) == len(CONTENTS[name])
            assert not place.is_kept


def test_the_second_read_of_a_window_locates_all_of_it(places: Places) -> None:
    for start in (0, WINDOW_BYTES):
        first = places.found(b"large", start + 2_000_000, 4096)
        assert first is not None
        assert not first.is_kept
        assert len(first.pieces) <= 2
        second = places.found(b"large", start + 1_000_000, 4096)
        assert second is not None
        assert second.is_kept
        end = second.start + sum(piece.size for piece in second.pieces)
        assert end >= min(start + WINDOW_BYTES, len(CONTENTS[b"large"]))


def test_a_read_that_leaves_its_window_is_located_to_its_end(places: Places) -> None:
    for _ in range(2):
        assert places.found(b"large", WINDOW_BYTES - 1000, 1 << 20) is not None


def test_what_has_no_chunks_or_holes_is_not_located(places: Places) -> None:
    for name in (b"tiny", b"zero"):
        assert places.found(name, 0, 4096) is None
    for _ in range(2):
        assert places.places.find(places.files[b"holes"], 0, 4096) is None


def test_a_small_file_is_prepared_with_the_place_that_it_has(places: Places) -> None:
    for name, is_small in ((b"one", True), (b"several", True), (b"noise", False), (b"tiny", False)):
        file = places.files[name]
        assert places.places.prepare(file, file.entry) == is_small
        assert (file.ino in places.prepared) == is_small
        if is_small:
            assert places.found(name, 0, 4096) == places.prepared[file.ino]


@pytest.fixture
def lazy(repositories: Repositories, tmp_path: Path) -> Places:
    (tmp_path / "lazy").mkdir()
    return Places(repositories, tmp_path / "lazy")


def test_what_a_cache_has_of_a_remote_is_located(lazy: Places) -> None:
    for name in (b"one", b"pair", b"several"):
        lazy.fetch(name)
        assert lazy.found(name, 0, 4096) is not None
    assert lazy.found(b"large", 0, 4096) is None


def test_a_window_of_a_remote_is_located_when_all_of_it_is_here(lazy: Places) -> None:
    assert not any(lazy.found(b"large", 0, 4096) for _ in range(9))
    lazy.fetch(b"large", 0, 4096)
    lazy.fetch(b"large", WINDOW_BYTES - 4096, WINDOW_BYTES)
    assert not any(lazy.found(b"large", 0, 4096) for _ in range(9))
    lazy.fetch(b"large", 0, WINDOW_BYTES)
    (found,) = (place for _ in range(4) if (place := lazy.found(b"large", 0, 4096)) is not None)
    assert found.is_kept
    assert any(piece.rest_bytes for piece in found.pieces)
    # The layer has dropped it.
    assert lazy.found(b"large", 0, 4096) == found


def test_the_next_window_of_a_remote_is_fetched_while_one_is_read_natively(lazy: Places) -> None:
    lazy.fetch(b"large", 0, WINDOW_BYTES)
    for _ in range(2):
        assert lazy.found(b"large", 0, 4096) is not None
    assert lazy.store.remote is not None
    lazy.store.remote.wait_idle()
    assert lazy.found(b"large", WINDOW_BYTES, 4096) is not None
