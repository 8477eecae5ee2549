"""A disk that fails, and power that does: under a real ext4 on a real block device, with a real daemon at work.

What fsync and commit acknowledged is there afterwards; only the callers that need the disk get an error.
"""

from __future__ import annotations

import mmap
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from support.disk import DATA, EVERYTHING, FLUSHES, WRITES, Disk, failing_disk
from support.mounts import Mount, mounted
from vfs.errors import VfsError
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository

pytestmark = [pytest.mark.mount, pytest.mark.slow]

DISK_BYTES = 48 << 20
CUTS = int(os.environ.get("VFS_POWER_CUTS", "6"))
SEED = os.environ.get("VFS_POWER_SEED", "1")
STEPS = 60
COMMIT_EVERY = 7


def put(directory: Path, name: str, data: bytes) -> None:
    """Puts a file in place of another, so that it is there for good when this returns."""
    fd = os.open(directory / "new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(directory / "new", directory / name)
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def pinned(path: Path) -> mmap.mmap:
    """Maps a file, so that dropping the kernel's caches keeps its pages."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)


def is_clean(repository: Path) -> bool:
    with Repository.open(repository) as repo:
        return fsck(repo, read_data=True).is_clean


def test_a_disk_failure_is_an_error_for_its_callers_and_loses_nothing(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    with failing_disk(tmp_path, DISK_BYTES) as disk:
        repository = disk.path / "repo"
        Repository.init(repository).close()
        with mounted(repository, tmp_path / "mnt") as mount:
            put(mount.path, "committed", data)
            mount.commit()
            put(mount.path, "synced", data[::-1])
            held = [pinned(mount / "@v1/committed"), pinned(mount / "synced")]
            disk.fail(*EVERYTHING)
            with pytest.raises(OSError, match="Input/output"):
                put(mount.path, "lost", data)
            with pytest.raises(OSError, match=r"Input/output|Read-only"):
                put(mount.path, "lost", data)
            with pytest.raises(VfsError):
                mount.commit()
            # What needs no disk goes on.
            assert [file[:] for file in held] == [data, data[::-1]]
            assert (mount / "synced").stat().st_size == len(data)
            assert "synced" in os.listdir(mount.path)
            for file in held:
                file.close()
            mount.process.kill()
            mount.process.wait()
        disk.fail()
        # An ext4 that has met an error takes no more changes before it is mounted anew.
        disk.unmount()
        disk.mount()
        with mounted(repository, tmp_path / "mnt") as mount:
            assert (mount / "committed").read_bytes() == data
            assert (mount / "synced").read_bytes() == data[::-1]
            put(mount.path, "after", data)
            assert mount.commit().number == 2
            assert (mount / "@v2/after").read_bytes() == data
        assert is_clean(repository)


# An ext4 with a journal takes no more changes after a flush that failed.
@pytest.mark.parametrize(("what", "features"), [(DATA, []), (FLUSHES, ["^has_journal"]), (WRITES, ["^has_journal"])])
def test_what_a_failed_sync_left_is_durable_after_the_next_one(what: str, features: list[str], tmp_path: Path) -> None:
    """The kernel takes pages that it could not write for written; a second fsync must not believe it."""
    data = os.urandom(1 << 20)
    with failing_disk(tmp_path, DISK_BYTES, features) as disk:
        repository = disk.path / "repo"
        Repository.init(repository).close()
        with mounted(repository, tmp_path / "mnt") as mount:
            put(mount.path, "first", b"1")
            fd = os.open(mount / "file", os.O_WRONLY | os.O_CREAT)
            os.write(fd, data)
            disk.fail(what)
            with pytest.raises(OSError, match="Input/output"):
                os.fsync(fd)
            disk.fail()
            os.fsync(fd)
            os.close(fd)
            position = disk.position
            mount.process.kill()
            mount.process.wait()
        disk.after_power_cut(position, random.Random(SEED), tmp_path / "cut")
        subprocess.run(["e2fsck", "-fy", tmp_path / "cut"], check=False, capture_output=True)
        with found(tmp_path / "cut", tmp_path / "found") as left, mounted(left / "repo", tmp_path / "mnt") as mount:
            assert (mount / "file").read_bytes() == data
            assert (mount / "first").read_bytes() == b"1"


@contextmanager
def found(image: Path, directory: Path) -> Iterator[Path]:
    """Mounts what a power cut has left, for reading and writing."""
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


class Acknowledged(NamedTuple):
    """What was there for good at a moment: by how much the disk had written down, files, and files of each version."""

    position: int
    files: dict[bytes, bytes]
    versions: list[dict[bytes, bytes]]


def work(mount: Mount, disk: Disk, chance: random.Random) -> list[Acknowledged]:
    """Puts files and commits; returns what was acknowledged after each step."""
    told = [Acknowledged(disk.position, {}, [])]
    for step in range(1, STEPS):
        _, files, versions = told[-1]
        if step % COMMIT_EVERY:
            name, data = f"file{chance.randrange(6)}", chance.randbytes(chance.choice((0, 100, 5000, 70_000)))
            put(mount.path, name, data)
            files = {**files, name.encode(): data}
        else:
            mount.commit()
            versions = [*versions, files]
        told.append(Acknowledged(disk.position, files, versions))
    return told


def working_files(repo: Repository) -> dict[bytes, bytes]:
    with repo.open_overlay() as overlay:
        return {
            name: bytes(overlay.read(attr.ino, 0, attr.size))
            for name in overlay.names(ROOT_INO)
            if name != b"new" and (attr := overlay.lookup(ROOT_INO, name))
        }


def test_power_cuts_at_any_request_of_the_disk_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with failing_disk(tmp_path, DISK_BYTES) as disk:
        repository = disk.path / "repo"
        Repository.init(repository).close()
        os.sync()
        with mounted(repository, tmp_path / "mnt") as mount:
            told = work(mount, disk, chance)
        for _ in range(CUTS):
            position = chance.randrange(told[0].position, told[-1].position)
            disk.after_power_cut(position, chance, tmp_path / "cut")
            before = max(index for index, moment in enumerate(told) if moment.position <= position)
            with found(tmp_path / "cut", tmp_path / "found") as left:
                check(left / "repo", told[before], told[before + 1], tmp_path)


def check(repository: Path, before: Acknowledged, after: Acknowledged, directory: Path) -> None:
    """Finds what was acknowledged, and of the step that was under way all or nothing."""
    with Repository.open(repository) as repo:
        assert working_files(repo) in (before.files, after.files)
        count = repo.refs.version_count("main")
        assert len(before.versions) <= count <= len(after.versions)
    assert is_clean(repository)
    with mounted(repository, directory / "mnt") as mount:
        for number, files in enumerate(after.versions[:count], 1):
            root = mount / f"@v{number}"
            assert {os.fsencode(path.name): path.read_bytes() for path in root.iterdir()} == files
        # It goes on from there.
        put(mount.path, "more", b"more")
        assert mount.commit().number == count + 1
