"""The part `documents`: very many small files, saved once and read."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks import data
from benchmarks.bench import MB, Bench
from benchmarks.contest import Contest
from benchmarks.report import Row
from benchmarks.subjects import Empty, Mounted, Plain, ReadOnly, remove_tree
from benchmarks.tree import first_import
from benchmarks.workloads import DOCUMENT_READS

FIRST = ("small-files-first-version", "small files, first version")
MEMORY = Row("memory-documents", "small files, peak memory of the daemon", "MB")
MOUNT = Row("small-files-mount", "small files, time until an old version is readable", "s")


class DocumentsPart:
    """The documents and a repository of them."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._place = bench.scratch / "documents"
        self._source, self._repository = self._place / "source", self._place / "repository"
        self._mounted = Mounted(self._repository, self._place / "mount")
        self._read_only = ReadOnly(self._repository, self._place / "read-only")
        self._empty = Empty(self._source, self._place / "empty")
        self._contest = Contest(bench)

    def run(self) -> None:
        """Measures all of it."""
        bench, mounted = self._bench, self._mounted
        self._source.mkdir()
        bench.say("making documents")
        data.make_documents(self._source, bench.sizes)
        first_import(bench, FIRST, self._source, self._repository)
        plain = Plain(self._source, self._source)
        self._contest.save_versions(self._source, *FIRST, later=False)
        for workload in DOCUMENT_READS:
            bench.measure(workload, [plain, self._empty, *self._contest.mounting(), mounted, self._read_only])
        for mount in (mounted, self._read_only):
            mount.close()
            bench.add(MEMORY, {mount.name: [mount.peak_bytes / MB]})
            bench.add(MOUNT, {mount.name: mount.mount_seconds})
        self._contest.finish(MEMORY, MOUNT)

    def close(self) -> None:
        """Unmounts and removes everything."""
        with ExitStack() as left:
            left.callback(remove_tree, self._place)
            for each in (self._contest.discard, self._mounted.close, self._read_only.close, self._empty.close):
                left.callback(each)
