"""LocalBackend: escapes, full disks, leftovers and crashes, which the other backends do not know."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.engine import Crash, StopAfter
from support.pages import forget_pages, pages_in_memory, wait_for_pages
from support.threads import together
from vfs.backend.local import OPEN_FILES_MAX, LocalBackend
from vfs.backend.protocol import KeyExists, MissingKey
from vfs.errors import Corrupt


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Makes every write beyond a size fail, after a short write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_planted_symbolic_link_is_not_followed_in_any_direction(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "secret").write_bytes(b"secret")
    (root / "packs").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    backend = LocalBackend(root)
    for key in ("packs/secret", "file", "packs/deep/x"):
        for ask in (backend.read, backend.size):
            with pytest.raises(Corrupt, match="symbolic link"):
                ask(key)
        with pytest.raises(Corrupt, match="symbolic link"):
            backend.append(key, b"x")
    with pytest.raises(Corrupt, match="symbolic link"):
        backend.put("packs/new", b"x")
    with pytest.raises(Corrupt, match="symbolic link"):
        backend.delete("packs/secret")
    # A link in the last place is replaced, as any object is; what it points at stays.
    backend.put("file", b"mine")
    assert (outside / "secret").read_bytes() == b"secret"
    assert sorted(os.listdir(outside)) == ["deep", "secret"]
    assert list(backend.list("")) == [("file", 4)]


def test_a_link_planted_in_the_place_of_the_upload_folder_is_not_followed(root: Path, tmp_path: Path) -> None:
    (root / "tmp").symlink_to(tmp_path)
    backend = LocalBackend(root)
    with pytest.raises(Corrupt, match="symbolic link"):
        backend.put("k", b"x")
    with pytest.raises(Corrupt, match="symbolic link"):
        backend.clear_unfinished()


def test_a_planted_fifo_or_folder_is_an_error_and_does_not_block(root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "folder").mkdir()
    backend = LocalBackend(root)
    for key in ("fifo", "folder"):
        with pytest.raises(Corrupt):
            backend.read(key)
        with pytest.raises((Corrupt, IsADirectoryError)):
            backend.append(key, b"x")
    assert list(backend.list("")) == []


def test_descriptors_are_bounded_and_closed(root: Path) -> None:
    backend = LocalBackend(root)
    for number in range(OPEN_FILES_MAX * 2):
        (root / f"k{number}").write_bytes(b"%d" % number)
    before = descriptors()
    for number in range(OPEN_FILES_MAX * 2):
        assert backend.read_range(f"k{number}", 0, 9) == b"%d" % number
    assert descriptors() - before <= OPEN_FILES_MAX
    backend.close()
    assert descriptors() == before


def test_a_disk_that_does_not_say_what_was_removed_is_asked_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(root)
    backend.put("k", b"0123456789")
    assert backend.read_range("k", 0, 3) == b"012"

    def stale(_: int) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", stale)
        backend.close_removed()
    assert backend.read_range("k", 0, 3) == b"012"
    backend.close()


def test_a_read_of_an_impossible_size_takes_no_memory(root: Path) -> None:
    backend = LocalBackend(root)
    backend.put("k", b"abc")
    assert backend.read_range("k", 1, 1 << 60) == b"bc"
    assert backend.read_range("k", 1 << 50, 1 << 60) == b""
    backend.close()


def test_an_append_to_a_full_disk_leaves_the_old_bytes(root: Path) -> None:
    backend = LocalBackend(root)
    backend.append("log", b"x" * 1000)
    with largest_file(1500), pytest.raises(OSError) as caught:
        backend.append("log", b"y" * 1000)
    assert caught.value.errno == errno.EFBIG
    assert backend.read("log") == b"x" * 1000
    backend.append("log", b"z")
    assert backend.size("log") == 1001
    backend.close()


def test_a_write_to_a_full_disk_can_be_tried_again(root: Path) -> None:
    backend = LocalBackend(root)
    with backend.start() as upload:
        upload.write(b"a" * 1000)
        with largest_file(1500), pytest.raises(OSError) as caught:
            upload.write(b"b" * 400, b"c" * 400)
        assert caught.value.errno == errno.EFBIG
        assert upload.size == 1000
        upload.write(b"d" * 800)
        upload.commit("k")
    assert backend.read("k") == b"a" * 1000 + b"d" * 800
    backend.close()


def test_an_error_of_fsync_is_the_callers_and_leaves_the_old_log(root: Path) -> None:
    def full(step: str) -> None:
        if step == "fsync log":
            raise OSError(errno.ENOSPC, "full")

    LocalBackend(root).append("log", b"one\n")
    with pytest.raises(OSError) as caught:
        LocalBackend(root, full).append("log", b"two\n")
    assert caught.value.errno == errno.ENOSPC
    assert (root / "log").read_bytes() == b"one\n"


def test_leftovers_are_cleared_and_living_uploads_are_not(root: Path) -> None:
    backend = LocalBackend(root)
    assert backend.clear_unfinished() == 0
    with backend.start() as alive:
        alive.write(b"alive")
        (root / "tmp" / "dead").write_bytes(b"left by a crash")
        assert LocalBackend(root).clear_unfinished() == 1
        alive.commit("k")
    assert backend.read("k") == b"alive"
    assert os.listdir(root / "tmp") == []


def test_put_is_whole_or_absent_at_every_step_of_a_crash(root: Path) -> None:
    LocalBackend(root).put("a/k", b"old")
    for steps in range(20):
        stop = StopAfter(steps)
        try:
            LocalBackend(root, stop).put("a/k", b"new")
        except Crash:
            pass
        content = LocalBackend(root).read("a/k")
        assert content in (b"old", b"new")
        if not stop.stopped_at:
            assert content == b"new"
            break
        LocalBackend(root).put("a/k", b"old")
    else:
        pytest.fail("put has more steps than expected")
    assert steps >= 3


def test_a_conditional_create_is_whole_or_absent_at_every_step_of_a_crash(root: Path) -> None:
    for steps in range(20):
        stop = StopAfter(steps)
        try:
            LocalBackend(root, stop).put_if_absent(f"a/{steps}", b"new")
        except Crash:
            pass
        again = LocalBackend(root)
        again.clear_unfinished()
        try:
            assert again.read(f"a/{steps}") == b"new"
            with pytest.raises(KeyExists):
                again.put_if_absent(f"a/{steps}", b"other")
        except MissingKey:
            assert stop.stopped_at
            again.put_if_absent(f"a/{steps}", b"other")
        assert os.listdir(root / "tmp") == []
        assert os.stat(root / f"a/{steps}").st_nlink == 1
        if not stop.stopped_at:
            break
    assert steps >= 4


def test_a_swap_leaves_old_or_new_bytes_at_every_step_of_a_crash(root: Path) -> None:
    for steps in range(20):
        LocalBackend(root).put("k", b"old")
        stop = StopAfter(steps)
        try:
            LocalBackend(root, stop).compare_and_swap("k", b"new", LocalBackend(root).read_versioned("k").token)
        except Crash:
            pass
        again = LocalBackend(root)
        assert again.read("k") in (b"old", b"new")
        # The lock went with the process.
        again.compare_and_swap("k", b"next", again.read_versioned("k").token)
        if not stop.stopped_at:
            break
    assert steps >= 3


def test_a_conditional_create_works_where_there_are_no_hard_links(root: Path) -> None:
    def without_links(step: str) -> None:
        if step.startswith("link "):
            raise OSError(errno.EPERM, "no hard links")

    backend = LocalBackend(root, without_links)
    start = threading.Barrier(4, timeout=300)
    won: list[int] = []

    def create(writer: int) -> None:
        for number in range(10):
            start.wait()
            try:
                backend.put_if_absent(f"race/{number}", bytes((writer,)))
            except KeyExists:
                continue
            won.append(number)

    together(4, create)
    assert sorted(won) == list(range(10))
    assert backend.clear_unfinished() == 1
    assert os.listdir(root / "tmp") == []


def test_append_leaves_old_or_new_bytes_at_every_step_of_a_crash(root: Path) -> None:
    for steps in range(20):
        (root / "log").unlink(missing_ok=True)
        stop = StopAfter(steps)
        try:
            LocalBackend(root, stop).append("log", b"line\n")
        except Crash:
            pass
        if not stop.stopped_at:
            break
        try:
            assert LocalBackend(root).read("log") in (b"", b"line\n")
        except MissingKey:
            pass
    assert steps >= 2


def test_what_will_be_needed_comes_into_memory_and_nothing_else_does(root: Path) -> None:
    backend = LocalBackend(root)
    backend.put("k", bytes(64 * 4096))
    forget_pages(root / "k")
    assert not any(pages_in_memory(root / "k"))
    backend.hint_readahead("k", 8 * 4096 + 100, 4 * 4096)
    wait_for_pages(root / "k", range(8, 13))
    assert sum(pages_in_memory(root / "k")) == 5
