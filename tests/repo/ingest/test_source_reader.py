"""Goal: a file that changes while it is read is read again, or reported; one that goes away is no error."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.descriptors import descriptors_left
from support.repositories import Repositories
from support.run_killing import VFS
from vfs.model.chunking import Chunker, ChunkerParams, IngestParams
from vfs.model.ids import Buffer
from vfs.repo.ingest.source_reader import LargeFile, SourceReader, Target, data_runs, has_holes
from vfs.store.object_writer import ObjectWriter, PreparedBatch

PARAMS = IngestParams(ChunkerParams(1024, 4096, 16384), 100)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """The test's directory, open."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def reader(repositories: Repositories) -> Iterator[SourceReader]:
    """A reader that keeps what it is asked to prepare."""
    with ObjectWriter(repositories.make().store) as writer:
        yield SourceReader(PARAMS, writer.prepare_chunks)


def test_small_files_are_cut_as_a_whole_and_tiny_ones_are_not(
    reader: SourceReader, directory: int, tmp_path: Path
) -> None:
    data = random.Random(1).randbytes(50_000)
    (tmp_path / "small").write_bytes(data)
    (tmp_path / "tiny").write_bytes(data[:100])
    (tmp_path / "empty").touch()
    batch = reader.read_batch([Target(directory, name) for name in (b"small", b"tiny", b"empty")])
    small, tiny, empty = batch.files
    assert small.runs == Chunker(PARAMS.chunker).cut(data)
    assert batch.chunks is not None
    assert len(batch.chunks.ids) == len(small.runs)
    assert (tiny.tiny, tiny.runs) == (data[:100], [])
    assert (empty.tiny, empty.runs) == (b"", [])


def test_an_absent_file_or_one_of_another_kind_is_none_and_no_error(
    reader: SourceReader, directory: int, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    names = (b"missing", b"link", b"folder", b"fifo")
    batch = reader.read_batch([Target(directory, name) for name in names])
    assert [(file.status, file.error) for file in batch.files] == [(None, None)] * 4
    assert batch.chunks is None


def test_one_file_that_cannot_be_read_spoils_no_other(reader: SourceReader, directory: int, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"g" * 5000)
    batch = reader.read_batch([Target(-1, b"bad"), Target(directory, b"good")])
    bad, good = batch.files
    assert isinstance(bad.error, OSError)
    assert bad.error.errno == errno.EBADF
    assert sum(good.runs) == 5000


def test_files_that_were_opened_ahead_are_closed(
    reader: SourceReader, directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [b"file%d" % number for number in range(40)]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"f" * 5000)
    before = len(os.listdir("/proc/self/fd"))
    batch = reader.read_batch([Target(directory, name) for name in names])
    assert [sum(file.runs) for file in batch.files] == [5000] * 40
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.setattr(Chunker, "cut", lambda chunker, data: 1 / 0)
    with suppress(ZeroDivisionError):
        reader.read_batch([Target(directory, name) for name in names])
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_ahead_leave_descriptors_to_the_walk(repositories: Repositories, tmp_path: Path) -> None:
    repo = repositories.make()
    repo.close()
    for folder in range(4):
        (tmp_path / f"source/{folder}").mkdir(parents=True)
        for number in range(100):
            (tmp_path / f"source/{folder}/{number}").write_bytes(os.urandom(30_000))
    command = [VFS, "--repo", str(repo.path), "import", str(tmp_path / "source"), "-m", "few"]
    two = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    # A thread for each processor.
    limited = ["sh", "-c", 'ulimit -n 64; exec taskset -c "$@"', "sh", two, *command]
    subprocess.run(limited, check=True, stdout=subprocess.DEVNULL)


def test_without_descriptors_for_the_files_ahead_each_is_read_in_its_turn(
    reader: SourceReader, directory: int, tmp_path: Path
) -> None:
    names = [b"file%d" % number for number in range(40)]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"f" * 5000)
    with descriptors_left(3):
        batch = reader.read_batch([Target(directory, name) for name in names])
    assert [sum(file.runs) for file in batch.files] == [5000] * 40


def read_all(file: LargeFile) -> tuple[bytes, list[int]]:
    """Returns a large file's bytes and the lengths of its runs, holes negative."""
    data: list[Buffer] = []
    sizes: list[int] = []
    for piece in file.pieces():
        if piece.hole_bytes:
            data.append(bytes(piece.hole_bytes))
            sizes.append(-piece.hole_bytes)
        data.extend(bytes(buffer) for buffer in piece.buffers)
        sizes.extend(map(len, piece.buffers))
    return b"".join(data), sizes


@pytest.mark.parametrize("size", [1, 4096, (4 << 20) - 1, 4 << 20, (9 << 20) + 17])
def test_a_large_file_is_cut_in_pieces_as_it_would_be_whole(directory: int, tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(data)
    file = LargeFile(Target(directory, b"file"), PARAMS)
    found, sizes = read_all(file)
    assert found == data
    assert sizes == Chunker(PARAMS.chunker).cut(data)
    assert file.is_stable()
    file.close()


def test_a_large_file_that_changes_while_it_is_read_is_not_stable(directory: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (9 << 20))
    file = LargeFile(Target(directory, b"file"), PARAMS)
    pieces = file.pieces()
    next(pieces)
    os.truncate(path, 5 << 20)
    assert sum(1 for _ in pieces) > 0
    assert not file.is_stable()
    file.restart()
    found, _ = read_all(file)
    assert len(found) == 5 << 20
    assert file.is_stable()
    file.close()


def test_a_large_file_that_vanished_is_a_plain_missing_file(directory: int, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in (b"missing", b"folder"):
        with pytest.raises(FileNotFoundError):
            LargeFile(Target(directory, name), PARAMS)


def test_holes_are_found_where_the_filesystem_has_them(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)
        file.truncate(4 << 20)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert has_holes(descriptor, os.fstat(descriptor))
        runs = list(data_runs(descriptor, 4 << 20))
    finally:
        os.close(descriptor)
    assert runs == [(0, 1 << 20, True), (1 << 20, (1 << 20) + 4096, False), ((1 << 20) + 4096, 4 << 20, True)]


def test_prepared_batches_name_every_chunk(reader: SourceReader) -> None:
    batch: PreparedBatch = reader.prepare([b"a" * 10, b"b" * 20, b"a" * 10])
    assert len(batch.ids) == 3
    assert batch.ids[0] == batch.ids[2]
