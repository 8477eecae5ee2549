"""Goal: an import sees what programs stored through shared mappings, on every kind of filesystem it may read from."""

from __future__ import annotations

import mmap
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.sources import Source
from support.waiting import let_settle
from vfs.repo.import_directory import Imported, import_directory
from vfs.repo.ingest.source_reader import LARGE_BYTES
from vfs.repo.ingest.writeback import Filesystems, Stamps, stamps_of, write_back
from vfs.repo.repository import Repository


def bring_in(repo: Repository, directory: Path) -> Imported:
    with repo.open_overlay() as overlay:
        return import_directory(repo, directory, "m", "a", overlay=overlay, jobs=2, allow_empty=True)


def committed(repo: Repository, imported: Imported, name: bytes, size: int) -> bytes:
    return bytes(Source(repo.store, imported.version).open(name).read(0, size))


def stamps(directory: Path) -> Stamps:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return stamps_of(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def mapping(path: Path) -> Iterator[mmap.mmap]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        with mmap.mmap(descriptor, 0) as mapped:
            yield mapped
    finally:
        os.close(descriptor)


@contextmanager
def overlay_mount(below: Path, more: str = "") -> Iterator[Path]:
    """Yields an overlay whose layers lie below a directory."""
    lower, upper, work, merged = (below / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        path.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}{more}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True)
    try:
        yield merged
    finally:
        subprocess.run(["umount", str(merged)], check=True)


@contextmanager
def filesystem(kind: Stamps, on_disk: Path) -> Iterator[Path]:
    """Yields a directory on a filesystem of a kind."""
    if kind is Stamps.NEVER:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            yield Path(memory)
    elif kind is Stamps.STACKED:
        with overlay_mount(on_disk) as merged:
            yield merged
    else:
        yield on_disk


@pytest.mark.parametrize("kind", [Stamps.LOCAL, Stamps.STACKED, Stamps.NEVER])
@pytest.mark.parametrize("size", [100, 100_000, LARGE_BYTES + 1])
def test_stores_through_a_mapping_after_an_import_are_in_the_next_one(
    repo: Repository, on_disk: Path, kind: Stamps, size: int
) -> None:
    with filesystem(kind, on_disk) as directory:
        assert stamps(directory) is kind
        source = directory / "source"
        source.mkdir()
        path = source / "array"
        path.write_bytes(bytes(size))
        with mapping(path) as mapped:
            mapped[:5] = b"first"
            let_settle([path.stat()])
            # The page is dirty: without writing it back, no later store into it would show.
            first = bring_in(repo, source)
            assert committed(repo, first, b"array", 5) == b"first"
            mapped[:5] = b"later"
            second = bring_in(repo, source)
            assert committed(repo, second, b"array", 5) == b"later"
            mapped[size - 4 :] = b"last"
        third = bring_in(repo, source)
        assert committed(repo, third, b"array", size)[-4:] == b"last"
        let_settle([path.stat()])
        bring_in(repo, source)
        again = bring_in(repo, source)
        assert again.tally.files_read == (kind is Stamps.NEVER)


def test_concurrent_stores_are_in_the_last_import(repo: Repository, on_disk: Path) -> None:
    source = on_disk / "source"
    source.mkdir()
    path = source / "array"
    path.write_bytes(bytes(64 * mmap.PAGESIZE))
    is_over = threading.Event()
    with mapping(path) as mapped:

        def store() -> None:
            count = 0
            while not is_over.is_set():
                count += 1
                at = count % 64 * mmap.PAGESIZE
                mapped[at : at + 8] = count.to_bytes(8, "little")

        writer = threading.Thread(target=store)
        writer.start()
        try:
            for _ in range(10):
                bring_in(repo, source)
        finally:
            is_over.set()
            writer.join()
        last = bring_in(repo, source)
        assert committed(repo, last, b"array", 64 * mmap.PAGESIZE) == bytes(mapped)


def test_an_overlay_that_syncs_nothing_is_not_believed(on_disk: Path) -> None:
    with overlay_mount(on_disk, ",volatile") as merged:
        assert stamps(merged) is Stamps.NEVER


def test_a_file_that_cannot_be_written_back_is_not_believed(on_disk: Path) -> None:
    reader, writer = os.pipe()
    try:
        assert not write_back(reader, Stamps.LOCAL)
        assert not write_back(reader, Stamps.REMOTE)
        assert not write_back(writer, Stamps.NEVER)
    finally:
        os.close(reader)
        os.close(writer)
    path = on_disk / "gone"
    path.touch()
    status = path.stat()
    path.unlink()
    descriptor = os.open(on_disk, os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert Filesystems().current_status(descriptor, b"gone", status) is None
    finally:
        os.close(descriptor)
