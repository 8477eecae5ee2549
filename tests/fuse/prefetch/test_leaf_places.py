"""The places of a directory's small files, looked up leaf by leaf in a real repository."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

import pytest

from support.native_layer import READ_, READ_BYTES_MAX, Kernel, read_body
from support.repositories import Repositories
from support.trees import write_file
from vfs.errors import Corrupt
from vfs.fuse.inodes import CollisionTable
from vfs.fuse.native_parts import NativeParts
from vfs.fuse.prefetch.leaf_places import LeafPlaces
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile
from vfs.model.ids import Buffer, NodeId
from vfs.model.objects import Entry, Form
from vfs.native.session import HANDLE, Found, Place, Prepared
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.store.packs.blocks import MissingObject
from vfs.store.packs.tree_blocks import TreeBlock
from vfs.store.trees.chunk_lists import list_leaf
from vfs.store.trees.directories import numbered_entries

FILES = 600


class _Nothing:
    def locate(self, _ino: int, _offset: int, _size: int) -> Place | None:
        return None

    def located(self) -> None:
        pass


def _content(number: int) -> bytes:
    source = random.Random(number)
    size = {7: 0, 8: 100, 9: 300_000, 10: 256 * 1024}.get(number, source.randint(1000, 200_000))
    return source.randbytes(size) if number % 3 else source.randbytes(size).hex().encode()[:size]


def test_all_small_files_of_a_directory_are_located_and_read(repositories: Repositories, kernel: Kernel) -> None:
    made = repositories.make()
    overlay = repositories.overlay(made)
    for number in range(FILES):
        write_file(overlay, b"%04d" % number, _content(number))
    version = commit(made, overlay, "a test", "tester").version
    overlay.close()
    repo = repositories.reopen(made)
    parts = NativeParts(kernel.session, repo.store, CollisionTable(), hash_bits=64)
    inodes = parts.versions
    root = inodes.root(version)
    inodes.hold(root)
    numbered = list(numbered_entries(repo.store, root.entry))
    assert kernel.session.serve_reads(_Nothing()) is not None
    leaves = LeafPlaces(repo.store, kernel.session, parts.leaves)
    deep = 0
    for start in range(0, FILES, 50):
        batch = numbered[start : start + 50]
        found = leaves.find(root, batch)
        is_small = [entry.form in (Form.CHUNK, Form.LIST) and entry.size <= 256 * 1024 for _, entry in batch]
        assert [file.found == Found.PLACE for file in found] == is_small
        files = [file._replace(found=Found.KNOWN) for file in found if file.found == Found.PLACE]
        for file, (position, entry) in zip(found, batch, strict=True):
            if file.found == Found.PLACE:
                child = inodes.child(root, entry, position)
                assert (child.ino, getattr(child, "check", 0)) == (file.ino, file.check)
                deep += _has_two_levels(repo.store, entry)
        kernel.session.prefetch(root.ino, files, 0)
        for file in files:
            assert kernel.send(READ_, file.ino, read_body(file.ino | HANDLE, 0, READ_BYTES_MAX)) is None
            assert kernel.answer() == (0, _content(file.position))
    # Lists whose chunks are divided among nodes.
    assert deep


def _has_two_levels(store: object, entry: Entry) -> bool:
    return entry.form == Form.LIST and store.encoded_node(entry.content)[1] > 0  # type: ignore[attr-defined]


@dataclass
class _Scene:
    """A repository of some files, opened anew, and what reads of its packs there were."""

    repo: Repository
    kernel: Kernel
    parts: NativeParts
    root: VersionDirectory
    batch: list[tuple[int, Entry]]
    reads: list[str]

    def __post_init__(self) -> None:
        backend = self.repo.store.backend
        read_range = backend.read_range

        def read(key: str, offset: int, size: int) -> bytes:
            self.reads.append(key)
            return read_range(key, offset, size)

        backend.read_range = read  # type: ignore[method-assign]

    def leaves(self) -> LeafPlaces:
        assert self.parts.leaves.hand_over(self.root, self.batch[0][1].name)
        self.reads.clear()
        return LeafPlaces(self.repo.store, self.kernel.session, self.parts.leaves)

    def file(self, at: int) -> VersionFile:
        position, entry = self.batch[at]
        file = self.parts.versions.child(self.root, entry, position)
        assert isinstance(file, VersionFile)
        return file

    def prepare(self, leaves: LeafPlaces, at: int) -> bool:
        """Prepares a file as at a look-up; returns whether it is time to locate the leaf's, and it is prepared then."""
        file = self.file(at)
        prepared = self.kernel.session.prepare_at(self.root.ino, file.position, file.ino)
        return prepared == Prepared.WORTH_LOCATING and leaves.prepare(file, prepared)

    def placed(self) -> list[int]:
        return [
            file.found
            for file in self.kernel.session.find_files(self.root.ino, [position for position, _ in self.batch])
        ]

    def found(self, leaves: LeafPlaces) -> list[Found]:
        return [Found(file.found) for file in leaves.find(self.root, self.batch)]


@pytest.fixture
def scene(repositories: Repositories, kernel: Kernel, request: pytest.FixtureRequest) -> _Scene:
    """Files of several chunks, in so many versions: of each version the lists are in one block."""
    count, in_version = request.param
    made = repositories.make()
    overlay = repositories.overlay(made)
    for number in range(count):
        write_file(overlay, b"%04d" % number, random.Random(number).randbytes(200_000))
        if number % in_version == in_version - 1:
            commit(made, overlay, "a test", "tester")
    overlay.close()
    repo = repositories.reopen(made)
    parts = NativeParts(kernel.session, repo.store, CollisionTable(), hash_bits=64)
    head = repo.head()
    assert head is not None
    root = parts.versions.root(head)
    parts.versions.hold(root)
    return _Scene(repo, kernel, parts, root, list(numbered_entries(repo.store, root.entry)), [])


@pytest.mark.parametrize("scene", [(20, 20)], indirect=True)
def test_a_list_that_is_damaged_in_its_block_is_left_to_the_request(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = next(entry for _, entry in scene.batch if entry.form == Form.LIST)
    decompress = scene.repo.store.compression.decompress

    def damage(codec: int, payload: Buffer, size: int) -> Buffer:
        plain = bytearray(decompress(codec, payload, size))
        at = plain.find(scene_chunk)
        if at >= 0:
            plain[at + 5] ^= 1
        return plain

    scene_chunk = list_leaf(scene.repo.store, lost.content, 0)[1][0].id
    scene.repo.store.tree_cache.clear()
    scene.repo.store.node_cache.clear()
    monkeypatch.setattr(scene.repo.store.compression, "decompress", damage)
    leaves = scene.leaves()
    expected = [Found.NO_PLACE if entry.content == lost.content else Found.PLACE for _, entry in scene.batch]
    assert scene.found(leaves) == expected
    # At most once: the entries may be in the same block.
    assert len(scene.reads) <= 1
    with pytest.raises(Corrupt):
        list_leaf(scene.repo.store, lost.content, 0)


@pytest.mark.parametrize("scene", [(12, 1)], indirect=True)
def test_a_look_up_waits_for_few_blocks(scene: _Scene) -> None:
    """Its own first, whatever its place; what is left out comes with later look-ups."""
    # What is decoded is no block.
    for _, entry in scene.batch:
        list_leaf(scene.repo.store, entry.content, 0)
    leaves = scene.leaves()
    for at, placed in ((5, 4), (11, 8), (0, 8), (7, 12)):
        scene.repo.store.tree_cache.clear()
        scene.reads.clear()
        # The first one is placed by the time.
        assert scene.prepare(leaves, at) == (at != 0)
        assert len(scene.reads) == (4 if at else 0)
        assert scene.placed()[at] == Found.PLACE
        assert scene.placed().count(Found.PLACE) == placed


@pytest.mark.parametrize("scene", [(12, 1)], indirect=True)
def test_a_stream_reads_all_blocks(scene: _Scene) -> None:
    leaves = scene.leaves()
    assert scene.prepare(leaves, 5)
    assert set(scene.placed()) == {Found.NOT_LOCATED, Found.PLACE}
    assert set(scene.found(leaves)) == {Found.PLACE}


@pytest.mark.parametrize("scene", [(12, 1)], indirect=True)
def test_few_blocks_that_cannot_be_read_are_tried(scene: _Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []

    def fail(list_id: NodeId) -> TreeBlock:
        tried.append(list_id)
        raise MissingObject(list_id)

    leaves = scene.leaves()
    monkeypatch.setattr(scene.repo.store, "block_of", fail)
    assert set(scene.found(leaves)) == {Found.NO_PLACE}
    assert len(tried) == 4
    assert not scene.prepare(leaves, 5)
    assert len(tried) == 4


@pytest.mark.parametrize("scene", [(30, 30)], indirect=True)
def test_a_list_in_a_large_block_is_left_out(scene: _Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = scene.batch[3][1].content
    node = bytes(scene.repo.store.encoded_node(NodeId(lost)))
    block_of = scene.repo.store.block_of
    for others, found in ((100_000, Found.PLACE), (300_000, Found.NO_PLACE)):
        large = TreeBlock([bytes(32), lost], [others, len(node)], os.urandom(others) + node)
        monkeypatch.setattr(
            scene.repo.store, "block_of", lambda each, large=large: large if each == lost else block_of(each)
        )
        scene.kernel.session.drop_leaves(scene.root.ino)
        leaves = scene.leaves()
        leaves.prepare(scene.file(3), Prepared.WORTH_LOCATING)
        assert scene.placed()[3] == found
