"""The part `tree`: images and tables in some versions; saving, reading, comparing and committing them."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from benchmarks import data, machine
from benchmarks.bench import MB, Bench
from benchmarks.contest import (
    DIFF,
    DIFF_NEIGHBOURS,
    LATER,
    MOUNT,
    STORED_EACH,
    Contest,
    first_rows,
    seconds_of_diff,
    stored_all,
)
from benchmarks.readers import TOGETHER
from benchmarks.report import Row
from benchmarks.subjects import Empty, Mounted, Plain, ReadOnly, copy_tree, remove_tree, vfs
from benchmarks.workloads import READS, WRITES

IMPORTS_MEASURED = 3
FIRST = ("first-version", "first version")
MEMORY_READING = Row("memory-reading", "peak memory of the daemon, reading", "MB")
MEMORY_WRITING = Row("memory-writing", "peak memory of the daemon, commits and writes", "MB")
COMMIT = Row("later-commit", "later version by commit of the working layer", "s")
ONE_MORE_COMMIT = Row("one-more-commit", "from the end of a commit until the mount shows the version", "s")
ONE_MORE_IMPORT = Row("one-more-import", "from the end of an import until the mount shows the version", "s")
SHOWN_WITHIN_S = 60
_POLLED_EVERY_S = 0.001


class TreePart:
    """Two copies of the source, its first version and its newest, and a repository of all versions."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._place = bench.scratch / "tree"
        self._source, self._first = self._place / "source", self._place / "first"
        self._repository = self._place / "repository"
        self._mounted = Mounted(self._repository, self._place / "mount")
        self._read_only = ReadOnly(self._repository, self._place / "read-only")
        self._empty = Empty(self._first, self._place / "empty")
        self._contest = Contest(bench)

    def run(self) -> None:
        """Measures all of it."""
        bench, mounted = self._bench, self._mounted
        self._source.mkdir()
        bench.say("making images and tables")
        data.make_images_and_tables(self._source, bench.sizes)
        first_import(bench, FIRST, self._source, self._repository)
        shutil.copytree(self._source, self._first)
        before_newest = self._later_imports()
        plain = Plain(self._first, self._first)
        self._contest.save_versions(self._first, *FIRST)
        for workload in (*READS, TOGETHER):
            bench.measure(workload, [plain, self._empty, *self._contest.mounting(), mounted, self._read_only])
        self._diffs(plain, before_newest)
        self._contest.diff()
        for mount in (mounted, self._read_only):
            mount.close()
            bench.add(MEMORY_READING, {mount.name: [mount.peak_bytes / MB]})
        self._contest.finish(MEMORY_READING, MOUNT)
        self._commits()
        self._one_more_import()
        for workload in WRITES:
            bench.measure(workload, [plain, self._empty, mounted], lambda subject: subject.working())
        mounted.close()
        bench.add(MEMORY_WRITING, {mounted.name: [mounted.peak_bytes / MB]})
        bench.add(MOUNT, {mounted.name: mounted.mount_seconds})

    def close(self) -> None:
        """Unmounts and removes everything."""
        with ExitStack() as left:
            left.callback(remove_tree, self._place)
            for each in (self._contest.discard, self._mounted.close, self._read_only.close, self._empty.close):
                left.callback(each)

    def _later_imports(self) -> Path:
        """Imports the source with a small change for each version from the second on; returns the newest but one."""
        bench = self._bench
        times, stored = [], [machine.stored_bytes(self._repository)]
        before_newest = self._place / "before-newest"
        for version in range(2, bench.plan.versions + 1):
            bench.say(f"version {version}")
            if version == bench.plan.versions:
                copy_tree(self._source, before_newest)
            data.Change.of(version, bench.sizes).apply(self._source)
            times.append(machine.seconds(lambda: vfs("--repo", self._repository, "import", self._source, "-m", "m")))
            stored.append(machine.stored_bytes(self._repository))
        name = self._mounted.name
        bench.add(LATER, {name: times})
        bench.add(stored_all(bench.plan.versions), {name: [stored[-1] / MB]})
        bench.add(STORED_EACH, {name: [(after - before) / MB for before, after in pairwise(stored)]})
        return before_newest

    def _diffs(self, plain: Plain, before_newest: Path) -> None:
        """Compares the first version and the newest, then the newest and its neighbour, with `diff -rq`."""
        newest = self._bench.plan.versions
        for row, number, tree in ((DIFF, 1, self._first), (DIFF_NEIGHBOURS, newest - 1, before_newest)):
            values: dict[str, list[float]] = {plain.name: [], self._mounted.name: []}
            for _ in range(self._bench.plan.repetitions):
                self._bench.say(row.title)
                plain.refresh()
                values[plain.name].append(seconds_of_diff(tree, self._source))
                self._mounted.refresh()
                both = self._mounted.version(number), self._mounted.version(newest)
                values[self._mounted.name].append(seconds_of_diff(*both))
            self._bench.add(row, values)
        remove_tree(before_newest)

    def _commits(self) -> None:
        """Makes the usual change in the working layer and commits it."""
        mounted, newest = self._mounted, self._bench.plan.versions
        mounted.refresh()
        times, until_shown = [], []
        for repetition in range(self._bench.plan.repetitions):
            self._bench.say("commit from the working layer")
            data.Change.of(1_000 + repetition, self._bench.sizes).apply(mounted.working())
            times.append(machine.seconds(lambda: vfs("--repo", mounted.repository, "commit", "-m", "work")))
            until_shown.append(_seconds_until(mounted.version(newest + repetition + 1)))
        self._bench.add(COMMIT, {mounted.name: times})
        self._bench.add(ONE_MORE_COMMIT, {mounted.name: until_shown})

    def _one_more_import(self) -> None:
        """Imports beside a mount, which is to show the version."""
        mounted = self._mounted
        first = self._bench.plan.versions + self._bench.plan.repetitions + 1
        until_shown = []
        for repetition in range(self._bench.plan.repetitions):
            self._bench.say("import beside a mount")
            data.Change.of(2_000 + repetition, self._bench.sizes).apply(self._source)
            vfs("--repo", self._repository, "import", self._source, "-m", "beside a mount")
            until_shown.append(_seconds_until(mounted.version(first + repetition)))
        self._bench.add(ONE_MORE_IMPORT, {mounted.name: until_shown})


def _seconds_until(path: Path) -> float:
    started = time.perf_counter()
    while not os.path.exists(path):
        if time.perf_counter() - started > SHOWN_WITHIN_S:
            raise RuntimeError(f"the mount does not show {path}")
        time.sleep(_POLLED_EVERY_S)
    return time.perf_counter() - started


def first_import(bench: Bench, named: tuple[str, str], source: Path, repository: Path) -> None:
    """Times `vfs import` into a new repository beside `cp -r`, each from a cold source, and leaves a repository."""
    took, stored = first_rows(*named)
    copy = repository.with_name("copy")
    name = machine.filesystem_of(source)
    values: dict[str, list[float]] = {name: [], "vfs": []}
    for _ in range(min(IMPORTS_MEASURED, bench.plan.repetitions)):
        bench.say(named[1])
        machine.drop_caches()
        values[name].append(machine.seconds(lambda: copy_tree(source, copy)))
        remove_tree(copy)
        remove_tree(repository)
        vfs("init", repository)
        machine.drop_caches()
        values["vfs"].append(machine.seconds(lambda: vfs("--repo", repository, "import", source, "-m", "first")))
    bench.add(took, values)
    sizes = {name: machine.stored_bytes(source), "vfs": machine.stored_bytes(repository)}
    bench.add(stored, {subject: [size / MB] for subject, size in sizes.items()})
