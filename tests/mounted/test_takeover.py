"""A mount goes on after its daemon was killed: another daemon takes the connection over, with all that is open."""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.mounts import TIMEOUT_S, Mount, mounted
from support.repositories import Repositories
from support.waiting import wait_until
from vfs.fuse.session.mountpoint import unmount
from vfs.fuse.session.takeover_state import Legacy
from vfs.repo.branches import create_branch
from vfs.repo.file_metadata import MOUNT_XATTR
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount


def daemon_of(mount: Mount) -> int:
    process = json.loads(os.getxattr(mount.path, MOUNT_XATTR))["process"]
    assert isinstance(process, int)
    return process


def kill(mount: Mount) -> int:
    """Kills the daemon, and returns the process of the one that took over."""
    before = daemon_of(mount)
    os.kill(before, signal.SIGKILL)
    after = daemon_of(mount)
    assert after != before
    return after


@contextmanager
def surviving(repository: Path, path: Path, *options: str) -> Iterator[Mount]:
    """Mounts; at the end the daemon that serves by then has ended."""
    with mounted(repository, path, "survives", *options) as mount:
        yield mount
        last = os.pidfd_open(daemon_of(mount))
        try:
            unmount(path)
            poll = select.poll()
            poll.register(last, select.POLLIN)
            assert poll.poll(TIMEOUT_S * 1000), "the daemon goes on"
        finally:
            os.close(last)


@pytest.fixture
def filled(repositories: Repositories, tmp_path: Path) -> Path:
    """A repository with one version: 40 files of 4000 bytes in `sub`, `top`, and a deep directory."""
    repo = repositories.make()
    repo.close()
    with mounted(repo.path, tmp_path / "first") as mount:
        (mount / "sub").mkdir()
        for number in range(40):
            (mount / f"sub/f{number}").write_bytes(b"%02d" % number * 2000)
        (mount / "top").write_bytes(b"top")
        (mount / "a/b/c").mkdir(parents=True)
        (mount / "a/b/c/deep").write_bytes(b"deep")
        mount.commit()
    return repo.path


def read_all(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in os.listdir(path)}


@pytest.mark.parametrize("options", [(), ("read_only",), ("read_only", "see_opens")])
def test_open_files_and_directories_of_versions_go_on(filled: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    with surviving(filled, tmp_path / "mnt", *options) as mount:
        files = [os.open(mount / f"@v1/sub/f{number}", os.O_RDONLY) for number in range(5)]
        directory = os.open(mount / "@v1/a/b", os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(3):
            kill(mount)
            mount.drop_kernel_caches()
            for number, file in enumerate(files):
                assert os.pread(file, 4000, 0) == b"%02d" % number * 2000
            assert os.listdir(directory) == ["c"]
            inside = os.open("c/deep", os.O_RDONLY, dir_fd=directory)
            assert os.read(inside, 10) == b"deep"
            os.close(inside)
            assert len(read_all(mount / "@v1/sub")) == 40
        for each in (*files, directory):
            os.close(each)


def test_open_files_of_the_working_layer_go_on(filled: Path, tmp_path: Path) -> None:
    with surviving(filled, tmp_path / "mnt") as mount:
        new = os.open(mount / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        changed = os.open(mount / "sub/f1", os.O_RDWR)
        appended = os.open(mount / "top", os.O_WRONLY | os.O_APPEND)
        moved = os.open(mount / "sub/f2", os.O_RDWR)
        os.rename(mount / "sub/f2", mount / "a/b/elsewhere")
        os.rename(mount / "a", mount / "z")
        inside = os.open(mount / "z/b/c", os.O_RDONLY | os.O_DIRECTORY)
        for number in range(4):
            os.write(new, b"%d" % number)
            os.pwrite(changed, b"%d" % number, number)
            os.write(appended, b"+")
            os.pwrite(moved, b"m", number)
            kill(mount)
            made = os.open(f"made{number}", os.O_WRONLY | os.O_CREAT, dir_fd=inside)
            os.write(made, b"x")
            os.close(made)
            if number == 1:
                mount.commit()
        assert os.pread(new, 10, 0) == b"0123"
        os.fsync(new)
        for each in (new, changed, appended, moved, inside):
            os.close(each)
        assert (mount / "sub/f1").read_bytes()[:6] == b"012301"
        assert (mount / "top").read_bytes() == b"top++++"
        assert (mount / "z/b/elsewhere").read_bytes()[:6] == b"mmmm02"
        assert sorted(os.listdir(mount / "z/b/c")) == ["deep", "made0", "made1", "made2", "made3"]
        mount.commit()
    with Repository.open(filled) as repo:
        assert fsck(repo, read_data=True).is_clean


def test_a_listing_goes_on_where_it_was(filled: Path, tmp_path: Path) -> None:
    with surviving(filled, tmp_path / "mnt") as mount:
        for number in range(3000):
            (mount / f"sub/{'n' * 60}{number}").touch()
        for path in ("sub", "@v1/sub"):
            with os.scandir(mount / path) as entries:
                names = [next(entries).name]
                kill(mount)
                names += [entry.name for entry in entries]
            assert sorted(names) == sorted(os.listdir(mount / path))


def test_other_branches_go_on(filled: Path, tmp_path: Path) -> None:
    with Repository.open(filled) as repo:
        head = repo.head()
        assert head is not None
        create_branch(repo, "dev", head, author="a")
    with surviving(filled, tmp_path / "mnt") as mount:
        file = os.open(mount / "@/branches/dev/sub/f1", os.O_RDWR)
        root = os.open(mount / "sub/f1", os.O_RDWR)
        kill(mount)
        os.write(file, b"dev")
        os.write(root, b"root")
        os.close(file)
        os.close(root)
        assert (mount / "@/branches/dev/sub/f1").read_bytes()[:6] == b"dev101"
        assert (mount / "sub/f1").read_bytes()[:6] == b"root01"


def test_mapped_files_and_locks_go_on(filled: Path, tmp_path: Path) -> None:
    with surviving(filled, tmp_path / "mnt") as mount:
        new = os.open(mount / "mapped", os.O_RDWR | os.O_CREAT)
        old = os.open(mount / "@v1/sub/f7", os.O_RDONLY)
        os.ftruncate(new, 1 << 16)
        locked = os.open(mount / "top", os.O_RDWR)
        fcntl.flock(locked, fcntl.LOCK_EX)
        with mmap.mmap(new, 1 << 16) as written, mmap.mmap(old, 0, prot=mmap.PROT_READ) as read:
            written[:5] = b"first"
            kill(mount)
            written[4096:4101] = b"after"
            written.flush()
            mount.drop_kernel_caches()
            assert read[:] == b"07" * 2000
            assert os.pread(new, 5, 0) + os.pread(new, 5, 4096) == b"firstafter"
        other = os.open(mount / "top", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(locked, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for each in (new, old, locked, other):
            os.close(each)


def test_a_removed_open_file_is_stale_afterwards(filled: Path, tmp_path: Path) -> None:
    with surviving(filled, tmp_path / "mnt") as mount:
        file = os.open(mount / "removed", os.O_RDWR | os.O_CREAT)
        os.write(file, b"x")
        os.unlink(mount / "removed")
        kill(mount)
        with pytest.raises(OSError) as caught:
            os.write(file, b"y")
        assert caught.value.errno == errno.ESTALE
        os.close(file)
        assert (mount / "top").read_bytes() == b"top"


def test_killed_again_and_again_under_load_nothing_acknowledged_is_lost(filled: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    wrong: list[object] = []
    written: dict[str, int] = {}

    def write(name: str, path: Path) -> None:
        try:
            count = 0
            with open(path / name, "wb", buffering=0) as file:
                while not stop.is_set():
                    file.write(b"%08d" % count)
                    count += 1
                    (path / f"{name}-{count % 7}").write_bytes(b"%d" % count)
                    written[name] = count
        except OSError as error:
            wrong.append(error)

    def read(path: Path) -> None:
        try:
            while not stop.is_set():
                found = [(path / f"@v1/sub/f{number}").read_bytes() for number in range(40)]
                wrong.extend(number for number in range(40) if found[number] != b"%02d" % number * 2000)
        except OSError as error:
            wrong.append(error)

    def wait_for_writers(before: dict[str, int]) -> None:
        names = ("w0", "w1")
        wait_until(lambda: wrong or all(written.get(name, 0) > before.get(name, 0) for name in names))

    with surviving(filled, tmp_path / "mnt") as mount:
        threads = [threading.Thread(target=write, args=(f"w{number}", mount.path)) for number in range(2)]
        threads += [threading.Thread(target=read, args=(mount.path,))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(12):
                kill(mount)
                mount.drop_kernel_caches()
                wait_for_writers(dict(written))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert wrong == []
        for name, count in written.items():
            assert (mount / name).read_bytes() == b"".join(b"%08d" % number for number in range(count))
        mount.commit()
    with Repository.open(filled) as repo:
        assert fsck(repo, read_data=True).is_clean


def test_a_daemon_that_is_killed_too_often_leaves_a_dead_mount(filled: Path, tmp_path: Path) -> None:
    with mounted(filled, tmp_path / "mnt", "survives", "takeovers_max=3") as mount:
        for _ in range(3):
            kill(mount)
        os.kill(daemon_of(mount), signal.SIGKILL)
        wait_until(lambda: _is_dead(mount.path))
    with mounted(filled, tmp_path / "mnt"):
        pass


def _is_dead(path: Path) -> bool:
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def test_a_record_that_was_cut_off_is_left_out() -> None:
    legacy = Legacy()
    legacy.shook_hands(b"hello")
    legacy.told(70, 1, b"name")
    legacy.opened(3, 70, os.O_RDWR, is_directory=False)
    legacy.opened(4, 70, 0, is_directory=True)
    legacy.closed(3)
    whole = os.fstat(legacy.descriptor).st_size
    legacy.told(71, 1, b"another")
    os.ftruncate(legacy.descriptor, os.fstat(legacy.descriptor).st_size - 1)
    next_one = Legacy(os.dup(legacy.descriptor))
    assert next_one.left.handshake == b"hello"
    assert next_one.left.inodes == {70: (1, b"name")}
    assert {fh: each.is_directory for fh, each in next_one.left.handles.items()} == {4: True}
    assert os.fstat(next_one.descriptor).st_size == whole
    next_one.told(71, 1, b"another")
    assert Legacy(os.dup(next_one.descriptor)).left.inodes[71] == (1, b"another")
    os.close(next_one.descriptor)
    os.close(legacy.descriptor)


def forgetting(legacy: Legacy, inodes: int) -> None:
    """Records so many inodes, each of which the kernel forgets again."""
    for ino in range(1000, 1000 + inodes):
        legacy.told(ino, 1, b"name%d" % ino)
        legacy.moved(ino)


def test_records_of_what_the_kernel_has_forgotten_are_released() -> None:
    legacy = Legacy()
    legacy.shook_hands(b"hello")
    legacy.told(70, 1, b"kept")
    legacy.opened(5, 70, os.O_RDWR, is_directory=False)
    forgetting(legacy, 400_000)
    assert os.fstat(legacy.descriptor).st_blocks * 512 < 9 << 20
    legacy.told(71, 70, b"after")
    left = Legacy(os.dup(legacy.descriptor)).left
    assert left.handshake == b"hello"
    assert {ino: place for ino, place in left.inodes.items() if ino < 1000} == {70: (1, b"kept"), 71: (70, b"after")}
    assert {fh: handle.ino for fh, handle in left.handles.items()} == {5: 70}
    os.close(legacy.descriptor)


def test_records_that_are_written_anew_count_only_if_all_are_there() -> None:
    legacy = Legacy()
    legacy.told(70, 1, b"kept")
    forgetting(legacy, 1000)
    end = os.fstat(legacy.descriptor).st_size
    whole = os.pread(legacy.descriptor, end, 0)
    legacy.told(71, 1, b"another")
    legacy.write_anew()
    size = os.fstat(legacy.descriptor).st_size
    anew = os.pread(legacy.descriptor, size, 0)
    killed = Legacy()
    os.pwrite(killed.descriptor, whole + anew[end:-1], 0)
    assert Legacy(os.dup(killed.descriptor)).left.inodes[1999] == (1, b"name1999"), "the old records count"
    os.pwrite(killed.descriptor, whole + anew[end:], 0)
    assert Legacy(os.dup(killed.descriptor)).left.inodes == {70: (1, b"kept"), 71: (1, b"another")}
    for each in (legacy, killed):
        os.close(each.descriptor)


def test_a_mount_that_prunes_names_goes_on_after_its_daemon_was_killed(filled: Path, tmp_path: Path) -> None:
    with surviving(filled, tmp_path / "mnt", "names_max=8") as mount:
        os.chdir(mount / "a/b")
        try:
            with (mount / "sub/f7").open("r+b") as opened, (mount / "new").open("w+b") as removed:
                (mount / "new").unlink()
                removed.write(b"removed")
                removed.flush()
                (mount / "top").rename(mount / "sub/top")
                assert len(read_all(mount / "sub")) == 41
                kill(mount)
                assert Path("c/deep").read_bytes() == b"deep"
                assert opened.read() == b"07" * 2000
                for _ in range(3):
                    found = read_all(mount / "sub")
                    assert found.pop("top") == b"top"
                    assert found == {f"f{number}": b"%02d" % number * 2000 for number in range(40)}
        finally:
            os.chdir("/")
