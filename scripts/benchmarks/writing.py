"""The part `writing`: what a working layer is for, done in each layer in turn, with the daemons' processor time."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.bench import Bench
from benchmarks.data import KIB, MIB, document
from benchmarks.layers import (
    FUSE_OVERLAYFS,
    Layer,
    OverlayLayer,
    PassthroughLayer,
    PlainLayer,
    WorkingLayer,
    can_overlay,
    install_fuse_overlayfs,
)
from benchmarks.report import CPU, Row
from benchmarks.subjects import remove_tree

PART = "writing"
OVERWRITES = 2_000
APPENDS = 200
TRANSACTIONS = 200
TREE_DIRECTORY_FILES = 20


@dataclass(frozen=True)
class Inputs:
    """What the workloads read and how much they do: the same for every layer."""

    file_bytes: int
    files: int
    tree_files: int
    scratch: Path

    @classmethod
    def scaled(cls, scale: float, scratch: Path) -> Inputs:
        """Returns the sizes at a scale; from 0.1 on they are those that the targets are stated for."""
        part = min(1.0, 10 * scale)
        return cls(
            file_bytes=max(64, round(256 * part)) * MIB,
            files=round(10_000 * part),
            tree_files=TREE_DIRECTORY_FILES * round(100 * part),
            scratch=scratch,
        )

    @property
    def tree(self) -> Path:
        """A tree of small files, to be copied."""
        return self.scratch / "tree"

    @property
    def archive(self) -> Path:
        """The same tree as an archive."""
        return self.scratch / "tree.tar"

    @property
    def clone_source(self) -> Path:
        """The same tree in a git repository, packed."""
        return self.scratch / "tree.git"

    def table(self, repetition: int) -> Path:
        """Returns where a large committed file stands below a layer: one for each repetition."""
        return Path("tables", f"table{repetition}.bin")

    def make(self, base: Path, repetitions: int) -> None:
        """Makes the base tree that all layers start from, and what the workloads read."""
        (base / "tables").mkdir(parents=True)
        for repetition in range(repetitions):
            source = random.Random(7_000_000 + repetition)
            with (base / self.table(repetition)).open("wb") as file:
                for _ in range(self.file_bytes // (4 * MIB)):
                    file.write(source.randbytes(4 * MIB))
        for index in range(self.tree_files):
            path = self.tree / f"part{index // TREE_DIRECTORY_FILES:03d}" / f"document{index:05d}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(document(index))
        with tarfile.open(self.archive, "w") as archive:
            archive.add(self.tree, "tree")
        _git("init", "-q", "--bare", self.clone_source)
        _git("--git-dir", self.clone_source, "--work-tree", self.tree, "add", "-A")
        author = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        _git("--git-dir", self.clone_source, "--work-tree", self.tree, *author, "commit", "-q", "-m", "tree")
        _git("--git-dir", self.clone_source, "gc", "-q")


def _git(*arguments: str | Path) -> None:
    subprocess.run(["git", *map(str, arguments)], check=True, capture_output=True)


Steps = Iterator[float]
"""Does one step after the other, yields each one's figure once it is done, and removes at the end what it has made."""


@dataclass(frozen=True)
class Writing:
    """One workload on a layer, with a row for each of its steps."""

    run: Callable[[Path, Inputs, int], Steps]
    """Gets the layer's root, the inputs and the number of the repetition."""
    rows: tuple[Row, ...]


def _fill(path: Path, inputs: Inputs, *, synced: bool) -> Steps:
    piece = random.Random(1).randbytes(MIB)
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(inputs.file_bytes // MIB):
            file.write(piece)
        if synced:
            os.fsync(file.fileno())
    yield inputs.file_bytes / (time.perf_counter() - started) / 1e6
    path.unlink()


def write_sequentially(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """Writes a large file, 1 MiB at a time; MB/s."""
    return _fill(root / f"written{repetition}", inputs, synced=False)


def write_synced(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """The same, and syncs it; MB/s."""
    return _fill(root / f"synced{repetition}", inputs, synced=True)


def overwrite(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """Overwrites 4 KB of a large committed file: once, opening it for that (ms), then at random (a second)."""
    path = root / inputs.table(repetition)
    source = random.Random(repetition)
    piece = source.randbytes(4 * KIB)
    places = [source.randrange(inputs.file_bytes // (4 * KIB)) * 4 * KIB for _ in range(OVERWRITES)]
    started = time.perf_counter()
    with path.open("r+b", buffering=0) as file:
        file.write(piece)
    yield (time.perf_counter() - started) * 1e3
    with path.open("r+b", buffering=0) as file:
        started = time.perf_counter()
        for place in places:
            os.pwrite(file.fileno(), piece, place)
        took = time.perf_counter() - started
    yield len(places) / took


def append_synced(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """Appends 4 KB to a file and syncs it, again and again; microseconds for one."""
    path = root / f"log{repetition}"
    piece = random.Random(repetition).randbytes(4 * KIB)
    with path.open("ab", buffering=0) as file:
        started = time.perf_counter()
        for _ in range(APPENDS):
            file.write(piece)
            os.fsync(file.fileno())
        took = time.perf_counter() - started
    yield took / APPENDS * 1e6
    path.unlink()


def make_small_files(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """Creates files of 1 KB in one new directory, gives each another name, and removes them in order; each a second."""
    folder = root / f"small{repetition}"
    names = [os.fspath(folder / f"file{index:05d}") for index in range(inputs.files)]
    data = document(1)
    folder.mkdir()
    started = time.perf_counter()
    for name in names:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, data)
        os.close(descriptor)
    yield len(names) / (time.perf_counter() - started)
    started = time.perf_counter()
    for name in names:
        os.rename(name, name + ".new")
    yield len(names) / (time.perf_counter() - started)
    started = time.perf_counter()
    for name in names:
        os.unlink(name + ".new")
    yield len(names) / (time.perf_counter() - started)
    folder.rmdir()


def _timed(inputs: Inputs, target: Path, *command: str | Path) -> Steps:
    """Runs a command that makes a tree; files of it a second."""
    started = time.perf_counter()
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    yield inputs.tree_files / (time.perf_counter() - started)
    remove_tree(target)


def unpack(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """Unpacks an archive of small files; files a second."""
    return _timed(inputs, root / "tree", "tar", "-xf", inputs.archive, "-C", root)


def copy(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """Copies the tree of small files into the layer by `cp -r`; files a second."""
    return _timed(inputs, root / "copy", "cp", "-r", inputs.tree, root / "copy")


def clone(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """Clones a git repository and checks it out; files a second."""
    return _timed(inputs, root / "clone", "git", "clone", "-q", "--no-hardlinks", inputs.clone_source, root / "clone")


def _transactions(path: Path, journal: str) -> Steps:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"pragma journal_mode={journal}")
    connection.execute("pragma synchronous=full")
    connection.execute("create table t(number integer primary key, text)")
    started = time.perf_counter()
    for number in range(TRANSACTIONS):
        connection.execute("insert into t values(?, ?)", (number, "x" * 100))
    yield TRANSACTIONS / (time.perf_counter() - started)
    connection.close()
    path.unlink()


def commit_rollback(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """Durable SQLite transactions of one row, with a rollback journal; a second."""
    return _transactions(root / f"rollback{repetition}.db", "delete")


def commit_ahead(root: Path, inputs: Inputs, repetition: int) -> Steps:
    """Durable SQLite transactions of one row, with a write-ahead log; a second."""
    return _transactions(root / f"ahead{repetition}.db", "wal")


WORKLOADS = (
    Writing(write_sequentially, (Row("sequential", "sequential write", "MB/s", True),)),
    Writing(write_synced, (Row("sequential-synced", "sequential write, fsync", "MB/s", True),)),
    Writing(
        overwrite,
        (
            Row("overwrite-first", "first 4 KB write to a large committed file", "ms"),
            Row("overwrite", "4 KB random writes to it", "1/s", True),
        ),
    ),
    Writing(append_synced, (Row("append-synced", "4 KB append, fsync", "us"),)),
    Writing(
        make_small_files,
        (
            Row("create", "create of 1 KB files", "files/s", True),
            Row("rename", "rename of these files", "files/s", True),
            Row("delete", "unlink of these files", "files/s", True),
        ),
    ),
    Writing(unpack, (Row("untar", "tar -x", "files/s", True),)),
    Writing(copy, (Row("copy", "cp -r", "files/s", True),)),
    Writing(clone, (Row("clone", "git clone", "files/s", True),)),
    Writing(commit_rollback, (Row("sqlite-rollback", "SQLite, rollback journal, transactions", "1/s", True),)),
    Writing(commit_ahead, (Row("sqlite-wal", "SQLite, write-ahead log, transactions", "1/s", True),)),
)


class WritingPart:
    """Owns the layers that are measured, all made from one base tree in a scratch directory."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._scratch = bench.scratch / PART
        self._inputs = Inputs.scaled(bench.plan.scale, self._scratch)
        self._layers: list[Layer] = []

    def run(self) -> None:
        """Makes the data and the layers and measures every workload."""
        self._scratch.mkdir()
        self._bench.say("making the files to overwrite and to copy")
        base = self._scratch / "base"
        self._inputs.make(base, self._bench.plan.repetitions)
        self._make_layers(base)
        for workload in WORKLOADS:
            self._bench.say(", ".join(row.title for row in workload.rows))
            self._measure(workload)

    def close(self) -> None:
        """Unmounts and removes everything."""
        with ExitStack() as left:
            left.callback(remove_tree, self._scratch)
            for layer in self._layers:
                left.callback(layer.close)

    def _make_layers(self, base: Path) -> None:
        scratch = self._scratch
        self._layers.append(PlainLayer(base, scratch / "plain"))
        if can_overlay(scratch):
            self._layers.append(OverlayLayer("overlayfs", base, scratch))
        else:
            self._bench.note("the kernel's overlayfs cannot be mounted here: left out")
        if install_fuse_overlayfs():
            self._layers.append(OverlayLayer(FUSE_OVERLAYFS, base, scratch))
        else:
            self._bench.note("fuse-overlayfs is not there and could not be installed: left out")
        self._layers.append(PassthroughLayer(base, scratch / "passed", scratch / "passthrough"))
        self._layers.append(WorkingLayer(base, scratch / "repository", scratch / "mount"))

    def _measure(self, workload: Writing) -> None:
        """Runs a workload in each layer in turn, so that what else the machine does falls on all of them."""
        for layer in self._layers:
            layer.refresh()
        found: dict[Row, dict[str, list[float]]] = {}
        for repetition in range(self._bench.plan.repetitions):
            for layer in self._layers:
                steps = workload.run(layer.working(), self._inputs, repetition)
                for row in workload.rows:
                    before = _processor_ms(layer)
                    found.setdefault(row, {}).setdefault(layer.name, []).append(next(steps))
                    after = _processor_ms(layer)
                    if before is not None and after is not None:
                        processor = Row(f"{row.name}{CPU}", f"{row.title}: CPU time of the daemon", "ms")
                        found.setdefault(processor, {}).setdefault(layer.name, []).append(after - before)
                for _ in steps:
                    raise RuntimeError("a workload has more steps than rows")
        # Each row's processor time stands behind the workload's own rows.
        for row in sorted(found, key=lambda row: row not in workload.rows):
            self._bench.add(row, found[row], PART)


def _processor_ms(layer: Layer) -> float | None:
    daemon = layer.daemon()
    return machine.processor_seconds(daemon) * 1e3 if daemon is not None else None
