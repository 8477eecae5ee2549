"""Several programs that read at once: how much they get together, how evenly, and what a listing takes meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from benchmarks.data import MIB, Sizes, table_path
from benchmarks.report import Row
from benchmarks.workloads import Workload

READERS = 8
FILES_MAX = 4_000
_LISTINGS_EVERY_S = 0.05
_FORK = multiprocessing.get_context("fork")


class Together(NamedTuple):
    """What readers and listings took: bytes in all, seconds of each reader and of each listing."""

    size: int
    readers: list[float]
    listings: list[float]


def read_together(root: Path, sizes: Sizes) -> Together:
    """Reads images, each reader its own stretch in order, and one table, while directories are listed.

    Raises RuntimeError where a reader cannot read.
    """
    folders = sorted((root / "images").iterdir())
    paths = [Path(folder, name) for folder in folders for name in sorted(os.listdir(folder))]
    del paths[FILES_MAX:]
    each = -(-len(paths) // (READERS - 1))
    shares = [paths[start : start + each] for start in range(0, len(paths), each)]
    shares.append([root / table_path(0)])
    pipes = [_FORK.Pipe() for _ in shares]
    processes = [
        _FORK.Process(target=_read, args=(share, ours)) for share, (_, ours) in zip(shares, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    for theirs, _ in pipes:
        theirs.send_bytes(b"go")
    listings: list[float] = []
    while any(process.is_alive() for process in processes):
        started = time.perf_counter()
        with os.scandir(folders[len(listings) % len(folders)]) as found:
            for entry in found:
                entry.stat()
        listings.append(time.perf_counter() - started)
        time.sleep(_LISTINGS_EVERY_S)
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        # It has sent nothing, and nothing ever comes.
        raise RuntimeError("a reader failed")
    answers = [theirs.recv() for theirs, _ in pipes]
    return Together(sum(size for size, _ in answers), [took for _, took in answers], listings)


def _read(paths: list[Path], pipe: Connection) -> None:
    buffer = bytearray(MIB)
    pipe.recv_bytes()
    started = time.perf_counter()
    total = 0
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(buffer):
                total += size
    pipe.send((total, time.perf_counter() - started))


def _figures(root: Path, sizes: Sizes, _repetition: int) -> tuple[float, ...]:
    found = read_together(root, sizes)
    of_images = found.readers[:-1]
    return (
        found.size / max(found.readers) / 1e6,
        min(of_images) / max(of_images),
        statistics.median(found.listings) * 1e3,
        max(found.listings) * 1e3,
    )


TOGETHER = Workload(
    (
        Row("readers-cold", f"{READERS} readers at once, cold", "MB/s", True),
        Row("readers-fairness", "fairness of these image readers: first to finish / last", "ratio", True),
        Row("readers-listing", "directory listing with stat meanwhile, median", "ms"),
        Row("readers-listing-worst", "directory listing with stat meanwhile, maximum", "ms"),
    ),
    _figures,
)
