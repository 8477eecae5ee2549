"""The cost of reads in the daemon: requests, lookups, disk reads, hashes for each file, read, MiB or entry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import data, machine
from benchmarks.counted_mount import REQUESTS
from benchmarks.subjects import MOUNT_TIMEOUT_S, unmount, vfs
from benchmarks.tables import shown, table
from benchmarks.workloads import (
    ORDERED_DIRECTORIES,
    RANDOM_DOCUMENTS,
    RANDOM_FILES,
    RANDOM_READS,
    READ_OF_PAGES,
    Measure,
    read_at_random,
    read_images_in_order,
    read_one_document,
    read_random_images,
    read_sequentially,
    walk,
)

SCALE = 0.1
_PARTS = {
    "index": "index lookups",
    "disk read": "disk reads",
    "decompression": "decompressions",
    "hash": "hashes",
    "hand-over": "jobs for prefetch workers",
    "push": "notify_store calls",
}


@dataclass(frozen=True)
class _Case:
    title: str
    measure: Measure
    unit: str
    units: Callable[[data.Sizes], int]
    part: str = "tree"


_CASES = (
    _Case("sequential read of a table", read_sequentially, "MiB", lambda sizes: sizes.table_bytes >> 20),
    _Case(
        "random 4 KB reads",
        read_at_random,
        "read",
        lambda sizes: min(RANDOM_READS, sizes.table_bytes // 4096 // READ_OF_PAGES),
    ),
    _Case("images in random order", read_random_images, "file", lambda sizes: min(RANDOM_FILES, sizes.images)),
    _Case(
        "images in directory order",
        read_images_in_order,
        "file",
        lambda sizes: min(sizes.images, 200 * ORDERED_DIRECTORIES),
    ),
    _Case("walk with stat", walk, "entry", lambda sizes: sizes.images),
    _Case("walk of small files", walk, "entry", lambda sizes: sizes.documents, "documents"),
    _Case(
        "one 1 KB file", read_one_document, "file", lambda sizes: min(RANDOM_DOCUMENTS, sizes.documents), "documents"
    ),
)


def measure(directory: Path) -> str:
    """Returns a table, a row for each workload; needs root."""
    sizes = data.Sizes.scaled(SCALE)
    with tempfile.TemporaryDirectory(prefix="read-costs-", dir=directory) as name:
        scratch = Path(name)
        repositories = {}
        for part, make in (("tree", data.make_images_and_tables), ("documents", data.make_documents)):
            source, repository = scratch / part, scratch / f"{part}-repository"
            source.mkdir()
            make(source, sizes)
            vfs("init", repository)
            vfs("--repo", repository, "import", source, "-m", "first")
            repositories[part] = repository
        (scratch / "mount").mkdir()
        rows = [_row(case, repositories, scratch, sizes) for case in _CASES]
    heads = ["workload, per unit", "requests", *_PARTS.values(), "CPU, us", "requests by type"]
    return table(heads, rows)


def _row(case: _Case, repositories: dict[str, Path], scratch: Path, sizes: data.Sizes) -> list[str]:
    counts, cpu = _counted(case.measure, repositories[case.part], scratch, sizes)
    units = case.units(sizes)
    times = {name: count / units for name, count in counts.items()}
    asked = {name: times[name] for name in REQUESTS if times.get(name, 0) >= 0.01}
    return [
        f"{case.title}, cold, {case.unit}",
        shown(sum(asked.values())),
        *(shown(times[part]) if times[part] else "0" for part in _PARTS),
        shown(cpu / units * 1e6),
        ", ".join(f"{name} {shown(count)}" for name, count in asked.items()),
    ]


def _counted(measure: Measure, repository: Path, scratch: Path, sizes: data.Sizes) -> tuple[dict[str, int], float]:
    """Runs a cold workload on a mount of its own; returns the counts and the daemon's processor seconds."""
    mountpoint, out = scratch / "mount", scratch / "counts.json"
    machine.drop_caches()
    command = [sys.executable, "-m", "benchmarks.counted_mount", str(repository), str(mountpoint), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the counted mount did not come up")
            os.stat(mountpoint / "@v1")
            before = machine.processor_seconds(process.pid)
            measure(mountpoint / "@v1", sizes, 1)
            cpu = machine.processor_seconds(process.pid) - before
        finally:
            unmount(mountpoint)
            process.wait(MOUNT_TIMEOUT_S)
    return json.loads(out.read_text(encoding="ascii")), cpu
