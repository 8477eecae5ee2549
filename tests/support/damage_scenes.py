"""Repositories to be damaged: one for each state in which their files can lie there, and what users then look at.

Each scene is built once, in stages; what its files were at each stage is kept, as damage that brings an old one back.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from support.engine import Crash
from support.lines import TEXT, put
from support.steps import Steps
from support.working import Thing
from vfs.control.client import DaemonClient
from vfs.errors import VfsError
from vfs.fuse.inodes import FILE_BITS, CollisionTable
from vfs.history.diff import diff_trees
from vfs.model.chunking import ChunkerParams
from vfs.model.names import join_path
from vfs.model.objects import Entry, Kind, Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.config import Config
from vfs.repo.describe import describe
from vfs.repo.import_directory import import_directory
from vfs.repo.merge import merge
from vfs.repo.merge_conflicts import resolve_conflicts, unresolved
from vfs.repo.merge_state import merge_state
from vfs.repo.notes import described
from vfs.repo.protection import protect
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import forget
from vfs.repo.tags import create_tag
from vfs.repo.undo import last_operation, undo
from vfs.store.packs.index import RETIRED_KEY
from vfs.store.trees.directories import walk
from vfs.store.trees.file_reader import open_file

CACHE_BYTES = 1 << 20
CONFIG = Config(id="0" * 32, chunker=ChunkerParams(min_bytes=256, avg_bytes=1024, max_bytes=4096), tiny_bytes_max=64)
"""Chunks so small that files of some KB have lists."""
LARGE = b"".join(b"%06d a line of a file that has many chunks\n" % number for number in range(400))

Look = dict[str, object]
"""What users see, by what they ask: a value, or the words of an error."""
Build = Callable[[Path, Callable[[], None]], None]
"""Builds a repository; calls the second argument where a stage is reached."""


class Scene(NamedTuple):
    """A repository as it lies there, with older states of it. `is_live`: a process has its working layer open."""

    name: str
    path: Path
    stages: list[Path]
    source: Path
    is_live: bool = False


def opened(path: Path, on_step: Callable[[str], None] | None = None) -> Repository:
    """Opens a repository with a small cache."""
    return Repository.open(path, cache_bytes_max=CACHE_BYTES, on_step=on_step)


def copy_repository(source: Path, target: Path) -> None:
    """Copies a repository that no process has open, its index included: packs, which are immutable, as links."""

    def copy(old: str, new: str) -> None:
        if old.endswith(".pack"):
            os.link(old, new)
        else:
            shutil.copyfile(old, new)

    shutil.copytree(source, target, copy_function=copy)
    for tables in ("index", "cache"):
        data = target / tables / "data.mdb"
        if data.exists():
            # It looks as if begun here: else it would be discarded as a copy.
            (target / tables / "origin").write_text(f"{data.stat().st_ino}\n")


# Building.


def _history(path: Path, stage: Callable[[], None]) -> None:
    """Versions on three branches, a tag, a note, settings, a forgotten version, an import with its cache."""
    source = path.parent / "source"
    source.mkdir(exist_ok=True)
    for number in range(30):
        path_there = source / f"file-{number}"
        path_there.write_bytes(b"%d" % number * (number * 20))
        os.utime(path_there, ns=(0, 1_600_000_000_000_000_000))
    os.utime(source, ns=(0, 1_600_000_000_000_000_000))
    with Repository.init(path, CONFIG, cache_bytes_max=CACHE_BYTES) as repo:
        with repo.open_overlay() as overlay:
            _fill(overlay)
            first = commit(repo, overlay, "first", "a").version
            stage()
            for name, data in (("exp", TEXT.replace(b"two", b"zwei")), ("clean", TEXT)):
                create_branch(repo, name, first, author="a")
                with repo.open_overlay(name) as other:
                    put(other, b"t", data)
                    put(other, b"d/" + name.encode(), b"theirs" * 100)
                    commit(repo, other, "theirs", "b")
            put(overlay, b"t", TEXT.replace(b"two", b"deux"))
            overlay.write(overlay.lookup(overlay.lookup(ROOT_INO, b"d").ino, b"large").ino, 7000, b"changed")
            gone = commit(repo, overlay, "to be forgotten", "a").version
            put(overlay, b"d/ours", b"ours" * 200)
            put(overlay, b"gone", None)
            third = commit(repo, overlay, "third", "a", meta=[("acc", "0.9")]).version
            stage()
        create_tag(repo, "old", first, author="a")
        create_tag(repo, "good", third, author="a")
        protect(repo, "tags/good", author="a")
        forget(repo, [gone], author="a", undo_s=0)
        describe(repo, first, "a", "the first one", {"quality": "low"})
        create_branch(repo, "imported", first, author="a")
        with repo.open_overlay("imported") as overlay:
            import_directory(repo, source, "all", "c", overlay=overlay, jobs=1)
        CollisionTable(repo.work / "inodes").add(b"a key", (1 << FILE_BITS) + 5)
        (path / "tmp").mkdir(exist_ok=True)
        (path / "tmp" / "left-by-a-crash").write_bytes(LARGE[:3000])
        stage()


def _fill(overlay: Overlay) -> None:
    put(overlay, b"t", TEXT)
    put(overlay, b"gone", b"g" * 300)
    put(overlay, b"bin", b"\0" * 100)
    put(overlay, b"d/large", LARGE)
    for number in range(40):
        put(overlay, b"tiny/%02d" % number, b"%d" % number)
    linked = overlay.lookup(ROOT_INO, b"bin").ino
    overlay.link(linked, ROOT_INO, b"also bin")
    overlay.symlink(ROOT_INO, b"link", b"d/large", 1, 2)
    overlay.setxattr(linked, b"user.label", b"cat")


def _change(overlay: Overlay) -> None:
    """Changes of every kind that are not committed, durable at some point."""
    put(overlay, b"t", TEXT + b"uncommitted\n")
    put(overlay, b"new/file", LARGE[:9000])
    overlay.write(overlay.lookup(overlay.lookup(ROOT_INO, b"d").ino, b"large").ino, 100, b"not committed")
    overlay.sync()
    overlay.rename(ROOT_INO, b"tiny", ROOT_INO, b"small")
    put(overlay, b"small/07", b"seven")
    put(overlay, b"bin", b"\1" * 50)
    overlay.setxattr(overlay.lookup(ROOT_INO, b"t").ino, b"user.note", b"x" * 40)
    overlay.symlink(ROOT_INO, b"to", b"new/file", 0, 0)
    overlay.setattr(overlay.lookup(ROOT_INO, b"d").ino, mode=0o700)


def _closed(path: Path, stage: Callable[[], None]) -> None:
    _history(path, stage)
    with opened(path) as repo, repo.open_overlay() as overlay:
        _change(overlay)
        overlay.sync()
        stage()
        put(overlay, b"last", b"l" * 500)


def _killed(path: Path, stage: Callable[[], None]) -> None:
    _history(path, stage)
    with opened(path) as repo:
        overlay = repo.open_overlay()
        _change(overlay)
        stage()
        put(overlay, b"last", b"l" * 500)
        overlay.sync()
        overlay.abandon()


def _killed_in_commit(path: Path, stage: Callable[[], None]) -> None:
    """Two generations: the process died while a commit was reading the first."""
    _history(path, stage)
    with opened(path) as repo:
        overlay = repo.open_overlay()
        _change(overlay)
        overlay.freeze().sync()
        stage()
        put(overlay, b"last", b"l" * 500)
        put(overlay, b"t", b"written meanwhile")
        overlay.sync()
        overlay.abandon()


def _consumed(path: Path, stage: Callable[[], None]) -> None:
    """The process died between a commit's line in the log and its step in the working layer."""
    _history(path, stage)
    steps = Steps(Crash)
    with opened(path, steps) as repo:
        overlay = repo.open_overlay()
        _change(overlay)
        stage()
        complete = overlay.complete

        def die(*_: object) -> None:
            raise Crash

        overlay.complete = die  # type: ignore[method-assign,assignment]
        with suppress(Crash):
            commit(repo, overlay, "fourth", "a")
        overlay.complete = complete  # type: ignore[method-assign]
        put(overlay, b"last", b"l" * 500)
        overlay.abandon()


def _checkpointed(path: Path, stage: Callable[[], None]) -> None:
    """A checkpoint, and a generation after it."""
    _history(path, stage)
    with opened(path) as repo, repo.open_overlay() as overlay:
        _change(overlay)
        stage()
        assert overlay.compactor.run()
        put(overlay, b"last", b"l" * 500)


def _swept(path: Path, stage: Callable[[], None]) -> None:
    """The process died in a sweep, with the packs listed that were to be removed."""
    _closed(path, stage)
    steps = Steps(Crash)

    def at(name: str) -> None:
        if name.startswith("delete packs/"):
            steps.arm(0)
        steps(name)

    with opened(path, at) as repo, suppress(Crash):
        with repo.open_overlay() as overlay:
            gone = commit(repo, overlay, "fourth", "a").version
            put(overlay, b"new/file", b"other")
            commit(repo, overlay, "fifth", "a")
            put(overlay, b"last", b"l" * 300)
        forget(repo, [gone], author="a", undo_s=0)
    assert (path / RETIRED_KEY).exists()


def _merging(path: Path, stage: Callable[[], None]) -> None:
    """A merge with conflicts, one of them decided."""
    _history(path, stage)
    with opened(path) as repo, repo.open_overlay() as overlay:
        put(overlay, b"bin", b"\0ours")
        commit(repo, overlay, "ours", "a")
        with repo.open_overlay("exp") as other:
            put(other, b"bin", b"\0theirs")
            commit(repo, other, "theirs", "b")
        stage()
        merge(repo, overlay, "exp", repo.resolve("exp"), "a")
        stage()
        resolve_conflicts(repo, overlay, [b"bin"], "theirs")


def _undone(path: Path, stage: Callable[[], None]) -> None:
    """A commit that was taken back: what it had is uncommitted."""
    _history(path, stage)
    with opened(path) as repo, repo.open_overlay() as overlay:
        _change(overlay)
        commit(repo, overlay, "fourth", "a")
        stage()
        undo(repo, overlay, last_operation(repo), "a")


BUILDS: dict[str, Build] = {
    "closed": _closed,
    "killed": _killed,
    "killed in a commit": _killed_in_commit,
    "consumed": _consumed,
    "checkpoint": _checkpointed,
    "sweep": _swept,
    "merge": _merging,
    "undone": _undone,
}
LIVE = ("closed", "checkpoint", "killed in a commit")
"""Scenes that are damaged while a process has the working layer open, too."""


def build_scenes(directory: Path) -> Iterator[Scene]:
    """Builds all scenes below a directory: the same bytes each time, as the clock ticks when it is asked."""
    tick = itertools.count(1_700_000_000_000_000_000, 1_000_000).__next__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", tick)
        patch.setattr(time, "clock_gettime_ns", lambda _clock: tick())
        yield from _build_all(directory)


def _build_all(directory: Path) -> Iterator[Scene]:
    for number, (name, build) in enumerate(BUILDS.items()):
        home = directory / f"scene-{number}"
        home.mkdir()
        path = home / "repo"
        stages: list[Path] = []

        def stage(home: Path = home, path: Path = path, stages: list[Path] = stages) -> None:
            stages.append(home / f"stage-{len(stages)}")
            shutil.copytree(path, stages[-1])

        build(path, stage)
        scene = Scene(name, path, stages, home / "source")
        yield scene
        if name in LIVE:
            yield scene._replace(name=f"{name}, open", is_live=True)


# Looking.


def words(error: Exception) -> str:
    """Returns an error as text; one that no user should see is raised again."""
    if not isinstance(error, (VfsError, OSError)):
        raise error
    return f"error: {type(error).__name__}: {error}"


def ask(look: Look, name: str, question: Callable[[], object]) -> None:
    """Adds the answer to a question, or its error."""
    try:
        look[name] = question()
    except (VfsError, OSError) as error:
        look[name] = words(error)


def look_at_versions(repo: Repository, look: Look) -> None:
    """Adds a repository's refs and history, and the content of its versions."""
    ask(look, "refs", lambda: dict(repo.refs.list()))
    ask(look, "settings", lambda: dict(repo.refs.settings()))
    ask(look, "daemon", lambda: DaemonClient.connect(repo.path, "main"))
    ask(look, "inodes", lambda: len(CollisionTable(repo.work / "inodes")) < 3)
    ask(look, "operations", lambda: [operation.seq for operation in repo.refs.operations()])
    refs = look["refs"]
    for branch in ("main", "exp", "clean", "imported"):
        ask(look, f"history of {branch}", lambda branch=branch: [_line(repo, v) for v in repo.history(branch)])  # type: ignore[misc]
    for name in ("old", "good", "v1", "v2", "v3", "v4", "latest", "exp", "imported"):
        ask(look, f"version {name}", lambda name=name: repo.resolve(name).id)  # type: ignore[misc]
    commits = set(refs.values()) if isinstance(refs, dict) else set()
    for commit_id in sorted(commits):
        ask(look, f"files of {commit_id.hex()}", lambda commit_id=commit_id: picture_of_commit(repo, commit_id))  # type: ignore[misc]


def _line(repo: Repository, version: Version) -> object:
    said = described(repo, version).commit
    return version.name, version.id, said.message, said.meta, said.author, repo.refs.is_forgotten(version.id)


def picture_of_commit(repo: Repository, commit_id: bytes) -> dict[bytes, object]:
    """Returns all that a version holds; the error in place of what cannot be read."""
    root = repo.store.get_commit(commit_id).root  # type: ignore[arg-type]
    found: dict[bytes, object] = {b"": root}
    for path, directory, entry in walk(repo.store, root):
        found[path] = entry
        if entry.kind == Kind.FILE:
            try:
                found[path] = entry, bytes(open_file(repo.store, directory, entry, entry.name).read(0, entry.size + 1))
            except (VfsError, OSError) as error:
                found[path] = words(error)
    return found


def picture_of_layer(overlay: Overlay) -> dict[bytes, object]:
    """Returns all that a working layer shows; the error in place of what cannot be read."""
    found: dict[bytes, object] = {}
    stack = [(b"", ROOT_INO)]
    while stack:
        path, ino = stack.pop()
        try:
            found[path] = _thing(overlay, ino)
            if overlay.getattr(ino).kind == Kind.DIR:
                stack += [(join_path(path, name), overlay.lookup(ino, name).ino) for name in overlay.names(ino)]
        except (VfsError, OSError) as error:
            found[path] = words(error)
    return found


def _thing(overlay: Overlay, ino: int) -> Thing:
    attr = overlay.getattr(ino)
    content = b""
    if attr.kind == Kind.FILE:
        content = bytes(overlay.read(ino, 0, attr.size + 1))
    elif attr.kind == Kind.SYMLINK:
        content = overlay.readlink(ino)
    xattrs = tuple((name, overlay.getxattr(ino, name)) for name in overlay.listxattr(ino))
    return Thing(attr.kind, attr.mode, (attr.uid, attr.gid), attr.mtime_ns, content, attr.rdev, xattrs, b"")


def look_at_layer(repo: Repository, branch: str, overlay: Overlay, look: Look) -> None:
    """Adds a working layer's content and status, and the version that it is committed as."""
    ask(look, f"layer of {branch}", lambda: picture_of_layer(overlay))
    ask(look, f"changes of {branch}", lambda: [(change.kind, change.path) for change in overlay.changes()])
    ask(look, f"merge of {branch}", lambda: _merge(repo, overlay))
    state = look[f"merge of {branch}"]
    if isinstance(state, list):
        ask(look, f"early commit of {branch}", lambda: commit(repo, overlay, "", "a"))
        ask(look, f"decisions of {branch}", lambda: resolve_conflicts(repo, overlay, [], "ours")[0].name)
    ask(look, f"commit of {branch}", lambda: _commit(repo, overlay))


def _merge(repo: Repository, overlay: Overlay) -> object:
    state = merge_state(repo, overlay.branch)
    return None if state is None else [conflict.path for conflict in unresolved(overlay, state)]


def _commit(repo: Repository, overlay: Overlay) -> object:
    parent = repo.head(overlay.branch)
    made = commit(repo, overlay, "", "a").version
    parents = made.commit.parents
    changes = [change.path for change in diff_trees(repo.store, parent.commit.root, made.commit.root)] if parent else []
    return made.name, parents, changes, _without_times(picture_of_commit(repo, made.id))


def _without_times(picture: dict[bytes, object]) -> dict[bytes, object]:
    """Leaves out the times of directories, which deciding a conflict sets to its own."""
    return {
        path: msgspec.structs.replace(found, mtime_ns=0)
        if isinstance(found, Entry) and found.kind == Kind.DIR
        else found
        for path, found in picture.items()
    }
