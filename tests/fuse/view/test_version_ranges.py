"""Ranges and file histories without a kernel: what they cost, their numbers, their lookup counts."""

from __future__ import annotations

from typing import cast

import pytest

from support.kernel import ROOT, Kernel, take
from support.repositories import Repositories
from support.stores import CountingSink
from support.trees import write_file
from vfs.fuse.inodes import InodeTable
from vfs.fuse.mount import build_operations
from vfs.fuse.session.mount_options import MountOptions
from vfs.fuse.view.file_history import FileHistories, ending_of
from vfs.fuse.view.root_view import RootView
from vfs.fuse.view.version_inodes import VersionInodes
from vfs.fuse.view.version_names import Names
from vfs.fuse.view.version_ranges import VersionRanges
from vfs.fuse.view.virtual import VirtualDirectory
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.store.object_store import ObjectSink

DIRECTORIES, FILES = 40, 1200


def grown(repositories: Repositories) -> tuple[Repository, Overlay]:
    """Returns a repository whose second version has one new file, one changed and one removed, among many."""
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    for number in range(FILES):
        write_file(overlay, b"d%02d/e/f%04d" % (number % DIRECTORIES, number), b"%d" % number)
    commit(repo, overlay, "first", "tester")
    write_file(overlay, b"d07/e/new", b"new")
    write_file(overlay, b"d08/e/f0008", b"changed")
    directory = overlay.lookup(overlay.lookup(1, b"d09").ino, b"e").ino
    overlay.unlink(directory, b"f0009")
    commit(repo, overlay, "second", "tester")
    return repo, overlay


def kernel_of(repo: Repository, overlay: Overlay, hash_bits: int = 64) -> Kernel:
    operations, _ = build_operations(repo, overlay, "main", MountOptions(), hash_bits=hash_bits, reply=take)
    return Kernel(operations)


def test_a_range_costs_nothing_until_it_is_looked_into_and_then_what_differs(repositories: Repositories) -> None:
    repo, _ = grown(repositories)
    source = CountingSink(cast("ObjectSink", repo.store))
    table = InodeTable()
    versions = VersionInodes(source, table)
    view = RootView(Names(repo.refs, repo.store, "main"))
    ranges = VersionRanges(view, versions, table)
    source.reset()
    found = ranges.find(b"@v1..@v2")
    assert found is not None
    at = cast("VirtualDirectory", found[0])
    for part, path in ((b"added", b"d07"), (b"modified", b"d08"), (b"removed", b"d09")):
        directory = at.child(part)
        assert directory is not None
        assert source.nodes_got == 0
        inside = cast("VirtualDirectory", directory[0])
        inside.prepare()
        assert [name for name, _ in inside.entries(None)] == [path]
        assert source.nodes_got < DIRECTORIES
        source.reset()
    histories = FileHistories(view, versions, table)
    root = versions.root(repo.resolve("v2"))
    source.reset()
    assert histories.directory(root, b"absent@@") is None
    assert source.nodes_got <= 2


def test_no_two_inodes_of_ranges_share_a_number_however_narrow_the_hash(repositories: Repositories) -> None:
    repo, overlay = grown(repositories)
    kernel = kernel_of(repo, overlay, hash_bits=5)
    paths = [
        f"@v{old}..@v{new}{rest}"
        for old, new, there in ((1, 2, ("/added/d07/e", "/removed/d09")), (2, 1, ("/added/d09/e", "/removed/d07")))
        for rest in ("", "/added", "/modified", "/removed", "/modified/d08/e", *there)
    ]
    paths += ["@v2/d08/e/f0008@@", "@v1/d08/e/f0008@@", "@v1..", "@v1../added", "@v1../added/d07"]
    numbers = {path: kernel.walk(path).st_ino for path in paths}
    assert len(set(numbers.values())) == len(paths)
    again = kernel_of(repo, overlay, hash_bits=5)
    assert {path: again.walk(path).st_ino for path in reversed(paths)} == numbers


def test_lookups_of_virtual_inodes_are_counted_to_the_last_one(repositories: Repositories) -> None:
    repo, overlay = grown(repositories)
    kernel = kernel_of(repo, overlay)
    for path in ("@v1..@v2/added/d07/e", "@v1../removed/d09/e", "@v2/d08/e/f0008@@", "@latest..", "d08/e/f0008@@"):
        ino = kernel.walk(path).st_ino
        if path.startswith("@v"):
            assert kernel.names(ino, room=1)
    kernel.forget_all()
    assert kernel.operations.known_inodes == 0
    assert kernel.operations.open_handles == 0


def test_a_name_of_a_history_that_is_absent_may_come_and_an_absent_file_of_a_range_not(
    repositories: Repositories,
) -> None:
    repo, overlay = grown(repositories)
    kernel = kernel_of(repo, overlay)
    kernel.create(ROOT, b"young")
    with pytest.raises(OSError, match="No such file"):
        kernel.lookup(ROOT, b"young@@")
    with pytest.raises(FileNotFoundError, match="remembered"):
        kernel.lookup(kernel.walk("@v1..@v2/added").st_ino, b"absent")
    with pytest.raises(OSError, match="No such file"):
        kernel.lookup(kernel.walk("@v1../added").st_ino, b"later")
    commit(repo, overlay, "third", "tester")
    assert kernel.readlink(kernel.lookup(ROOT, b"young@@").st_ino) == b"@v3/young@@"
    assert kernel.lookup(kernel.walk("@v1../added").st_ino, b"young").st_ino


@pytest.mark.parametrize(
    ("name", "ending"),
    [(b"a.csv", b".csv"), (b"a", b""), (b".bashrc", b""), (b"a.tar.gz", b".tar.gz"), (b"a.b.csv", b".csv"),
     (b"a." + b"x" * 40, b"")],
)  # fmt: skip
def test_contents_keep_the_ending_that_programs_know_a_file_by(name: bytes, ending: bytes) -> None:
    assert ending_of(name) == ending
