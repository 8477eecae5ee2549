"""Transfers whose disk gets full: each ends with an error that says so, loses nothing, and goes on at the next try."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.sharing import Person, content
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location, parse_location
from vfs.backend.wrappers import Fault, FaultBackend, Request
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.transfer.clone import clone
from vfs.repo.transfer.mirror import open_mirror

pytestmark = pytest.mark.mount

KIB = 1024
FILES, SIZE = 6, 500_000
STEP = 192 * KIB
"""How much the disk grows after each try that it did not suffice for."""
TRIES_MAX = 100


class Disk:
    """A disk that can be made larger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 64 * KIB
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", path], check=True)

    def grow(self, size: int = STEP) -> None:
        self.size += size
        subprocess.run(["mount", "-o", f"remount,size={self.size}", self.path], check=True)

    def fill(self, room: int = 0) -> None:
        """Leaves so many bytes free."""
        found = os.statvfs(self.path)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self.size = used + room
        subprocess.run(["mount", "-o", f"remount,size={self.size}", self.path], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    try:
        yield made
    finally:
        # Errors name frames that have files of the disk open.
        gc.collect()
        subprocess.run(["umount", made.path], check=True)


@pytest.fixture
def ben(disk: Disk) -> Iterator[Person]:
    """A person whose repository is to be on the disk."""
    person = Person("ben", disk.path / "ben")
    yield person
    person.close()


@pytest.fixture
def ana(tmp_path: Path) -> Iterator[Person]:
    """A person who has not pushed yet; the remote is in a directory."""
    person = Person("ana", tmp_path / "ana").init()
    for number in range(FILES):
        person.commit(f"f{number}", content(number, SIZE))
    yield person
    person.close()


def _place(path: Path) -> Location:
    path.mkdir(exist_ok=True)
    return parse_location(str(path))


def _until_it_fits(disk: Disk, work: Callable[[], object], *, step: int = STEP) -> int:
    """Does what needs more disk than there is, with a larger disk each time; returns how often it was too small."""
    for tries in range(TRIES_MAX):
        try:
            work()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            disk.grow(step)
        else:
            return tries
    raise AssertionError("no disk is large enough")


def test_a_clone_of_all_contents_goes_on_with_a_larger_disk(
    ana: Person, ben: Person, disk: Disk, tmp_path: Path
) -> None:
    location = _place(tmp_path / "remote")
    ana.add_remote(location)
    ana.push()
    stored: set[str] = set()

    def refuse(_name: Request, key: str) -> Fault | None:
        # What one try has stored the next one does not ask for.
        return Fault(OSError(errno.EEXIST, key)) if key in stored else None

    def try_it() -> None:
        stored.update(str(path.relative_to(ben.path)) for path in ben.path.glob("packs/*/*/*.pack"))
        clone(location, ben.path, author="ben", contents=True, wrap=lambda backend: FaultBackend(backend, refuse))

    assert _until_it_fits(disk, try_it) > 5
    # A working layer needs some room, too.
    disk.grow()
    ben.reopen()
    assert ben.read("f0") == content(0, SIZE)
    assert fsck(ben.repo, read_data=True).is_clean
    assert len(stored) >= FILES // 2


def test_a_fetch_loses_nothing_of_what_was_there(ana: Person, ben: Person, disk: Disk, tmp_path: Path) -> None:
    location = _place(tmp_path / "remote")
    ana.add_remote(location)
    ana.push()
    disk.grow(64 * KIB * KIB)
    ben.clone(location, contents=True)
    for number in range(FILES, 2 * FILES):
        ana.commit(f"f{number}", content(number, SIZE))
    ana.push()
    disk.fill()
    assert _until_it_fits(disk, ben.fetch) > 5
    assert ben.repo.refs.get("remotes/origin/main") == ana.repo.refs.get("branches/main")
    assert ben.read("f0") == content(0, SIZE)
    assert fsck(ben.repo, read_data=True).is_clean


def test_a_push_to_a_full_disk_changes_nothing_there_and_goes_on(ana: Person, disk: Disk, tmp_path: Path) -> None:
    location = _place(disk.path / "remote")
    ana.add_remote(location)
    disk.fill()
    before = LocalBackend(disk.path / "remote").read("root")

    def push() -> None:
        assert LocalBackend(disk.path / "remote").read("root") == before
        ana.push()

    assert _until_it_fits(disk, push) > 5
    cloned = Person("eve", tmp_path / "eve")
    cloned.clone(location, contents=True)
    assert cloned.versions() == ana.versions()
    assert fsck(cloned.repo, read_data=True).is_clean
    cloned.close()


def test_a_push_from_a_full_disk_goes_on(ben: Person, disk: Disk, tmp_path: Path) -> None:
    location = _place(tmp_path / "remote")
    disk.grow(64 * KIB * KIB)
    ben.init()
    for number in range(FILES):
        ben.commit(f"f{number}", content(number, SIZE))
    ben.add_remote(location)
    disk.fill()
    _until_it_fits(disk, ben.push)
    assert fsck(ben.repo, read_data=True).is_clean
    cloned = Person("eve", tmp_path / "eve")
    cloned.clone(location, contents=True)
    assert cloned.versions() == ben.versions()
    cloned.close()


def test_a_mirror_is_made_on_a_larger_disk(ana: Person, disk: Disk, tmp_path: Path) -> None:
    location = _place(tmp_path / "remote")
    ana.add_remote(location)
    ana.push()
    assert _until_it_fits(disk, lambda: open_mirror(location, disk.path / "cache"), step=16 * KIB) > 5
    with Repository.open(open_mirror(location, disk.path / "cache").path) as repo:
        assert repo.refs.get("branches/main") == ana.repo.refs.get("branches/main")
