"""What records of runs cost: the question what a bad file has spoiled, over many runs, and recording of opens.

Records are written by the writer of records, from recordings as a daemon leaves them. Recording is measured in turns
with and without, on one mount: the same program opens the same files of a version, warm.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.report import PROVENANCE, Row
from benchmarks.subjects import Mounted, remove_tree, vfs
from vfs.model.run_record import Output, RunRecord, Source
from vfs.repo.lineage.targets import FileTarget
from vfs.repo.lineage.uses import used_by
from vfs.repo.paths import run_tables
from vfs.repo.repository import Repository
from vfs.repo.runs.records import begin_run, find_run
from vfs.repo.runs.run_event_file import Event, RecordingFile, recording_path
from vfs.repo.runs.run_tables import RunTables
from vfs.repo.runs.sealing import Ending, seal
from vfs.store.lmdb_tables import discard

_DIRECTORIES = 100
_VERSIONS = 10
_OPENS = 20_000
_TURNS = 5
_PROGRAM = """
import os, sys, time
paths = [os.path.join(above, name) for above, _, names in os.walk(sys.argv[1]) for name in names]
tasks = "/proc/" + sys.argv[2] + "/task"
def cpu(): return sum(int(open(f"{tasks}/{task}/schedstat").read().split()[0]) for task in os.listdir(tasks)) / 1e9
def read():
    for path in paths: os.close(os.open(path, os.O_RDONLY))
read()
before, began = cpu(), time.perf_counter()
read()
print(time.perf_counter() - began, cpu() - before, len(paths))
"""


class ProvenancePart:
    """Asks for the impact of one file, and opens files with and without a recording."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._place = bench.scratch / PROVENANCE

    def run(self) -> None:
        """Makes the repository and measures."""
        self._place.mkdir()
        scale = self._bench.plan.scale
        files, runs = max(1000, int(_OPENS * min(1.0, 10 * scale))), max(100, int(1000 * min(1.0, 10 * scale)))
        repository = self._repository(files)
        self._recording(repository, files)
        self._impact(repository, files, runs)

    def close(self) -> None:
        """Removes everything."""
        remove_tree(self._place)

    def _repository(self, files: int) -> Path:
        self._bench.say(f"{_VERSIONS} versions of {files:,} files")
        source, path = self._place / "source", self._place / "repository"
        for number in range(files):
            file = source / f"d{number % _DIRECTORIES:02}" / f"f{number:05}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"%d\n" % number * 100)
        vfs("init", path)
        for version in range(_VERSIONS):
            (source / "d00" / f"f{version * _DIRECTORIES:05}").write_bytes(b"%d changed\n" % version * 100)
            vfs("--repo", path, "import", source, "-m", f"version {version + 1}")
        return path

    def _impact(self, repository: Path, files: int, runs: int) -> None:
        self._bench.say(f"{runs:,} records of runs that opened half of {files:,} files or more")
        bad = b"d07/f00007"
        with Repository.open(repository) as repo:
            paths = [b"d%02d/f%05d" % (number % _DIRECTORIES, number) for number in range(files)]
            for number in range(runs):
                # Each run misses other files: no two manifests are the same, and half of the runs miss the bad one.
                opened = [path for place, path in enumerate(paths) if path != bad and place % (number + 2)]
                _record(repo, number, [*opened, bad] if number % 2 else opened)
            discard(run_tables(repo.path))
            started = time.perf_counter()
            RunTables.open(repo).close()
            built = time.perf_counter() - started
            values = []
            users = 0
            for _ in range(self._bench.plan.repetitions):
                started = time.perf_counter()
                with RunTables.open(repo) as tables:
                    graph = used_by(repo, tables, FileTarget(bad))
                values.append(time.perf_counter() - started)
                users = len(graph.nodes) - 1
            self._bench.note(f"{users:,} of {runs:,} runs used the file")
        words = f"{runs:,} runs of {files:,} files"
        self._bench.add(
            Row("provenance-impact", f"what one file has spoiled, {words}", "s"), {"vfs": values}, PROVENANCE
        )
        self._bench.add(Row("provenance-tables", f"tables made again, {words}", "s"), {"vfs": [built]}, PROVENANCE)

    def _recording(self, repository: Path, files: int) -> None:
        mounted = Mounted(repository, self._place / "mount")
        mounted.mount()
        try:
            daemon = mounted.daemon()
            figures: dict[str, list[float]] = {"wall": [], "cpu": [], "wall-recorded": [], "cpu-recorded": []}
            for _ in range(_TURNS * self._bench.plan.repetitions):
                for name, command in (("", []), ("-recorded", [sys.executable, "-m", "vfs", "run", "--"])):
                    words = [sys.executable, "-I", "-c", _PROGRAM, str(mounted.working()), str(daemon)]
                    whole = [*command, *words]
                    done = subprocess.run(whole, capture_output=True, text=True, check=True, cwd=self._place)
                    wall, cpu, _ = done.stdout.split()
                    figures[f"wall{name}"].append(float(wall))
                    figures[f"cpu{name}"].append(float(cpu))
        finally:
            mounted.close()
        for name, title in (("wall", "warm opens, wall"), ("cpu", "warm opens, the daemon's processor time")):
            for ending, state in (("", "not recorded"), ("-recorded", "recorded")):
                row = Row(f"provenance-{name}{ending}", f"{files:,} {title}, {state}", "s")
                self._bench.add(row, {"vfs": figures[f"{name}{ending}"]}, PROVENANCE)
            ratio = statistics.median(figures[f"{name}-recorded"]) / statistics.median(figures[name]) - 1
            least = min(figures[f"{name}-recorded"]) / min(figures[name]) - 1
            self._bench.note(f"recording adds {ratio:+.1%} to {title} (medians), {least:+.1%} (least)")


def _record(repo: Repository, number: int, opened: list[bytes]) -> None:
    run_id = f"{number:016x}"
    version = repo.resolve(f"v{number % _VERSIONS + 1}")
    source = Source("main", version.commit.number, version.id.hex())
    start_ns = version.commit.time_ns + number
    record = RunRecord(
        id=run_id, number=1, command=("train", str(number)), branch="main", is_observed=True, sources=(source,),
        start_ns=start_ns,
    )  # fmt: skip
    begin_run(repo, record, {}, before=None, author="ann")
    file = RecordingFile(recording_path(repo.path, run_id))
    file.append([*(Event("read", path) for path in opened), Event("end")])
    file.close()
    model = Output(f"/models/{number}.pt", "outside", 10**8, f"{number:064x}", f"{number:064x}")
    ending = Ending(exit_status=0, end_ns=start_ns + 1, outputs=[model], metrics={"accuracy": 0.9})
    seal(repo, find_run(repo, run_id), ending, "ann")
