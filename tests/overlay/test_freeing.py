"""A disk full of uncommitted data: what is deleted or discarded gives its room back, also where there is none left."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.small_disks import DISK_BYTES, room, small_disk, throw_off, wait_for_room
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.restore import restore

PIECE_BYTES = 128 << 10
MOST_BYTES = 20 << 20


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    with small_disk(tmp_path, request.param) as disk:
        yield disk


def put(overlay: Overlay, name: bytes, data: bytes) -> int:
    ino = overlay.mknod(ROOT_INO, name, 0o100644, 0, 0, 0).ino
    overlay.write(ino, 0, data)
    return ino


def fill(overlay: Overlay, name: bytes, piece: int = PIECE_BYTES) -> int:
    """Writes one file until the disk is full."""
    ino = overlay.mknod(ROOT_INO, name, 0o100644, 0, 0, 0).ino
    try:
        for offset in range(0, DISK_BYTES, piece):
            overlay.write(ino, offset, os.urandom(piece))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return ino
        raise
    raise AssertionError("the disk never was full")


def remove(overlay: Overlay, name: bytes, ino: int) -> None:
    overlay.unlink(ROOT_INO, name)
    overlay.forget(ino)


def read(overlay: Overlay, name: bytes) -> bytes:
    attr = overlay.lookup(ROOT_INO, name)
    return bytes(overlay.read(attr.ino, 0, attr.size + 1))


def bytes_read() -> int:
    """Returns how many bytes this process has read by system calls."""
    counts = Path("/proc/self/io").read_text()
    return int(counts.partition("rchar:")[2].split()[0])


@pytest.mark.parametrize("piece", [PIECE_BYTES, 4096])
def test_a_layer_without_changes_starts_over(disk: Path, piece: int) -> None:
    with Repository.open(disk / "repo") as repo:
        with repo.open_overlay() as overlay:
            put(overlay, b"kept", b"committed")
            commit(repo, overlay, "first", "a")
            before = room(disk)
            ino = fill(overlay, b"huge", piece)
            remove(overlay, b"huge", ino)
            overlay.compactor.compact_if_due()
            wait_for_room(disk, before - (1 << 20))
            assert list(overlay.names(ROOT_INO)) == [b"kept"]
            put(overlay, b"new", b"x" * 100_000)
            overlay.abandon()
        with repo.open_overlay() as overlay:
            assert read(overlay, b"new") == b"x" * 100_000
            assert commit(repo, overlay, "second", "a").version.commit.number == 2
        assert fsck(repo, read_data=True).is_clean


def test_dead_data_is_punched_out_of_a_journal(disk: Path) -> None:
    """With changes that stay, before it and behind it; also after a kill."""
    mine = {b"before": os.urandom(300_000), b"behind": b"behind" * 1000}
    with Repository.open(disk / "repo") as repo:
        with repo.open_overlay() as overlay:
            put(overlay, b"before", mine[b"before"])
            ino = fill(overlay, b"huge")
            overlay.unlink(ROOT_INO, b"huge")
            # As long as the kernel refers to it, its bytes can be asked for.
            overlay.compactor.compact_if_due()
            assert room(disk) < 1 << 20
            overlay.forget(ino)
            # Nothing has looked since: the write itself makes room.
            put(overlay, b"behind", mine[b"behind"])
            put(overlay, b"large", os.urandom(1 << 20))
            wait_for_room(disk, MOST_BYTES)
            assert {name: read(overlay, name) for name in mine} == mine
            assert fsck(repo, read_data=True).is_clean
            overlay.abandon()
        for ends_by in (Overlay.abandon, Overlay.close):
            overlay = repo.open_overlay()
            assert not overlay.recovery.cut
            assert {name: read(overlay, name) for name in mine} == mine
            ends_by(overlay)
            wait_for_room(disk, MOST_BYTES)
        with repo.open_overlay() as overlay:
            version = commit(repo, overlay, "all", "a").version
            assert version.commit.root.files == 3
            assert {name: read(overlay, name) for name in mine} == mine
        assert fsck(repo, read_data=True).is_clean


def test_discarding_frees_what_a_commit_without_room_had_frozen(disk: Path) -> None:
    with Repository.open(disk / "repo") as repo:
        with repo.open_overlay() as overlay:
            put(overlay, b"kept", b"committed")
            first = commit(repo, overlay, "first", "a").version
            ino = fill(overlay, b"huge")
            overlay.forget(ino)
            with pytest.raises(OSError, match="No space left"):
                commit(repo, overlay, "second", "a")
            restore(repo, overlay, first, discard=True, author="a")
            wait_for_room(disk, MOST_BYTES)
            put(overlay, b"new", b"1")
        with repo.open_overlay() as overlay:
            assert sorted(overlay.names(ROOT_INO)) == [b"kept", b"new"]
        assert fsck(repo, read_data=True).is_clean


def test_data_in_use_by_a_reader_is_not_punched_out(disk: Path) -> None:
    with Repository.open(disk / "repo") as repo, repo.open_overlay() as overlay:
        put(overlay, b"before", b"1")
        ino = fill(overlay, b"huge")
        state = overlay._state  # noqa: SLF001
        state.journal.hold()
        remove(overlay, b"huge", ino)
        with overlay.lock:
            assert not overlay.compactor.reclaim()
        state.journal.release()
        with overlay.lock:
            assert overlay.compactor.reclaim()
        wait_for_room(disk, MOST_BYTES)


def test_files_can_be_removed_from_a_disk_without_a_byte(disk: Path) -> None:
    """Small ones, whose data is no whole block: each removal takes room before it gives any."""
    with Repository.open(disk / "repo") as repo, repo.open_overlay() as overlay:
        names = [b"small%d" % number for number in range(300)]
        for name in names:
            put(overlay, name, b"x" * 50)
        fill(overlay, b"huge", 1 << 20)
        fill(overlay, b"rest", 1000)
        for name in names:
            overlay.unlink(ROOT_INO, name)
        overlay.abandon()
        with repo.open_overlay() as again:
            assert sorted(again.names(ROOT_INO)) == [b"huge", b"rest"]


@pytest.mark.parametrize("staying", [9, 300_000, 900_000])
@pytest.mark.parametrize("piece", [512, 4096, 5000])
def test_small_writes_give_their_space_back_beside_a_file_that_stays(disk: Path, staying: int, piece: int) -> None:
    """Between their records no whole block is free: what stays is written anew, into the space that was reserved."""
    mine = os.urandom(staying)
    with Repository.open(disk / "repo") as repo:
        with repo.open_overlay() as overlay:
            put(overlay, b"stays", mine)
            before = room(disk)
            # Most of it at once: a disk of small writes alone takes minutes.
            ino = put(overlay, b"small", b"")
            for offset in range(0, 8 << 20, piece):
                overlay.write(ino, offset, bytes(piece))
            filling = disk / "filling"
            with suppress(OSError), filling.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            with suppress(OSError):
                while True:
                    offset += overlay.write(ino, offset, os.urandom(piece))
            remove(overlay, b"small", ino)
            assert room(disk) < 1 << 20
            overlay.compactor.compact_if_due()
            wait_for_room(disk, 5 << 20)
            throw_off(filling)
            wait_for_room(disk, before - (4 << 20))
            put(overlay, b"new", b"x" * 100_000)
            overlay.abandon()
        with repo.open_overlay() as overlay:
            assert read(overlay, b"stays") == mine
            assert sorted(overlay.names(ROOT_INO)) == [b"new", b"stays"]
            assert commit(repo, overlay, "first", "a").version.commit.number == 1
        assert fsck(repo, read_data=True).is_clean


def test_damage_beside_holes_is_reported(disk: Path) -> None:
    """A hole is no damage to a check, and hides none; what was freed is not read again for each hole."""
    path = disk / "repo" / "work" / "main" / "journal-1"
    with Repository.open(disk / "repo") as repo:
        with repo.open_overlay() as overlay:
            put(overlay, b"before", b"before" * 10_000)
            remove(overlay, b"huge", fill(overlay, b"huge"))
            put(overlay, b"behind", b"behind" * 10_000)
            overlay.sync()
            overlay.abandon()
        before = bytes_read()
        assert fsck(repo).is_clean
        assert bytes_read() - before < 10 * path.stat().st_size
        for name in (b"before", b"behind"):
            at = path.read_bytes().index(name * 100) + 50
            with path.open("r+b") as file:
                file.seek(at)
                file.write(b"X")
            assert len(fsck(repo).damage) == 1
            with path.open("r+b") as file:
                file.seek(at)
                file.write(name[2:3])
        assert fsck(repo).is_clean
