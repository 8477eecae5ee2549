"""Directories read in order and at random by the native session layer, with the policy, on a real repository."""

from __future__ import annotations

import random

import pytest

from support.native_layer import LOOKUP, READ_, READ_BYTES_MAX, Kernel, read_body
from support.repositories import Repositories
from support.trees import write_file
from vfs.fuse.inodes import CollisionTable
from vfs.fuse.native_parts import NativeParts
from vfs.fuse.prefetch.prefetch_policy import PrefetchPolicy
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile
from vfs.native.session import HANDLE, Place
from vfs.repo.commit import commit
from vfs.store.trees.directories import entries

FILES = 300


def _content(number: int) -> bytes:
    # Tiny files, one without bytes and one that is larger than what is prefetched lie between the others.
    size = {50: 100, 51: 0, 90: 300_000}.get(number, 10_000 + 400 * number)
    return random.Random(number).randbytes(size)


class Mounted:
    """A version's directory, whose reads come by a socket; `asked` counts those for which Python had to look."""

    def __init__(self, repositories: Repositories, kernel: Kernel, *, are_known: bool) -> None:
        made = repositories.make()
        overlay = repositories.overlay(made)
        for number in range(FILES):
            write_file(overlay, b"%04d" % number, _content(number))
        version = commit(made, overlay, "a test", "tester").version
        overlay.close()
        store = repositories.reopen(made).store
        self.kernel, session = kernel, kernel.session
        parts = NativeParts(session, store, CollisionTable(), hash_bits=64)
        self.table, self.versions = parts.table, parts.versions
        self.root: VersionDirectory = self.versions.root(version)
        self.versions.hold(self.root)
        self.files: list[VersionFile] = []
        for entry in entries(store, self.root.entry):
            file = self.versions.child(self.root, entry)
            assert isinstance(file, VersionFile)
            self.files.append(file)
            if are_known:
                self.versions.hold(file)
        self.policy = PrefetchPolicy(
            store, self.versions, self.table, None, None, parts.places, parts.contents, session
        )
        self.reads = parts.reads(self.policy)
        self.asked = 0
        assert session.serve_reads(self) is not None
        session.serve_names(parts.names(self.policy, lambda *_: None))

    # What the layer calls.

    def locate(self, ino: int, offset: int, size: int) -> Place | None:
        self.asked += 1
        return self.reads.locate(ino, offset, size)

    def located(self) -> None:
        self.reads.located()

    # What a program does.

    def look_up(self, number: int) -> None:
        assert self.kernel.send(LOOKUP, self.root.ino, b"%04d\0" % number) is None
        assert self.kernel.answer()[0] == 0

    def read(self, number: int) -> None:
        content = _content(number)
        if content and len(content) <= 256 * 1024:
            ino = self.files[number].ino
            assert self.kernel.send(READ_, ino, read_body(ino | HANDLE, 0, READ_BYTES_MAX)) is None
            assert self.kernel.answer() == (0, content)


@pytest.mark.parametrize("are_looked_up", [True, False])
def test_files_in_order_are_read_with_few_questions(
    repositories: Repositories, kernel: Kernel, *, are_looked_up: bool
) -> None:
    mounted = Mounted(repositories, kernel, are_known=not are_looked_up)
    for number in range(FILES):
        if are_looked_up:
            mounted.look_up(number)
        mounted.read(number)
    assert mounted.asked < 20


def test_two_programs_in_one_directory_are_both_followed(repositories: Repositories, kernel: Kernel) -> None:
    mounted = Mounted(repositories, kernel, are_known=True)
    for number in range(100, 140):
        mounted.read(number)
        mounted.read(number + 100)
    assert mounted.asked < 30


def test_files_in_no_order_are_read_with_few_questions(repositories: Repositories, kernel: Kernel) -> None:
    mounted = Mounted(repositories, kernel, are_known=False)
    for number in random.Random(7).sample(range(FILES), FILES):
        mounted.look_up(number)
        mounted.read(number)
    assert mounted.asked < 30


def test_files_that_are_only_looked_up_are_not_prepared(repositories: Repositories, kernel: Kernel) -> None:
    mounted = Mounted(repositories, kernel, are_known=False)
    for number in range(FILES):
        mounted.look_up(number)
    mounted.read(7)
    assert mounted.asked == 1


def test_a_directory_that_was_read_is_watched_no_more(repositories: Repositories, kernel: Kernel) -> None:
    mounted = Mounted(repositories, kernel, are_known=True)
    for number in range(20):
        mounted.read(number)
    for number in range(290, 100, -3):
        mounted.read(number)
    before = mounted.asked
    mounted.look_up(99)
    mounted.read(99)
    # It is far from others, and Python looks where it lies; but it is in no stream, so the next is not prefetched.
    assert mounted.asked <= before + 1
    mounted.reads.record_first_reads()
    assert kernel.session.take_first_reads() == []
