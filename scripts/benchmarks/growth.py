"""What grows with the number of files, versions and branches: each is made ten- and a hundredfold.

Repositories are made through the store, as commits make them but without a mount: a commit, an index entry and a line
of the log for each version, small changes in places that are spread over the tree. Each question is asked of a fresh
process or with fresh caches, in turns, and the median counts.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.bench import MB, Bench
from benchmarks.report import GROWTH, Row
from benchmarks.subjects import Mounted, remove_tree, vfs
from vfs.history.diff import diff_trees
from vfs.model.ids import CommitId, chunk_id
from vfs.model.objects import Commit, Entry, Form, Kind, Version
from vfs.overlay.overlay import Overlay
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.merge import merge
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import gc
from vfs.repo.retention.policy import Rules
from vfs.store.object_store import ObjectSink
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import BRANCHES, TAGS, Operation, RefChange
from vfs.store.trees.directories import Directory, edit_directory, find_entry

REPETITIONS_MAX = 2
CACHE_BYTES = 16 << 20
"""Small, so that nothing is quick only because all of it is in memory."""
_FILES_IN_DIRECTORY = 1000
_FILES_AT_ONCE = 50_000
_FLUSH_VERSIONS = 500
_LOOKUPS = 200
_DAY_NS = 24 * 3600 * 10**9


@dataclass(frozen=True)
class Shape:
    """How much there is of each, and what its column is called."""

    name: str
    files: int
    versions: int
    branches: int


def shapes(scale: float) -> list[Shape]:
    """Returns the base, each of the three ten- and (but for branches) a hundredfold, and all of them."""
    files, versions, branches = max(100, int(10_000 * scale)), max(20, int(100 * scale)), 10
    return [
        Shape(f"{files:,} files, {versions:,} versions, {branches} branches", files, versions, branches),
        Shape("files x 10", 10 * files, versions, branches),
        Shape("files x 100", 100 * files, versions, branches),
        Shape("versions x 10", files, 10 * versions, branches),
        Shape("versions x 100", files, 100 * versions, branches),
        Shape("branches x 10", files, versions, 10 * branches),
        Shape("all of these", 100 * files, 100 * versions, 10 * branches),
    ]


# Making repositories.


def make(path: Path, shape: Shape) -> None:
    """Makes a repository of a shape: a linear history, then branches of one commit each from places along it."""
    with Repository.init(path, cache_bytes_max=256 << 20) as repo:
        versions = _history(repo, shape)
        chance = random.Random(1)
        with repo.write_lock(), ObjectWriter(repo.store) as writer:
            heads = []
            for number in range(shape.branches):
                below = chance.choice(versions)
                made = Commit(
                    below.commit.number + 1,
                    (below.id,),
                    _changed(writer, below.commit.root, chance, number),
                    b"",
                    below.commit.time_ns,
                    "a",
                    f"branch {number}",
                )
                heads.append(writer.put_commit(made))
            writer.flush()
            for number, head in enumerate(heads):
                _move(repo, "branch", RefChange(f"{BRANCHES}b{number:03}", "", head.hex()))
            for number in range(0, len(versions), 100):
                _move(repo, "tag", RefChange(f"{TAGS}t{number}", "", versions[number].id.hex()))


def _history(repo: Repository, shape: Shape) -> list[Version]:
    chance = random.Random(2)
    versions: list[Version] = []
    start_ns = time.time_ns() - shape.versions * _DAY_NS // 24
    head = ""
    with repo.write_lock(), ObjectWriter(repo.store) as writer:
        root = _tree(writer, shape.files)
        for number in range(1, shape.versions + 1):
            if number > 1:
                root = _changed(writer, root, chance, number)
            parents = (versions[-1].id,) if versions else ()
            time_ns = start_ns + number * _DAY_NS // 24
            made = Commit(number, parents, root, b"", time_ns, "ann@lab", f"version {number}")
            versions.append(Version(CommitId(writer.put_commit(made)), made))
            if number % _FLUSH_VERSIONS == 0 or number == shape.versions:
                writer.flush()
                for version in versions[(number - 1) // _FLUSH_VERSIONS * _FLUSH_VERSIONS :]:
                    _move(repo, "commit", RefChange(f"{BRANCHES}main", head, version.id.hex()))
                    head = version.id.hex()
    return versions


def _move(repo: Repository, kind: str, change: RefChange) -> None:
    repo.refs.move(Operation(kind=kind, time_ns=time.time_ns(), author="a", refs=(change,)))


def _file(name: bytes, data: bytes) -> tuple[Entry, bytes]:
    return Entry(name, Kind.FILE, 0o644, 0, 0, 10**18, len(data), chunk_id(data), Form.TINY), data


def make_directory(path: Path, name: bytes, count: int) -> None:
    """Makes a repository of one version, with one directory of so many small files."""
    with (
        Repository.init(path, cache_bytes_max=256 << 20) as repo,
        repo.write_lock(),
        ObjectWriter(repo.store) as writer,
    ):
        inner: Entry | None = None
        for start in range(0, count, _FILES_AT_ONCE):
            names = [file_name(number) for number in range(start, min(count, start + _FILES_AT_ONCE))]
            made = edit_directory(writer, inner, {each: _file(each, b"content of " + each) for each in names})
            inner = _directory(name, made)
        assert inner is not None
        root = _directory(b"", edit_directory(writer, None, {name: (inner, b"")}))
        head = writer.put_commit(Commit(1, (), root, b"", time.time_ns(), "a", "one directory"))
        writer.flush()
        _move(repo, "commit", RefChange(f"{BRANCHES}main", "", head.hex()))


def file_name(number: int) -> bytes:
    """Returns the name of a file in the directories that are made here."""
    return b"f%07d" % number


def _directory(name: bytes, made: Directory) -> Entry:
    return Entry(name, Kind.DIR, 0o755, 0, 0, 10**18, made.size, made.content, Form.EMPTY, made.tiny, made.files)


def _tree(sink: ObjectSink, files: int) -> Entry:
    directories: dict[bytes, tuple[Entry, bytes] | None] = {}
    for start in range(0, files, _FILES_IN_DIRECTORY):
        names = [file_name(number) for number in range(start, min(files, start + _FILES_IN_DIRECTORY))]
        made = edit_directory(sink, None, {name: _file(name, b"content of " + name) for name in names})
        name = b"d%04d" % (start // _FILES_IN_DIRECTORY)
        directories[name] = _directory(name, made), b""
    return _directory(b"", edit_directory(sink, None, directories))


def _changed(sink: ObjectSink, root: Entry, chance: random.Random, number: int) -> Entry:
    """Returns the root after one file has changed and one has come."""
    file = chance.randrange(root.files)
    name = b"d%04d" % (file // _FILES_IN_DIRECTORY)
    directory = find_entry(sink, root, name) or find_entry(sink, root, b"d0000")
    assert directory is not None
    old, new = file_name(file), b"n%07d" % number
    edits = {each: _file(each, b"%d of " % number + each) for each in (old, new)}
    made = edit_directory(sink, directory, edits)
    below = Entry(
        directory.name, Kind.DIR, 0o755, 0, 0, number, made.size, made.content, Form.EMPTY, made.tiny, made.files
    )
    made = edit_directory(sink, root, {directory.name: (below, b"")})
    return Entry(b"", Kind.DIR, 0o755, 0, 0, number, made.size, made.content, Form.EMPTY, made.tiny, made.files)


# Questions.


@contextmanager
def _opened(path: Path) -> Iterator[Repository]:
    with Repository.open(path, cache_bytes_max=CACHE_BYTES) as repo:
        yield repo


class Questions:
    """The operations measured on one repository; each returns seconds."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self.path = path
        self._shape = shape
        self.mounted = Mounted(path, path.with_suffix(".mnt"))
        self._mountpoint = self.mounted.mountpoint
        self._chance = random.Random(3)
        self._turn = 0

    def all(self) -> Iterator[tuple[str, Callable[[], float]]]:
        """Yields (name, operation)."""
        yield "`vfs mount`, from the start of the process until it answers", self._mount
        yield f"`stat MNT/@vN`, {_LOOKUPS} numbers, each", self._stat_versions
        yield "`ls MNT/@/versions`, each name", self._list_versions
        yield "a version by number, tag, branch, date and id, each", self._resolve
        yield "`vfs log -n 20`", lambda: self._command("log", "-n", "20")
        yield "`vfs log -n 1 PATH` of a recently changed file", self._log_of_path
        yield "`vfs branch`, each branch", lambda: self._command("branch") / (self._shape.branches + 1)
        yield "diff of adjacent versions", self._diff
        yield "commit of one changed file", self._commit
        yield "create of a branch", self._branch
        yield "merge of one changed file into another", self._merge

    def _mount(self) -> float:
        self.mounted.mount()
        self.mounted.close()
        return self.mounted.mount_seconds[-1]

    def _stat_versions(self) -> float:
        numbers = [self._chance.randint(1, self._shape.versions) for _ in range(_LOOKUPS)]
        return self._in_mount(lambda: [os.stat(self._mountpoint / f"@v{number}") for number in numbers]) / _LOOKUPS

    def _list_versions(self) -> float:
        return self._in_mount(lambda: os.listdir(self._mountpoint / "@/versions")) / self._shape.versions

    def _in_mount(self, ask: Callable[[], object]) -> float:
        self.mounted.mount()
        try:
            return machine.seconds(ask)
        finally:
            self.mounted.close()

    def _command(self, *words: str) -> float:
        return machine.seconds(lambda: vfs("--repo", self.path, *words))

    def _resolve(self) -> float:
        with _opened(self.path) as repo:
            names = []
            for _ in range(_LOOKUPS // 5):
                number = self._chance.randint(1, self._shape.versions)
                version = repo.resolve(f"v{number}")
                day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(version.commit.time_ns // 10**9))
                branch = f"b{self._chance.randrange(self._shape.branches):03}"
                names += [f"v{number}", f"t{(number - 1) // 100 * 100}", branch, day, version.id.hex()[:12]]
        with _opened(self.path) as repo:
            return machine.seconds(lambda: [repo.resolve(name) for name in names]) / len(names)

    def _log_of_path(self) -> float:
        with _opened(self.path) as repo:
            head = repo.resolve(f"v{self._shape.versions}").commit.root
            before = repo.resolve(f"v{self._shape.versions - 5}").commit.root
            path = next(c.path for c in diff_trees(repo.store, before, head) if c.new and c.new.kind == Kind.FILE)
        return self._command("log", "-n", "1", os.fsdecode(path))

    def _diff(self) -> float:
        with _opened(self.path) as repo:
            numbers = self._chance.sample(range(2, self._shape.versions + 1), 10)
            roots = [[repo.resolve(f"v{n}").commit.root for n in (number - 1, number)] for number in numbers]
        with _opened(self.path) as repo:
            return machine.seconds(lambda: [list(diff_trees(repo.store, old, new)) for old, new in roots]) / len(roots)

    def _commit(self) -> float:
        with _opened(self.path) as repo, repo.open_overlay("main") as overlay:
            self._write(overlay)
            return machine.seconds(lambda: commit(repo, overlay, "m", "a"))

    def _branch(self) -> float:
        self._turn += 1
        with _opened(self.path) as repo:
            version = repo.resolve(f"v{self._shape.versions // 2}")
            return machine.seconds(lambda: create_branch(repo, f"made{self._turn}", version, author="a"))

    def _merge(self) -> float:
        self._turn += 1
        name = f"merged{self._turn}"
        with _opened(self.path) as repo:
            create_branch(repo, name, repo.resolve("main"), author="a")
            with repo.open_overlay(name) as overlay:
                self._write(overlay)
                commit(repo, overlay, "theirs", "a")
            with repo.open_overlay("main") as overlay:
                self._write(overlay)
                commit(repo, overlay, "ours", "a")
        with _opened(self.path) as repo, repo.open_overlay("main") as overlay:
            theirs = repo.resolve(name)
            return machine.seconds(lambda: merge(repo, overlay, name, theirs, "a"))

    def _write(self, overlay: Overlay) -> None:
        self._turn += 1
        number = self._chance.randrange(self._shape.files)
        directory = overlay.find(b"d%04d" % (number // _FILES_IN_DIRECTORY))
        assert directory is not None
        overlay.lookup(1, b"d%04d" % (number // _FILES_IN_DIRECTORY))
        ino = overlay.mknod(directory.ino, b"w%07d-%d" % (self._turn, os.getpid()), 0o100644, 0, 0, 0).ino
        overlay.write(ino, 0, b"%d" % self._turn)


def sweep_cost(path: Path) -> dict[str, float]:
    """Returns what a gc costs that keeps every tenth of the history, in a process of its own, by the rows of it."""
    command = [sys.executable, "-m", "benchmarks.growth", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


class GrowthPart:
    """A repository for each shape."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._place = bench.scratch / GROWTH
        self._asked: list[tuple[Shape, Questions]] = []

    def run(self) -> None:
        """Makes the repositories, asks the questions in turns, and sweeps each."""
        bench = self._bench
        self._place.mkdir()
        for number, shape in enumerate(shapes(bench.plan.scale)):
            bench.say(f"making {shape.files:,} files, {shape.versions:,} versions, {shape.branches} branches")
            path = self._place / f"repo{number}"
            make(path, shape)
            self._asked.append((shape, Questions(path, shape)))
        self._ask()
        memory = {shape.name: [questions.mounted.peak_bytes / MB] for shape, questions in self._asked}
        bench.add(Row("growth-memory", "peak memory of a mount", "MB"), memory, GROWTH)
        bench.say("sweeping")
        costs = {shape.name: sweep_cost(questions.path) for shape, questions in self._asked}
        for row in SWEEP:
            bench.add(row, {name: [cost[row.name]] for name, cost in costs.items()}, GROWTH)

    def close(self) -> None:
        """Unmounts and removes everything."""
        with ExitStack() as left:
            left.callback(remove_tree, self._place)
            for _, questions in self._asked:
                left.callback(questions.mounted.close)

    def _ask(self) -> None:
        times: dict[str, dict[str, list[float]]] = {}
        turns = min(REPETITIONS_MAX, self._bench.plan.repetitions)
        for turn in range(turns):
            for shape, questions in self._asked:
                self._bench.say(f"asking {shape.name}, {turn + 1} of {turns}")
                for name, ask in questions.all():
                    times.setdefault(name, {}).setdefault(shape.name, []).append(ask())
        for number, (name, values) in enumerate(times.items()):
            self._bench.add(Row(f"growth-{number}", name, "s"), values, GROWTH)


_SWEEP_TITLE = "`vfs gc --keep-last` a tenth of the versions, once"
SWEEP = (
    Row("growth-gc", _SWEEP_TITLE, "s"),
    Row("growth-gc-objects", "objects that gc examines", ""),
    Row("growth-gc-memory", "peak memory of gc", "MB"),
)


def _sweep(path: Path) -> None:
    with _opened(path) as repo:
        count = repo.refs.version_count("main")
        started = time.monotonic()
        done = gc(repo, Rules(last=count // 10), grace_s=0, undo_s=0)
        seconds = time.monotonic() - started
        objects = repo.index.object_count() + done.objects
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    print(json.dumps(dict(zip([row.name for row in SWEEP], [seconds, objects, peak], strict=True))))


if __name__ == "__main__":
    _sweep(Path(sys.argv[1]))
