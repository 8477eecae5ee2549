"""What grows with bytes: one file of up to 10 GB, one directory of up to a million names, one sparse file of 100 GB."""

from __future__ import annotations

import os
import random
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import machine
from benchmarks.bench import MB, Bench
from benchmarks.data import KIB, MIB, insert_bytes
from benchmarks.growth import REPETITIONS_MAX, file_name, make_directory
from benchmarks.report import GROWTH, Row
from benchmarks.subjects import PROGRAM, Mounted, remove_tree, vfs

TENFOLD = (1, 10, 100)
FILE_BYTES = 100_000_000
DIRECTORY_FILES = 10_000
SPARSE_BYTES = 1_000_000_000
SPARSE_PAGES = 1_000
PAGE = 4 * KIB
LOOKUPS = 100
ROOM = 4
"""A file is measured where the disk has room for so many of it: it is written, imported, copied and committed."""
_PIECE_BYTES = 8 * MIB


class GrowingPart:
    """A size after the other, each in a place of its own; what they share."""

    kind: str

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._part = f"{GROWTH}-{self.kind}"
        self._place = bench.scratch / self._part
        self._mounted = Mounted(self._place / "repository", self._place / "mount")

    def close(self) -> None:
        """Unmounts and removes everything."""
        with ExitStack() as left:
            left.callback(remove_tree, self._place)
            left.callback(self._mounted.close)

    def _begin(self) -> None:
        """Makes room for the next size."""
        self.close()
        self._mounted = Mounted(self._place / "repository", self._place / "mount")

    def _sizes(self, base: int) -> list[int]:
        return [max(1, round(base * self._bench.plan.scale)) * times for times in TENFOLD]

    def _add(self, column: str, title: str, values: list[float], unit: str = "s", *, higher: bool = False) -> None:
        name = f"{self._part}-{title.replace(' ', '-')}"
        self._bench.add(Row(name, title, unit, higher), {column: values}, self._part)

    def _commit(self) -> float:
        return machine.seconds(vfs, "--repo", self._mounted.repository, "commit", "-m", "m")

    def _finish(self, column: str) -> None:
        """Adds what every size has."""
        self._mounted.close()
        self._add(column, "mounting", self._mounted.mount_seconds)
        self._add(column, "peak memory of the mount", [self._mounted.peak_bytes / MB], "MB")
        self._add(column, "stored", [machine.stored_bytes(self._mounted.repository) / MB], "MB")


def _pages_at(path: Path, places: list[int]) -> float:
    """Returns how long reading a page takes, opening the file before the first one included."""
    started = time.perf_counter()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for place in places:
            if len(os.pread(descriptor, PAGE, place)) != PAGE:
                raise RuntimeError(f"{path} ends before {place + PAGE}")
        return (time.perf_counter() - started) / len(places)
    finally:
        os.close(descriptor)


class BytesPart(GrowingPart):
    """One incompressible file: imported, read, changed in place, and written anew with 1 KB more in the middle."""

    kind = "bytes"

    def run(self) -> None:
        """Measures each size that the disk has room for."""
        for size in self._sizes(FILE_BYTES):
            column = f"{size / MB:,.0f} MB"
            self._begin()
            if machine.free_bytes(self._place) < ROOM * size:
                self._bench.note(f"growth: no room for a file of {column}")
                continue
            self._bench.say(f"one file of {column}: import")
            self._import(column, size)
            self._bench.say(f"one file of {column}: reading")
            self._read(column, size)
            self._bench.say(f"one file of {column}: changing")
            self._change(column, size)
            self._finish(column)

    def _import(self, column: str, size: int) -> None:
        source = self._place / "source"
        source.mkdir()
        chance = random.Random(size)
        with (source / "file").open("wb") as file:
            for start in range(0, size, _PIECE_BYTES):
                file.write(chance.randbytes(min(_PIECE_BYTES, size - start)))
        repository = self._mounted.repository
        vfs("init", repository)
        machine.drop_caches()
        took = machine.seconds(vfs, "--repo", repository, "import", source, "-m", "m")
        self._add(column, "import", [took])
        remove_tree(source)

    def _read(self, column: str, size: int) -> None:
        first, others = [], []
        for repetition in range(min(REPETITIONS_MAX, self._bench.plan.repetitions)):
            self._mounted.refresh()
            path = self._mounted.version(1) / "file"
            first.append(_pages_at(path, [0]))
            chance = random.Random(repetition)
            others.append(_pages_at(path, [chance.randrange(size - PAGE) for _ in range(LOOKUPS)]))
        self._add(column, "opening and reading the first 4 KB, cold", first)
        self._add(column, "4 KB at random, cold, each", others)

    def _change(self, column: str, size: int) -> None:
        path = self._mounted.working() / "file"
        with path.open("r+b", buffering=0) as file:
            file.seek(size // 3)
            file.write(random.Random(1).randbytes(PAGE))
        self._add(column, "commit of 4 KB written in place", [self._commit()])
        inserted = random.Random(2).randbytes(KIB)
        took = machine.seconds(insert_bytes, path, inserted)
        self._add(column, "writing it anew with 1 KB more in the middle", [took])
        self._add(column, "commit of that", [self._commit()])
        for title, newer in (("4 KB written in place", 2), ("1 KB more in the middle", 3)):
            self._add(column, f"`vfs diff` of {title}", [self._diff(newer - 1, newer)])

    def _diff(self, older: int, newer: int) -> float:
        command = [str(PROGRAM), "--repo", str(self._mounted.repository), "diff", f"v{older}", f"v{newer}"]
        started = time.perf_counter()
        status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        took = time.perf_counter() - started
        if status != 1:
            raise RuntimeError(f"diff of two versions exited with {status}")
        return took


class DirectoryPart(GrowingPart):
    """One directory of small files: the first names, one name, all names, one more and one less."""

    kind = "directory"

    def run(self) -> None:
        """Measures each size."""
        for count in self._sizes(DIRECTORY_FILES):
            column = f"{count:,} files"
            self._begin()
            self._bench.say(f"one directory of {column}")
            make_directory(self._mounted.repository, b"directory", count)
            self._read(column, count)
            self._change(column, count)
            self._finish(column)

    def _read(self, column: str, count: int) -> None:
        found: dict[str, list[float]] = {}
        path = self._mounted.version(1) / "directory"
        for repetition in range(min(REPETITIONS_MAX, self._bench.plan.repetitions)):
            chance = random.Random(repetition)
            names = [os.fsencode(path) + b"/" + file_name(chance.randrange(count)) for _ in range(LOOKUPS)]
            self._mounted.refresh()
            found.setdefault("`ls -U`, the first ten names, cold", []).append(machine.seconds(_first_names, path))
            self._mounted.refresh()
            took = machine.seconds(_look_up, names)
            found.setdefault("one name, cold, each", []).append(took / LOOKUPS)
            took = machine.seconds(_look_up, [name + b"-absent" for name in names])
            found.setdefault("a name that is not there, each", []).append(took / LOOKUPS)
            self._mounted.refresh()
            took = machine.seconds(_count, path, count)
            found.setdefault("all names, cold, each", []).append(took / count)
        for title, values in found.items():
            self._add(column, title, values)

    def _change(self, column: str, count: int) -> None:
        self._mounted.refresh()
        path = self._mounted.working() / "directory"
        took = machine.seconds((path / "one more").write_bytes, b"new")
        self._add(column, "creating one file", [took])
        self._add(column, "commit of that", [self._commit()])
        took = machine.seconds(os.unlink, os.fsencode(path) + b"/" + file_name(count // 2))
        self._add(column, "deleting one file", [took])
        self._add(column, "commit of the deletion", [self._commit()])
        self._add(column, "all names of the working layer, each", [machine.seconds(_count, path, count) / count])


def _first_names(path: Path) -> None:
    with subprocess.Popen(["ls", "-U", str(path)], stdout=subprocess.PIPE) as listing:
        subprocess.run(["head"], stdin=listing.stdout, stdout=subprocess.DEVNULL, check=True)
        assert listing.stdout is not None
        listing.stdout.close()


def _look_up(names: list[bytes]) -> None:
    for name in names:
        os.path.lexists(name)


def _count(path: Path, count: int) -> None:
    with os.scandir(path) as entries:
        found = sum(1 for _ in entries)
    if found != count:
        raise RuntimeError(f"{path} shows {found} names of {count}")


class SparsePart(GrowingPart):
    """One file of holes with a thousand pages of data: written through a mount, read, exported."""

    kind = "sparse"

    def run(self) -> None:
        """Measures each size."""
        for size in self._sizes(SPARSE_BYTES):
            column = f"{size / MB:,.0f} MB"
            self._begin()
            self._bench.say(f"one sparse file of {column}")
            vfs("init", self._mounted.repository)
            self._mounted.mount()
            places = [number * (size // SPARSE_PAGES) // PAGE * PAGE for number in range(SPARSE_PAGES)]
            path = self._mounted.working() / "sparse"
            took = machine.seconds(_write_pages, path, size, places)
            self._add(column, f"writing {SPARSE_PAGES:,} pages of 4 KB, synced", [took])
            self._add(column, "commit", [self._commit()])
            self._read(column, size, places)
            self._export(column, size)
            self._finish(column)

    def _read(self, column: str, size: int, places: list[int]) -> None:
        found: dict[str, list[float]] = {}
        for repetition in range(min(REPETITIONS_MAX, self._bench.plan.repetitions)):
            self._mounted.refresh()
            path = self._mounted.version(1) / "sparse"
            found.setdefault("`stat`", []).append(machine.seconds(os.stat, path))
            if path.stat().st_size != size:
                raise RuntimeError(f"{path} has {path.stat().st_size} bytes of {size}")
            written = random.Random(repetition).sample(places, LOOKUPS)
            found.setdefault("4 KB of data at random, cold, each", []).append(_pages_at(path, written))
            holes = [place + size // SPARSE_PAGES // 2 // PAGE * PAGE for place in written]
            found.setdefault("4 KB of a hole at random, each", []).append(_pages_at(path, holes))
        for title, values in found.items():
            self._add(column, title, values)

    def _export(self, column: str, size: int) -> None:
        out = self._place / "out"
        took = machine.seconds(vfs, "--repo", self._mounted.repository, "export", "v1", out)
        self._add(column, "export", [took])
        if (out / "sparse").stat().st_size != size:
            raise RuntimeError("the exported file has another size")
        self._add(column, "exported, on disk", [machine.stored_bytes(out) / MB], "MB")


def _write_pages(path: Path, size: int, places: list[int]) -> None:
    chance = random.Random(1)
    with path.open("wb", buffering=0) as file:
        os.ftruncate(file.fileno(), size)
        for place in places:
            os.pwrite(file.fileno(), chance.randbytes(PAGE), place)
        os.fsync(file.fileno())
