"""Data loaders: training epochs, tables and arrays through the libraries that people use, many readers at once."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks import data, machine
from benchmarks.report import Figure, Report
from benchmarks.subjects import Mounted, Plain, Subject, copy_tree, remove_tree, vfs

ENVIRONMENT = Path(sys.prefix) / "bench-loaders"
WORKERS = 2
EPOCHS = 2
READERS = 8
LISTING_PAUSE_S = 0.02
MB = 1e6
PART = "loading"

FILE_READERS = {
    "pandas_csv": "pandas, CSV",
    "pandas_parquet": "pandas, Parquet",
    "pyarrow_column": "pyarrow, one column of Parquet (of the file's size)",
    "duckdb_csv": "DuckDB, CSV",
    "duckdb_parquet": "DuckDB, Parquet (of the file's size)",
    "numpy_mmap": "numpy, mapped array",
    "safetensors_mmap": "safetensors",
}


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
    """Two versions of images, one of tables and arrays; ext4 beside a mount. Owns everything below `scratch`."""

    def __init__(self, sizes: data.Sizes, repetitions: int, scratch: Path, report: Report) -> None:
        self._sizes = sizes
        self._repetitions = repetitions
        self._scratch = scratch
        self._report = report
        self._mounted: Mounted | None = None

    def run(self, say: Callable[[str], None]) -> None:
        """Measures all of it."""
        install(say)
        first, second, repository = (self._scratch / name for name in ("first", "second", "repository"))
        first.mkdir(parents=True)
        say("loading: making images, tables and arrays")
        data.make_images_and_tables(first, self._sizes)
        consume("make", first / "arrays", str(self._sizes.table_bytes))
        copy_tree(first, second)
        data.Change.of(2, self._sizes).apply(second)
        vfs("init", repository)
        for source in (first, second):
            vfs("--repo", repository, "import", source, "-m", source.name)
        mounted = self._mounted = Mounted(repository, self._scratch / "mount")
        plain = Plain(first, first)
        subjects: Sequence[Subject] = (plain, mounted)
        self._train(say, subjects, {plain.name: second, mounted.name: mounted.mountpoint / "@v2"})
        self._read_files(say, subjects)
        self._read_at_once(say, subjects)

    def close(self) -> None:
        """Unmounts, and removes everything."""
        if self._mounted is not None:
            self._mounted.close()
        remove_tree(self._scratch)

    def _train(self, say: Callable[[str], None], subjects: Sequence[Subject], seconds: dict[str, Path]) -> None:
        titles = ["first epoch, cold", "second epoch", "the next version's epoch after it"]
        values: dict[str, list[list[float]]] = {subject.name: [[], [], []] for subject in subjects}
        for _ in range(self._repetitions):
            for subject in subjects:
                say(f"training on {subject.name}")
                subject.refresh()
                both = consume("epochs", str(WORKERS), str(EPOCHS), subject.tree(), seconds[subject.name])
                for row, value in zip(values[subject.name], both, strict=False):
                    row.append(value)
        for number, title in enumerate(titles):
            for name, rows in values.items():
                self._add(
                    f"train-{number}", f"PyTorch, {WORKERS} workers, {title}", name, "images/s", rows[number], True
                )

    def _read_files(self, say: Callable[[str], None], subjects: Sequence[Subject]) -> None:
        for reader, title in FILE_READERS.items():
            say(title)
            for subject in subjects:
                values = []
                for _ in range(self._repetitions):
                    subject.refresh()
                    values += consume(reader, subject.tree() / "arrays")
                self._add(reader, f"{title}, cold", subject.name, "MB/s", values, True)

    def _read_at_once(self, say: Callable[[str], None], subjects: Sequence[Subject]) -> None:
        say(f"{READERS} readers at once")
        for subject in subjects:
            rates, fairness, listings = [], [], []
            for _ in range(self._repetitions):
                subject.refresh()
                found = read_at_once(subject.tree() / "images")
                rates.append(sum(found.rates))
                fairness.append(min(found.rates) / max(found.rates))
                listings.append(statistics.median(found.listing_seconds) * 1e3)
            title = f"{READERS} readers at once"
            self._add("readers", f"{title}, cold", subject.name, "MB/s", rates, True)
            self._add("readers-fair", f"{title}, slowest / fastest", subject.name, "", fairness, True)
            self._add("readers-ls", f"{title}, listing a directory meanwhile", subject.name, "ms", listings, False)

    def _add(self, name: str, title: str, subject: str, unit: str, values: list[float], higher: bool) -> None:
        self._report.add(Figure(name, title, subject, unit, higher, values, PART))


class AtOnce:
    """What readers beside each other found: the MB/s of each, and how long a listing took meanwhile."""

    def __init__(self, rates: list[float], listing_seconds: list[float]) -> None:
        self.rates = rates
        self.listing_seconds = listing_seconds


def _read_folders(folders: Sequence[Path], answer: Connection) -> None:
    total = 0
    started = time.perf_counter()
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            total += len((folder / name).read_bytes())
    answer.send(total / (time.perf_counter() - started) / MB)


def read_at_once(images: Path) -> AtOnce:
    """Reads all images with some processes, each its own files in order, and lists a directory over and over."""
    folders = sorted(images.iterdir())
    context = multiprocessing.get_context("fork")
    readers, answers = [], []
    for number in range(READERS):
        mine, theirs = context.Pipe(duplex=False)
        readers.append(context.Process(target=_read_folders, args=(_share(folders, number), theirs)))
        answers.append(mine)
    for reader in readers:
        reader.start()
    seconds = []
    while any(reader.is_alive() for reader in readers):
        seconds.append(machine.seconds(lambda: [entry.stat() for entry in os.scandir(folders[0])]))
        time.sleep(LISTING_PAUSE_S)
    for reader in readers:
        reader.join()
    return AtOnce([answer.recv() for answer in answers], seconds)


def _share(folders: Sequence[Path], number: int) -> Sequence[Path]:
    """Returns a reader's folders; where there are fewer than readers, several read the same ones."""
    own = folders[number::READERS]
    return own or [folders[number % len(folders)]]
