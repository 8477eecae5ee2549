"""What reading takes of the daemon: requests, look-ups, disk reads, hashes, by the file, read, megabyte or entry."""

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
from benchmarks.report import shown, table
from benchmarks.subjects import MOUNT_TIMEOUT_S, unmount, vfs
from benchmarks.workloads import DOCUMENT_READS, ORDERED_DIRECTORIES, RANDOM_DOCUMENTS, RANDOM_READS, READS, Workload

SCALE = 0.1
_PARTS = {
    "index": "index look-ups",
    "disk read": "disk reads",
    "decompression": "decompressions",
    "hash": "hashes",
    "hand-over": "hand-overs to workers",
    "push": "pushes to the kernel",
}


@dataclass(frozen=True)
class _Case:
    workload: str
    unit: str
    units: Callable[[data.Sizes], int]


_CASES = (
    _Case("sequential-cold", "MiB", lambda sizes: sizes.table_bytes >> 20),
    _Case("random-cold", "read", lambda sizes: min(RANDOM_READS, sizes.table_bytes // 4096 // 32)),
    _Case("images-cold", "file", lambda sizes: sizes.images),
    _Case("images-ordered-cold", "file", lambda sizes: min(sizes.images, 200 * ORDERED_DIRECTORIES)),
    _Case("walk-cold", "entry", lambda sizes: sizes.images),
    _Case("documents-walk-cold", "entry", lambda sizes: sizes.documents),
    _Case("document-cold", "file", lambda sizes: min(RANDOM_DOCUMENTS, sizes.documents)),
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
    heads = ["workload, per", "requests", *_PARTS.values(), "CPU, us", "requests of each kind"]
    return table(heads, rows)


def _row(case: _Case, repositories: dict[str, Path], scratch: Path, sizes: data.Sizes) -> list[str]:
    workload = next(found for found in (*READS, *DOCUMENT_READS) if found.name == case.workload)
    repository = repositories["documents" if workload in DOCUMENT_READS else "tree"]
    counts, cpu = _counted(workload, repository, scratch, sizes)
    units = case.units(sizes)
    times = {name: count / units for name, count in counts.items()}
    asked = {name: times[name] for name in REQUESTS if times.get(name, 0) >= 0.01}
    return [
        f"{workload.title}, {case.unit}",
        shown(sum(asked.values())),
        *(shown(times[part]) if times[part] else "0" for part in _PARTS),
        shown(cpu / units * 1e6),
        ", ".join(f"{name} {shown(count)}" for name, count in asked.items()),
    ]


def _counted(workload: Workload, repository: Path, scratch: Path, sizes: data.Sizes) -> tuple[dict[str, int], float]:
    """Runs a workload, cold, on a mount of its own; returns what was counted and the daemon's processor seconds."""
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
            workload.run(mountpoint / "@v1", sizes, 1)
            cpu = machine.processor_seconds(process.pid) - before
        finally:
            unmount(mountpoint)
            process.wait(MOUNT_TIMEOUT_S)
    return json.loads(out.read_text(encoding="ascii")), cpu
