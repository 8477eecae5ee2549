"""One run of the benchmark: makes the data, the repositories and the mounts, runs every workload, fills the report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from benchmarks import data, machine
from benchmarks.contest import MOUNT_TITLE, Contest
from benchmarks.loading import LoadingPart
from benchmarks.peers import Peer
from benchmarks.readers import TOGETHER
from benchmarks.report import Figure, Report
from benchmarks.subjects import Empty, Mounted, Plain, Subject, copy_tree, remove_tree, vfs
from benchmarks.workloads import DOCUMENT_READS, READS, WRITES, Workload
from benchmarks.writing import WritingPart

MB = 1e6
IMPORTS_MEASURED = 3


@dataclass(frozen=True)
class Plan:
    """How much is measured, how often."""

    scale: float
    repetitions: int
    versions: int
    peers: Sequence[type[Peer]] = ()
    """Other people's programs that do the same work, in the parts `tree` and `documents`."""


class Session:
    """Owns the scratch directory and everything mounted in it."""

    def __init__(self, plan: Plan, scratch: Path) -> None:
        self._plan = plan
        self._scratch = scratch
        self._sizes = data.Sizes.scaled(plan.scale)
        self._subjects: list[Subject] = []
        sizes = self._sizes
        self._contest = Contest(scratch / "peers", sizes, plan.versions, self._figure, self._say)
        self.report = Report(
            machine=machine.machine_line() + f", {machine.filesystem_of(scratch)}",
            commit=_commit(),
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            scale=plan.scale,
            data=f"{sizes.images:,} images of 10 to 150 KB, {sizes.tables} tables of {sizes.table_bytes / MB:.0f} MB, "
            f"{sizes.documents:,} documents of about 1 KB",
            load=[machine.load_line()],
        )

    def run(self, parts: Sequence[str]) -> None:
        """Runs the named parts: `tree`, `documents`, `writing`, `loading`."""
        if "tree" in parts:
            self._run_tree()
        if "documents" in parts:
            self._run_documents()
        if "writing" in parts:
            self._run_writing()
        if "loading" in parts:
            self._run_loading()
        self.report.load.append(machine.load_line())

    def close(self) -> None:
        """Unmounts everything."""
        for subject in self._subjects:
            subject.close()
        self._contest.finish()

    def _run_tree(self) -> None:
        source, repository = self._scratch / "source", self._scratch / "repository"
        source.mkdir()
        self._say("making images and tables")
        data.make_images_and_tables(source, self._sizes)
        self._first_import("first version", source, repository)
        first = self._scratch / "first"
        shutil.copytree(source, first)
        stored = [machine.stored_bytes(repository)]
        self._later_imports(source, repository, stored)
        mounted, plain = Mounted(repository, self._scratch / "mount"), Plain(first, self._scratch / "working")
        empty = Empty(first, self._scratch / "empty")
        self._subjects += [mounted, empty]
        self._contest.save_versions(self._plan.peers, first, "first version")
        for workload in (*READS, *TOGETHER):
            self._measure(workload, [plain, empty, *self._contest.mounting(), mounted])
        self._diff(plain, mounted, source)
        self._contest.diff()
        self._memory(mounted, "memory of the daemon at its peak, reading")
        self._contest.finish("memory of the daemon at its peak, reading")
        self._commits(mounted)
        self._writes(Plain(first, first), empty, mounted)
        mounted.close()
        self._memory(mounted, "memory of the daemon at its peak, with commits and writes")
        self._figure("mount", MOUNT_TITLE, "s", {"vfs": mounted.mount_seconds})
        self.close()
        for path in (source, first, repository):
            remove_tree(path)

    def _run_documents(self) -> None:
        source, repository = self._scratch / "documents", self._scratch / "documents-repository"
        source.mkdir()
        self._say("making documents")
        data.make_documents(source, self._sizes)
        self._first_import("small files, first version", source, repository)
        sizes = {"plain": machine.stored_bytes(source) / MB, "vfs": machine.stored_bytes(repository) / MB}
        plain = Plain(source, source)
        self._figure(
            "small-files-first-version-stored",
            "small files, first version, stored",
            "MB",
            {plain.name: [sizes["plain"]], "vfs": [sizes["vfs"]]},
        )
        mounted, empty = Mounted(repository, self._scratch / "mount"), Empty(source, self._scratch / "empty")
        self._subjects += [mounted, empty]
        title = "small files, memory of the daemon at its peak"
        self._contest.save_versions(self._plan.peers, source, "small files, first version", later=False)
        for workload in DOCUMENT_READS:
            self._measure(workload, [plain, empty, *self._contest.mounting(), mounted])
        self._contest.finish(title)
        self.close()
        self._memory(mounted, title)

    def _run_writing(self) -> None:
        scratch = self._scratch / "writing"
        part = WritingPart(self._plan.scale, self._plan.repetitions, scratch, self.report)
        try:
            part.run(self._say)
        finally:
            part.close()
        remove_tree(scratch)

    def _run_loading(self) -> None:
        part = LoadingPart(self._sizes, self._plan.repetitions, self._scratch / "loading", self.report)
        try:
            part.run(self._say)
        finally:
            part.close()

    def _measure(
        self, workload: Workload, subjects: Sequence[Subject], root: Callable[[Subject], Path] | None = None
    ) -> None:
        """Runs a workload on each subject in turn, so that what else the machine does falls on all of them."""
        self._say(workload.title)
        find_root = root or (lambda subject: subject.tree())
        values: dict[str, list[float]] = {subject.name: [] for subject in subjects}
        for repetition in range(self._plan.repetitions):
            for subject in subjects:
                if workload.cold or repetition == 0:
                    subject.refresh()
                if not workload.cold:
                    workload.run(find_root(subject), self._sizes, repetition)
                values[subject.name].append(workload.run(find_root(subject), self._sizes, repetition))
        self._figure(workload.name, workload.title, workload.unit, values, higher=workload.higher_is_better)

    def _first_import(self, title: str, source: Path, repository: Path) -> None:
        """Times `vfs import` into a new repository beside `cp -r`, each from a cold source, and leaves a repository."""
        copy = self._scratch / "copy"
        name = machine.filesystem_of(source)
        values: dict[str, list[float]] = {name: [], "vfs": []}
        for _ in range(min(IMPORTS_MEASURED, self._plan.repetitions)):
            self._say(title)
            remove_tree(copy)
            machine.drop_caches()
            values[name].append(machine.seconds(lambda: copy_tree(source, copy)))
            remove_tree(copy)
            remove_tree(repository)
            vfs("init", repository)
            machine.drop_caches()
            values["vfs"].append(machine.seconds(lambda: vfs("--repo", repository, "import", source, "-m", "first")))
        self._figure(title.replace(" ", "-").replace(",", ""), f"{title}, from a cold source", "s", values)

    def _later_imports(self, source: Path, repository: Path, stored: list[int]) -> None:
        """Changes the source a little and imports it, once for each version from the second on."""
        times = []
        for version in range(2, self._plan.versions + 1):
            self._say(f"version {version}")
            data.Change.of(version, self._sizes).apply(source)
            times.append(machine.seconds(lambda: vfs("--repo", repository, "import", source, "-m", "later")))
            stored.append(machine.stored_bytes(repository))
        self._figure("later-import", "later version by import", "s", {"vfs": times})
        each = [(after - before) / MB for before, after in pairwise(stored)]
        self._figure("first-version-stored", "first version, stored", "MB", {"vfs": [stored[0] / MB]})
        self._figure("stored-all", f"stored, {self._plan.versions} versions", "MB", {"vfs": [stored[-1] / MB]})
        self._figure("stored-each", "stored, each later version", "MB", {"vfs": each})

    def _diff(self, plain: Plain, mounted: Mounted, newest: Path) -> None:
        """Compares the first version and the newest with `diff -rq`."""
        values: dict[str, list[float]] = {plain.name: [], "vfs": []}
        pairs = {plain.name: (plain.tree(), newest), "vfs": (mounted.tree(), mounted.mountpoint / "@latest/.")}
        for _ in range(self._plan.repetitions):
            for subject in (plain, mounted):
                self._say("diff")
                subject.refresh()
                left, right = pairs[subject.name]
                started = time.perf_counter()
                finished = subprocess.run(["diff", "-rq", left, right], capture_output=True, check=False)
                values[subject.name].append(time.perf_counter() - started)
                if finished.returncode != 1:
                    raise RuntimeError(f"diff -rq {left} {right}: {finished.stderr.decode(errors='replace')}")
        self._figure("diff", "diff -rq of the first and the newest version, cold", "s", values)

    def _commits(self, mounted: Mounted) -> None:
        """Makes the usual change in the working layer and commits it."""
        mounted.refresh()
        times = []
        for repetition in range(self._plan.repetitions):
            self._say("commit from the working layer")
            data.Change.of(1_000 + repetition, self._sizes).apply(mounted.working())
            times.append(machine.seconds(lambda: vfs("--repo", mounted.repository, "commit", "-m", "work")))
        self._figure("later-commit", "later version by commit of the working layer", "s", {"vfs": times})

    def _writes(self, plain: Plain, empty: Empty, mounted: Mounted) -> None:
        for workload in WRITES:
            self._measure(workload, [plain, empty, mounted], lambda subject: subject.working())

    def _memory(self, mounted: Mounted, title: str) -> None:
        mounted.close()
        self._figure(title.replace(" ", "-"), title, "MB", {"vfs": [mounted.peak_bytes / MB]})

    def _figure(
        self, name: str, title: str, unit: str, values: dict[str, list[float]], *, higher: bool = False
    ) -> None:
        for subject, found in values.items():
            if found:
                self.report.add(Figure(name, title, subject, unit, higher, found))

    def _say(self, what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _commit() -> str:
    """Returns the short id of the commit that the source is at, with a plus where it is changed."""
    top = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(top), "describe", "--always", "--dirty=+"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or os.environ.get("BENCH_COMMIT", "unknown")
