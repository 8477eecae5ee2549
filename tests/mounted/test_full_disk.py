"""A disk without room, a disk with errors, no descriptors left: an error for the caller alone."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.commands import commands_on
from support.mounts import Mount, killed_if_it_hangs, mounted
from support.small_disks import throw_off
from vfs.api.hints import hint_text
from vfs.errors import VfsError
from vfs.fuse.session.mountpoint import mounted_at
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount

DISK_BYTES = 48 << 20
BALLAST_BYTES = 12 << 20
PIECE_BYTES = 100_000
ATTRIBUTE_BYTES = 60_000


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Mounts an ext4 of its own with a ballast that can be thrown off, and unmounts it."""
    image, disk = directory / "image", directory / "disk"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, capture_output=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        (disk / "ballast").write_bytes(os.urandom(BALLAST_BYTES))
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Returns a small disk."""
    with small_disk(tmp_path) as disk:
        yield disk


@contextmanager
def told_of_a_full_disk() -> Iterator[list[OSError]]:
    """Yields a list for the error of what is done within, which may be ENOSPC and no other."""
    caught: list[OSError] = []
    try:
        yield caught
    except OSError as error:
        caught.append(error)
    assert {error.errno for error in caught} <= {errno.ENOSPC}


def fill(mount: Mount) -> dict[str, bytes]:
    """Writes files until the disk is full; returns what was acknowledged."""
    done: dict[str, bytes] = {}
    for number in range(DISK_BYTES // PIECE_BYTES):
        name, data = f"filling{number}", os.urandom(PIECE_BYTES)
        with told_of_a_full_disk() as caught:
            fd = os.open(mount / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            done[name] = b""
            try:
                done[name] = data[: os.write(fd, data)]
            finally:
                os.close(fd)
        if caught:
            return done
    raise AssertionError("the disk never was full")


def check(mount: Mount, files: dict[str, bytes]) -> None:
    """Reads files without what the kernel has of them."""
    mount.drop_kernel_caches()
    for name, data in files.items():
        assert (mount / name).read_bytes() == data, name


@pytest.mark.slow
def test_a_full_disk_is_an_error_for_writers_only(disk: Path, tmp_path: Path) -> None:
    repository = disk / "repo"
    Repository.init(repository).close()
    committed = os.urandom(3 << 20)
    with mounted(repository, tmp_path / "mnt") as mount:
        (mount / "committed").write_bytes(committed)
        mount.commit()
        (mount / "working").write_bytes(b"uncommitted")
        files = {"committed": committed, "working": b"uncommitted", "@v1/committed": committed}
        files |= fill(mount)
        names = set(os.listdir(mount.path))
        check(mount, files)
        with pytest.raises(VfsError, match=r"(?i)no space") as refused:
            mount.commit()
        assert str(repository) in refused.value.message
        assert "vfs gc" in hint_text(refused.value.hint)
        # The smallest change may still find room; one that does not has not happened.
        with told_of_a_full_disk():
            os.rename(mount / "working", mount / "moved")
        if os.path.lexists(mount / "moved"):
            files["moved"] = files.pop("working")
            names = names - {"working"} | {"moved"}
        check(mount, files)
        assert set(os.listdir(mount.path)) == names
        mount.process.kill()
        mount.process.wait()
    with mounted(repository, tmp_path / "mnt") as mount:
        check(mount, files)
        assert not os.path.lexists(mount / "@v2")
        throw_off(disk / "ballast")
        (mount / "after").write_bytes(b"room again")
        files["after"] = b"room again"
        check(mount, files)
    with Repository.open(repository) as repo:
        assert fsck(repo, read_data=True).is_clean


def test_a_command_without_room_says_where_and_what_to_do(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, source, target = disk / "repo", tmp_path / "source", disk / "exported"
    run = commands_on(repository, capsys, monkeypatch)
    source.mkdir()
    (source / "file").write_bytes(os.urandom(1 << 20))
    run("import", str(source), "-m", "first")
    (source / "file").write_bytes(os.urandom(DISK_BYTES))
    words = run("import", str(source), "-m", "second", status=3)
    assert words.startswith(f"vfs: {repository}")
    assert words.partition("\n")[0].endswith(": No space left on device")
    assert "Free space there (`vfs gc` frees" in words
    with open(disk / "rest", "wb", buffering=0) as rest, told_of_a_full_disk():
        while rest.write(bytes(1 << 19)) == 1 << 19:
            pass
    words = run("export", "v1", str(target), status=3)
    assert words.startswith(f"vfs: {target}")
    assert "Free space there" in words
    assert "v1" in run("log")


@pytest.mark.slow
def test_a_commit_without_room_is_done_when_there_is_room(disk: Path, tmp_path: Path) -> None:
    """The packs of a commit need as much room again as the journal; the version is not there before they have it."""
    repository = disk / "repo"
    Repository.init(repository).close()
    free = os.statvfs(disk)
    data = os.urandom(free.f_bavail * free.f_frsize * 6 // 10)
    with mounted(repository, tmp_path / "mnt") as mount:
        (mount / "large").write_bytes(data)
        for _ in range(2):
            with pytest.raises(VfsError, match=r"(?i)no space"):
                mount.commit()
            assert not os.path.lexists(mount / "@v1")
            (mount / "more").write_bytes(b"goes on")
        check(mount, {"large": data, "more": b"goes on"})
        assert list((repository / "tmp").iterdir()) == []
        throw_off(disk / "ballast")
        assert mount.commit().number == 1
        check(mount, {"@v1/large": data, "@v1/more": b"goes on", "large": data})
    with Repository.open(repository) as repo:
        assert fsck(repo, read_data=True).is_clean


def test_without_descriptors_reading_and_committing_fail_and_come_back(mount: Mount) -> None:
    (mount / "committed").write_bytes(os.urandom(1 << 20))
    mount.commit()
    data = (mount / "@v1/committed").read_bytes()
    mount.end()
    with mounted(mount.repository, mount.path) as again:
        limits = resource.prlimit(again.process.pid, resource.RLIMIT_NOFILE)
        taken = max(int(fd) for fd in os.listdir(f"/proc/{again.process.pid}/fd")) + 1
        resource.prlimit(again.process.pid, resource.RLIMIT_NOFILE, (taken, limits[1]))
        (again / "working").write_bytes(b"needs no descriptor")
        assert (again / "working").read_bytes() == b"needs no descriptor"
        with pytest.raises(OSError, match=r"\w") as caught:
            (again / "committed").read_bytes()
        assert caught.value.errno in (errno.EMFILE, errno.EIO)
        resource.prlimit(again.process.pid, resource.RLIMIT_NOFILE, limits)
        again.drop_kernel_caches()
        assert (again / "committed").read_bytes() == data
        assert again.commit().number == 2
        assert (again / "@v2/working").read_bytes() == b"needs no descriptor"
        assert "Traceback" not in again.log.read_text()


def test_without_memory_nothing_that_was_acknowledged_is_lost(repository: Path, tmp_path: Path) -> None:
    """Requests end with ENOMEM; where the binding itself finds no memory the mount ends, and is dead, not gone."""
    files: dict[str, bytes] = {}
    with mounted(repository, tmp_path / "mnt") as mount:
        for name in ("committed", "working"):
            files[name] = os.urandom(1 << 20)
            (mount / name).write_bytes(files[name])
            if name == "committed":
                mount.commit()
        status = Path(f"/proc/{mount.process.pid}/status").read_text()
        size = int(status.partition("VmSize:")[2].split()[0]) * 1024
        resource.prlimit(mount.process.pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
        with killed_if_it_hangs(mount.process):
            told, heavy = _write_until_told(mount, files)
        assert told in (errno.ENOMEM, errno.ECONNABORTED, errno.ENOTCONN)
        assert mounted_at(mount.path) is not None
        mount.process.kill()
        mount.process.wait()
    with mounted(repository, tmp_path / "mnt") as mount:
        check(mount, files)
        for name, value in heavy.items():
            assert os.getxattr(mount / name, "user.heavy") == value
        assert mount.commit().number == 2


def _write_until_told(mount: Mount, files: dict[str, bytes]) -> tuple[int | None, dict[str, bytes]]:
    """Writes until that is refused; takes down what was acknowledged, and returns the error and the attributes set.

    Attributes stay in the daemon's memory: what it has mapped and does not use is soon used up.
    """
    heavy: dict[str, bytes] = {}
    for number in range(10_000):
        name, data = f"file{number}", os.urandom(PIECE_BYTES)
        try:
            fd = os.open(mount / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                files[name] = data[: os.write(fd, data)]
                os.setxattr(fd, "user.heavy", data[:ATTRIBUTE_BYTES])
                heavy[name] = data[:ATTRIBUTE_BYTES]
            finally:
                os.close(fd)
        except OSError as error:
            return error.errno, heavy
    return None, heavy
