"""The places of a directory's small files, looked up leaf by leaf in a real repository."""

from __future__ import annotations

import random

import pytest

from support.native_layer import READ_, READ_BYTES_MAX, Kernel, read_body
from support.repositories import Repositories
from support.trees import write_file
from vfs.fuse.inodes import CollisionTable
from vfs.fuse.native_parts import NativeParts
from vfs.fuse.prefetch.leaf_places import LeafPlaces
from vfs.model.ids import NodeId
from vfs.model.objects import Entry, Form
from vfs.native.session import HANDLE, Found, Place
from vfs.repo.commit import commit
from vfs.store.packs.blocks import MissingObject
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


def test_a_file_whose_list_is_lost_has_no_place(
    repositories: Repositories, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = repositories.make()
    overlay = repositories.overlay(made)
    for number in range(20):
        write_file(overlay, b"%04d" % number, random.Random(number).randbytes(150_000))
    version = commit(made, overlay, "a test", "tester").version
    overlay.close()
    repo = repositories.reopen(made)
    parts = NativeParts(kernel.session, repo.store, CollisionTable(), hash_bits=64)
    inodes = parts.versions
    root = inodes.root(version)
    inodes.hold(root)
    batch = list(numbered_entries(repo.store, root.entry))
    lost = next(entry.content for _, entry in batch if entry.form == Form.LIST)
    encoded_node = repo.store.encoded_node

    def lose(object_id: NodeId) -> memoryview:
        if object_id == lost:
            raise MissingObject(object_id)
        return encoded_node(object_id)

    monkeypatch.setattr(repo.store, "encoded_node", lose)
    found = LeafPlaces(repo.store, kernel.session, parts.leaves).find(root, batch)
    for file, (_, entry) in zip(found, batch, strict=True):
        assert file.found == (Found.NO_PLACE if entry.content == lost else Found.PLACE)
