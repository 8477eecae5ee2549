"""Workloads: timed work on a tree, with the same code for every subject."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import (
    KIB,
    MIB,
    Sizes,
    Text,
    document_path,
    image_path,
    table_path,
)
from benchmarks.report import Row

SEQUENTIAL_TABLE = 0
RANDOM_TABLE = 1
OVERWRITTEN_TABLE = 2
RANDOM_READS = 2_000
READ_OF_PAGES = 32
"""At most one page in this many is read: else reads would hit pages cached by readahead."""
RANDOM_FILES = 2_000
RANDOM_DOCUMENTS = 500
SEARCHED_DOCUMENTS = 20_000
ORDERED_DIRECTORIES = 10
CREATED_FILES = 2_000


Measure = Callable[[Path, Sizes, int], float]
"""Gets the root, the sizes of the data set and the number of the repetition; returns one figure."""


@dataclass(frozen=True)
class Workload:
    """One workload, with a row for each of its figures. Before it, caches are dropped and mounts made anew."""

    rows: tuple[Row, ...]
    run: Callable[[Path, Sizes, int], Sequence[float]]
    """As `Measure`, with a figure for each row."""
    is_rehearsed: bool = False
    """Each repetition reads something else, and is run once before, not measured: the host of a virtual machine caches
    what was read lately, be it by another subject from the same files."""

    @property
    def title(self) -> str:
        """The workload's title, for the progress line."""
        return self.rows[0].title


def once(
    name: str, title: str, unit: str, measure: Measure, higher_is_better: bool = False, *, is_rehearsed: bool = False
) -> Workload:
    """Returns a workload of one row."""
    return Workload((Row(name, title, unit, higher_is_better),), lambda *where: (measure(*where),), is_rehearsed)


def cold_and_warm(
    name: str, title: str, unit: str, measure: Measure, higher_is_better: bool = False, *, is_rehearsed: bool = False
) -> Workload:
    """Returns a workload that is run twice: with nothing cached, then with what the first time has read."""
    rows = [Row(f"{name}-{state}", f"{title}, {state}", unit, higher_is_better) for state in ("cold", "warm")]
    return Workload(tuple(rows), lambda *where: (measure(*where), measure(*where)), is_rehearsed)


def walk(root: Path, sizes: Sizes, repetition: int) -> float:
    """Finds every name and asks for its attributes; seconds."""
    started = time.perf_counter()
    subprocess.run(["find", str(root), "-printf", "%s %T@\n"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def read_sequentially(root: Path, sizes: Sizes, repetition: int) -> float:
    """Reads a table from its start to its end; MB/s."""
    buffer = bytearray(MIB)
    total = 0
    started = time.perf_counter()
    with (root / table_path(SEQUENTIAL_TABLE)).open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            total += size
    return total / (time.perf_counter() - started) / 1e6


def read_at_random(root: Path, sizes: Sizes, repetition: int) -> float:
    """Reads 4 KB at random places of a table; a second."""
    path = root / table_path(RANDOM_TABLE)
    pages = path.stat().st_size // 4096
    places = random.Random(repetition).sample(range(pages), min(RANDOM_READS, pages // READ_OF_PAGES))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        started = time.perf_counter()
        for page in places:
            os.pread(descriptor, 4096, page * 4096)
        return len(places) / (time.perf_counter() - started)
    finally:
        os.close(descriptor)


def _read_files(paths: Iterable[Path]) -> float:
    """Opens, reads and closes each file; files a second."""
    names = [os.fspath(path) for path in paths]
    started = time.perf_counter()
    for name in names:
        descriptor = os.open(name, os.O_RDONLY)
        while os.read(descriptor, MIB):
            pass
        os.close(descriptor)
    return len(names) / (time.perf_counter() - started)


def read_random_images(root: Path, sizes: Sizes, repetition: int) -> float:
    """Reads whole images in random order; files a second."""
    chosen = random.Random(repetition).sample(range(sizes.images), min(RANDOM_FILES, sizes.images))
    return _read_files(root / image_path(index, sizes) for index in chosen)


def read_images_in_order(root: Path, sizes: Sizes, repetition: int) -> float:
    """Reads the images of some directories as a listing names them, listing included; files a second."""
    started = time.perf_counter()
    folders = sorted((root / "images").iterdir())[:ORDERED_DIRECTORIES]
    paths = [Path(folder, name) for folder in folders for name in sorted(os.listdir(folder))]
    listed = time.perf_counter() - started
    return len(paths) / (listed + len(paths) / _read_files(paths))


def read_one_document(root: Path, sizes: Sizes, repetition: int) -> float:
    """Reads small files at random; microseconds for one."""
    chosen = random.Random(repetition).sample(range(sizes.documents), min(RANDOM_DOCUMENTS, sizes.documents))
    return 1e6 / _read_files(root / document_path(index, sizes) for index in chosen)


def search_documents(root: Path, sizes: Sizes, repetition: int) -> float:
    """Looks for a word in all small files of some directories, as `grep -r` does; seconds."""
    each = sizes.documents // sizes.document_directories
    folders = range(min(sizes.document_directories, SEARCHED_DOCUMENTS // each))
    paths = [os.fspath((root / document_path(number * each, sizes)).parent) for number in folders]
    started = time.perf_counter()
    # Not checked: the floor's files are zeros, and nothing found is status 1.
    finished = subprocess.run(["grep", "-rc", "unknown", *paths], stdout=subprocess.PIPE, check=False)
    took = time.perf_counter() - started
    found = finished.stdout.count(b"\n")
    if found != len(paths) * each:
        raise RuntimeError(f"grep has read {found} files of {len(paths) * each}")
    return took


def write_sequentially(root: Path, sizes: Sizes, repetition: int) -> float:
    """Writes a file as large as a table and syncs it; MB/s."""
    piece = Text(repetition).take(MIB)
    path = root / f"written{repetition}"
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(sizes.table_bytes // MIB):
            file.write(piece)
        os.fsync(file.fileno())
    took = time.perf_counter() - started
    path.unlink()
    return sizes.table_bytes / took / 1e6


def create_files(root: Path, sizes: Sizes, repetition: int) -> float:
    """Creates small files in one new directory; files a second."""
    data = Text(repetition).take(KIB)
    folder = Path(tempfile.mkdtemp(prefix="created", dir=root))
    started = time.perf_counter()
    for index in range(CREATED_FILES):
        descriptor = os.open(folder / f"file{index}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, data)
        os.close(descriptor)
    return CREATED_FILES / (time.perf_counter() - started)


def overwrite_block(root: Path, sizes: Sizes, repetition: int) -> float:
    """Overwrites 4 KB in a table that was not changed since the version, and syncs it; milliseconds."""
    path = root / table_path((OVERWRITTEN_TABLE + repetition) % sizes.tables)
    data = Text(repetition).take(4 * KIB)
    started = time.perf_counter()
    with path.open("r+b", buffering=0) as file:
        file.seek(random.Random(repetition).randrange(sizes.table_bytes // 4096) * 4096)
        file.write(data)
        os.fsync(file.fileno())
    return (time.perf_counter() - started) * 1e3


READS = (
    cold_and_warm("walk", "walk with stat", "s", walk),
    cold_and_warm("sequential", "sequential read of a table", "MB/s", read_sequentially, True),
    once("random-cold", "random 4 KB reads, cold", "1/s", read_at_random, True, is_rehearsed=True),
    cold_and_warm("images", "images in random order", "files/s", read_random_images, True, is_rehearsed=True),
    once("images-ordered-cold", "images in directory order, cold", "files/s", read_images_in_order, True),
)
DOCUMENT_READS = (
    cold_and_warm("documents-walk", "walk of small files", "s", walk),
    once("document-cold", "one 1 KB file, cold", "us", read_one_document, is_rehearsed=True),
    cold_and_warm("documents-grep", f"grep -r over {SEARCHED_DOCUMENTS:,} small files", "s", search_documents),
)
WRITES = (
    once("overwrite", "4 KB write to a committed table, fsync", "ms", overwrite_block),
    once("write", "sequential write, fsync", "MB/s", write_sequentially, True),
    once("create", "create of 1 KB files", "files/s", create_files, True),
)
