"""The part `loading`: training epochs, tables and arrays through the libraries that people use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import data
from benchmarks.bench import MB, Bench
from benchmarks.report import Row
from benchmarks.subjects import (
    Empty,
    Mounted,
    Plain,
    ReadOnly,
    Subject,
    WorkingView,
    copy_tree,
    remove_tree,
    vfs,
)
from benchmarks.workloads import once, read_images_in_order, read_sequentially

ENVIRONMENT = Path(sys.prefix) / "bench-loaders"
WORKERS = 2
EPOCHS = 2
PART = "loading"
MEMORY = Row("memory-loading", "peak memory of the daemon, loading", "MB")
EPOCH_ROWS = tuple(
    Row(f"train-{number}", f"PyTorch, {WORKERS} workers, {title}", "images/s", True)
    for number, title in enumerate(("first epoch, cold", "second epoch", "the next version's epoch after it"))
)
WHOLE_FILES = (
    once("loading-sequential", "sequential read of a table, cold", "MB/s", read_sequentially, True),
    once("loading-images-ordered", "images in directory order, cold", "files/s", read_images_in_order, True),
)

FILE_READERS = {
    "pandas_csv": "pandas, CSV",
    "pandas_parquet": "pandas, Parquet",
    "pyarrow_column": "pyarrow, one column of Parquet (of the file's size)",
    "duckdb_csv": "DuckDB, CSV",
    "duckdb_parquet": "DuckDB, Parquet (of the file's size)",
    "numpy_mmap": "numpy, mapped array",
    "safetensors_mmap": "safetensors",
}
READ_ANY_BYTES = frozenset(("numpy_mmap",))


def install(say: Callable[[str], None]) -> None:
    """Makes the environment of the loaders where it is not there yet; needs pip's index."""
    if (ENVIRONMENT / "complete").exists():
        return
    say("installing PyTorch, pandas, pyarrow, DuckDB, safetensors")
    remove_tree(ENVIRONMENT)
    subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    lock = Path(__file__).resolve().parents[1] / "requirements" / "loaders.lock"
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
    # Not by hash: which of PyTorch's builds fits is the machine's affair, and they differ by gigabytes.
    subprocess.run([*pip, "torch"], check=True)
    (ENVIRONMENT / "complete").touch()


def consume(*words: str | Path) -> list[float]:
    """Runs bench_loaders/consumers.py in the loaders' environment and returns the numbers that it prints."""
    program = Path(__file__).resolve().parents[1] / "bench_loaders" / "consumers.py"
    command = [str(ENVIRONMENT / "bin" / "python"), str(program), *map(str, words)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {finished.returncode}:\n{finished.stderr}")
    return [float(line) for line in finished.stdout.split()]


class LoadingPart:
    """Two versions of images, one of tables and arrays; ext4 and the floor beside a mount."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._place = bench.scratch / PART
        self._first, self._second = self._place / "first", self._place / "second"
        self._mounted = Mounted(self._place / "repository", self._place / "mount")
        self._read_only = ReadOnly(self._mounted.repository, self._place / "read-only")
        self._empty = Empty(self._first, self._place / "empty")
        self._first.mkdir()
        self._plain = Plain(self._first, self._first)

    def run(self) -> None:
        """Measures all of it; `install` comes before."""
        bench = self._bench
        bench.say("making images, tables and arrays")
        data.make_images_and_tables(self._first, bench.sizes)
        consume("make", self._first / "arrays", str(bench.sizes.table_bytes))
        copy_tree(self._first, self._second)
        data.Change.of(2, bench.sizes).apply(self._second)
        vfs("init", self._mounted.repository)
        for source in (self._first, self._second):
            vfs("--repo", self._mounted.repository, "import", source, "-m", source.name)
        working = WorkingView(self._mounted)
        for workload in WHOLE_FILES:
            subjects: list[Subject] = [self._plain, self._empty, self._mounted, working, self._read_only]
            bench.measure(workload, subjects, part=PART)
        self._train(working)
        self._read_files()
        for mount in (self._mounted, self._read_only):
            mount.close()
            bench.add(MEMORY, {mount.name: [mount.peak_bytes / MB]}, PART)

    def close(self) -> None:
        """Unmounts, and removes everything."""
        with ExitStack() as left:
            left.callback(remove_tree, self._place)
            for each in (self._mounted.close, self._read_only.close, self._empty.close):
                left.callback(each)

    def _train(self, working: WorkingView) -> None:
        """Trains over each subject's images and, where there is one, over the next version's."""
        roots: list[tuple[Subject, list[Path]]] = [
            (self._plain, [self._first, self._second]),
            (self._empty, [self._empty.tree()]),
            (self._mounted, [self._mounted.version(1), self._mounted.version(2)]),
            (working, [working.tree()]),
            (self._read_only, [self._read_only.version(1), self._read_only.version(2)]),
        ]
        values: list[dict[str, list[float]]] = [{}, {}, {}]
        for repetition in range(self._bench.plan.repetitions):
            for subject, trees in roots:
                self._bench.say(f"training on {subject.name}, {repetition + 1} of {self._bench.plan.repetitions}")
                subject.refresh()
                # The fourth is the second one over the next version, which the page cache does not need.
                for rates, rate in zip(values, consume("epochs", str(WORKERS), str(EPOCHS), *trees), strict=False):
                    rates.setdefault(subject.name, []).append(rate)
        for row, rates in zip(EPOCH_ROWS, values, strict=True):
            self._bench.add(row, rates, PART)

    def _read_files(self) -> None:
        """Reads a file with each library. The floor's zeros are a file of a format to few of them."""
        for reader, title in FILE_READERS.items():
            subjects: list[Subject] = [self._plain, self._mounted, self._read_only]
            if reader in READ_ANY_BYTES:
                subjects.insert(1, self._empty)
            values: dict[str, list[float]] = {subject.name: [] for subject in subjects}
            self._bench.say(title)
            for _ in range(self._bench.plan.repetitions):
                for subject in subjects:
                    subject.refresh()
                    values[subject.name] += consume(reader, subject.tree() / "arrays")
            self._bench.add(Row(reader, f"{title}, cold", "MB/s", True), values, PART)
