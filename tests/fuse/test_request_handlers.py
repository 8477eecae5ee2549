"""The handlers without a kernel: names, numbers and lookup counts to the last one."""

from __future__ import annotations

import errno
import gc
import os
from dataclasses import dataclass
from typing import Any, cast

import pytest
import trio
from pyfuse3 import FUSEError

from support.kernel import ROOT, Kernel, Room, take
from support.repositories import Repositories
from vfs.fuse.inodes import RUNS_DIRECTORY
from vfs.fuse.mount import build_operations
from vfs.fuse.request_handlers import VfsOperations
from vfs.fuse.session.mount_options import MountOptions
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.tags import create_tag


@dataclass
class Served:
    """A repository with its working layer and the handlers of a mount."""

    repo: Repository
    overlay: Overlay
    kernel: Kernel

    def commit(self) -> None:
        commit(self.repo, self.overlay, "a test", "tester")

    def another(self, options: MountOptions, *, hash_bits: int = 64) -> Kernel:
        overlay = None if options.read_only else self.overlay
        return Kernel(_operations(self.repo, overlay, options, hash_bits))


def _operations(repo: Repository, overlay: Overlay | None, options: MountOptions, hash_bits: int = 64) -> VfsOperations:
    operations, _ = build_operations(repo, overlay, options.branch or "main", options, hash_bits=hash_bits, reply=take)
    return operations


@pytest.fixture
def served(repositories: Repositories) -> Served:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    return Served(repo, overlay, Kernel(_operations(repo, overlay, MountOptions())))


def _errno(kernel: Kernel, parent: int, name: bytes) -> int:
    with pytest.raises(OSError, match=r"\w") as caught:
        kernel.lookup(parent, name)
    return caught.value.errno or 0


def _fill(kernel: Kernel) -> None:
    directory = kernel.mkdir(ROOT, b"d").st_ino
    for number in range(30):
        kernel.create(directory, b"f%02d" % number, b"%d" % number * 100)
    kernel.create(ROOT, b"top", b"top")


def test_a_permanently_absent_name_may_be_cached_and_an_absent_version_not(served: Served) -> None:
    kernel = served.kernel
    _fill(kernel)
    served.commit()
    directory = kernel.walk("d").st_ino
    version = kernel.walk("@v1/d").st_ino
    with pytest.raises(FileNotFoundError, match="remembered"):
        kernel.lookup(directory, b"absent")
    with pytest.raises(FileNotFoundError, match="remembered"):
        kernel.lookup(version, b"absent")
    for parent in (ROOT, directory, version):
        for name in (b"@v2", b"@absent", b"@", b"@\xff", b"@@v1", b"@v01", b"@v99999999999999999999", b"@12345678"):
            if (parent, name) != (ROOT, b"@"):
                with pytest.raises(FileNotFoundError, match="No such"):
                    kernel.lookup(parent, name)


def test_lookups_and_forgets_balance_to_nothing(served: Served) -> None:
    kernel = served.kernel
    _fill(kernel)
    served.commit()
    create_tag(served.repo, "tag", served.repo.resolve("v1"), author="tester")
    for path in ("d/f01", "@v1/d/f01", "@latest", "@tag", "@/versions/v1", "@/tags/tag", "d/@v1", "@v1/d/@tag"):
        kernel.walk(path)
        kernel.walk(path)
    for path in ("", "d", "@v1", "@v1/d", "@", "@/versions", "@/tags"):
        kernel.names(kernel.walk(path).st_ino, room=4)
    held = {ino for ino in kernel.lookups if ino > RUNS_DIRECTORY}
    assert len(held) > 60
    kernel.forget_all()
    for ino in held:
        if ino >= 1 << 61:
            continue
        with pytest.raises(OSError, match="Stale"):
            kernel.getattr(ino)
    assert kernel.operations.known_inodes == 0


def test_an_entry_that_did_not_fit_into_a_reply_is_not_counted(served: Served) -> None:
    kernel = served.kernel
    _fill(kernel)
    served.commit()
    kernel.forget_all()
    for path in ("d", "@v1/d"):
        names = kernel.names(kernel.walk(path).st_ino, room=7)
        assert names == [b"f%02d" % number for number in range(30)]
    kernel.forget_all()
    assert kernel.operations.known_inodes == 0


def test_numbers_are_the_same_after_forget_however_they_were_met(served: Served) -> None:
    kernel = served.kernel
    _fill(kernel)
    served.commit()
    paths = ["d", "d/f03", "top", "@v1", "@v1/d", "@v1/d/f03", "@v1/top", "@latest", "d/@v1"]
    before = {path: kernel.walk(path).st_ino for path in paths}
    kernel.forget_all()
    for path in ("@v1/d", "d", "@v1"):
        kernel.names(kernel.walk(path).st_ino)
    assert {path: kernel.walk(path).st_ino for path in reversed(paths)} == {path: before[path] for path in paths}


def test_no_two_inodes_share_a_number_however_narrow_the_hash(served: Served) -> None:
    _fill(served.kernel)
    served.commit()
    narrow = served.another(MountOptions(), hash_bits=6)
    numbers = {}
    for path in ["@v1/top", "@v1/d", "@v1", *(f"@v1/d/f{number:02}" for number in range(30))]:
        numbers[path] = narrow.walk(path).st_ino
    assert len(set(numbers.values())) == len(numbers)
    for path, ino in numbers.items():
        if path.startswith("@v1/d/"):
            assert narrow.read(ino) == b"%d" % int(path[-2:]) * 100
    again = served.another(MountOptions(), hash_bits=6)
    assert {path: again.walk(path).st_ino for path in reversed(list(numbers))} == numbers


def test_links_to_versions_follow_the_place_of_their_directory(served: Served) -> None:
    kernel = served.kernel
    _fill(kernel)
    served.commit()
    inner = kernel.mkdir(kernel.walk("d").st_ino, b"e").st_ino
    link = kernel.lookup(inner, b"@v1").st_ino
    assert kernel.readlink(link) == b"../../@v1/d/e"
    kernel.ask(kernel.operations.rename, ROOT, b"d", ROOT, b"renamed", 0, kernel.context)
    assert kernel.readlink(link) == b"../../@v1/renamed/e"


def test_a_moving_name_is_worked_out_when_it_is_read(served: Served) -> None:
    kernel = served.kernel
    _fill(kernel)
    served.commit()
    link = kernel.lookup(ROOT, b"@latest").st_ino
    kernel.create(ROOT, b"more")
    served.commit()
    assert kernel.readlink(link) == b"@v2"
    assert kernel.getattr(link).st_size == 3


def test_a_real_entry_wins_below_the_root(served: Served) -> None:
    kernel = served.kernel
    _fill(kernel)
    served.commit()
    directory = kernel.walk("d").st_ino
    made = kernel.mkdir(directory, b"@v1")
    assert kernel.lookup(directory, b"@v1").st_ino == made.st_ino
    served.commit()
    version = kernel.walk("@v2/d").st_ino
    assert kernel.lookup(version, b"@v1").st_mode & 0o170000 == 0o040000


def test_a_commit_that_is_no_version_of_the_branch_is_a_directory_by_its_whole_id(served: Served) -> None:
    _fill(served.kernel)
    served.commit()
    version = served.repo.resolve("v1")
    other = served.another(MountOptions(branch="other"))
    digits = version.id.hex()
    assert _errno(other, ROOT, b"@v1") == errno.ENOENT
    short = other.lookup(ROOT, b"@" + digits[:8].encode())
    assert other.readlink(short.st_ino) == b"@" + digits.encode()
    assert other.names(other.walk(f"@{digits}/d").st_ino) == [b"f%02d" % number for number in range(30)]


def test_the_root_of_a_read_only_mount_is_the_newest_version(served: Served) -> None:
    kernel = served.another(MountOptions(read_only=True))
    assert kernel.names(ROOT) == []
    _fill(served.kernel)
    served.commit()
    assert kernel.names(ROOT) == [b"d", b"top"]
    assert kernel.read(kernel.walk("top").st_ino) == b"top"
    link = kernel.lookup(kernel.walk("d").st_ino, b"@v1").st_ino
    assert kernel.readlink(link) == b"../@v1/d"
    assert kernel.walk("top").st_ino == kernel.walk("@v1/top").st_ino
    assert kernel.walk("d").st_ino != kernel.walk("@v1/d").st_ino


def test_entering_a_directory_of_a_version_starts_readahead(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(served.kernel)
    served.commit()
    told: list[bytes] = []
    monkeypatch.setattr(served.repo.store, "hint_readahead", told.extend)
    version = served.kernel.walk("@v1").st_ino
    told.clear()
    directory = served.kernel.lookup(version, b"d").st_ino
    (content,) = told
    served.kernel.names(directory)
    assert told == [content, content]


def test_requests_leave_no_cycles_behind(served: Served) -> None:
    """Therefore a mount may let Python look for them seldom."""
    _fill(served.kernel)
    served.commit()
    version = served.kernel.walk("@v1/d").st_ino
    operations, context = served.kernel.operations, served.kernel.context

    async def serve() -> None:
        for number in range(300):
            found = await operations.lookup(version, b"f%02d" % (number % 30), context)
            opened = await operations.open(found.st_ino, os.O_RDONLY, context)
            assert await operations.read(opened.fh, 0, 10_000)
            await operations.release(opened.fh)
            try:
                await operations.create(version, b"new", 0o644, os.O_RDWR, context)
            except FUSEError as error:
                assert error.errno == errno.EROFS  # noqa: PT017 - what pytest would keep of it is a cycle
            listing = await operations.opendir(version, context)
            await operations.readdir(listing, 0, cast("Any", Room(30)))
            await operations.releasedir(listing)

    async def garbage() -> int:
        await serve()
        gc.collect()
        gc.disable()
        try:
            await serve()
            return gc.collect()
        finally:
            gc.enable()

    assert trio.run(garbage) < 30


def test_listed_versions_come_after_all_entries_and_in_their_order(served: Served) -> None:
    _fill(served.kernel)
    for number in range(11):
        served.kernel.create(ROOT, b"n%d" % number)
        served.commit()
    for options in (MountOptions(list_versions=True), MountOptions(list_versions=True, read_only=True)):
        kernel = served.another(options)
        names = kernel.names(ROOT, room=3)
        assert names[-11:] == [b"@v%d" % number for number in range(1, 12)]
        assert len(names) == len(set(names)) == 24
        kernel.forget_all()
        assert kernel.operations.known_inodes == 0


def test_handles_are_given_back(served: Served) -> None:
    kernel = served.kernel
    _fill(kernel)
    served.commit()
    for path in ("top", "@v1/top"):
        assert kernel.read(kernel.walk(path).st_ino) == b"top"
    for path in ("d", "@v1/d", "@"):
        kernel.names(kernel.walk(path).st_ino)
    assert kernel.operations.open_handles == 0


def test_reading_through_a_handle_that_is_gone_is_an_error(served: Served) -> None:
    with pytest.raises(OSError, match="Bad file"):
        served.kernel.ask(served.kernel.operations.read, 99, 0, 10)


def test_attributes_are_changed_one_by_one(served: Served) -> None:
    kernel = served.kernel
    ino = kernel.create(ROOT, b"f", b"12345").st_ino
    kernel.setattr(ino, mode=0o600)
    kernel.setattr(ino, size=3)
    attr = kernel.setattr(ino, mtime_ns=-5, atime_ns=7)
    assert (attr.st_mode & 0o7777, attr.st_size, attr.st_mtime_ns, attr.st_atime_ns) == (0o600, 3, -5, 7)


def test_a_file_that_the_kernel_does_not_know_of_is_opened_by_create_unless_it_must_be_new(served: Served) -> None:
    kernel = served.kernel
    kernel.create(ROOT, b"f", b"bytes")
    create = kernel.operations.create
    with pytest.raises(OSError, match="exists"):
        kernel.ask(create, ROOT, b"f", 0o644, os.O_RDWR | os.O_EXCL, kernel.context)
    _, attr = kernel.ask(create, ROOT, b"f", 0o644, os.O_RDWR, kernel.context)
    assert attr.st_size == 5
    _, attr = kernel.ask(create, ROOT, b"f", 0o644, os.O_RDWR | os.O_TRUNC, kernel.context)
    assert attr.st_size == 0


def test_access_lists_that_would_not_be_enforced_are_refused(served: Served) -> None:
    kernel = served.kernel
    file = kernel.create(ROOT, b"file")
    with pytest.raises(OSError) as caught:
        kernel.ask(kernel.operations.setxattr, file.st_ino, b"system.posix_acl_access", b"value", kernel.context)
    assert caught.value.errno == errno.EOPNOTSUPP
