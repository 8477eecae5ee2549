"""Power cuts at any moment, with any part of what was not synced: what fsync acknowledged is there, nothing is mixed.

docs/durability.md, "The working layer". The model is a tree of dicts that the operations are applied to as well.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from support.power import Disk, Keep, Mark, NamesSynced, after_power_cut
from support.steps import Steps
from support.working import Bench, working_layer
from support.workload import Op, Scene, Seen, Tree, difference, made_bytes
from vfs.backend.rooted_path import RootedPath
from vfs.errors import NoAttribute, NothingToDo
from vfs.model.nodes import LINKS
from vfs.model.objects import Kind, Version
from vfs.overlay import open_journals
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.store.trees.directories import walk
from vfs.store.trees.file_reader import open_file
from vfs.store.trees.maps import map_items

_TAG = b"user.tag"
_KEEPS: tuple[Keep, ...] = ("everything", "nothing", "names", "bytes", "chance", "chance", "chance")
SEEDS = int(os.environ.get("VFS_POWER_SEEDS", "2"))
CUTS_OF_A_REPOSITORY = int(os.environ.get("VFS_POWER_CUTS", "200"))
"""More of both in the long profile."""


class Begun(NamedTuple):
    """So many operations have begun."""

    ops: int


class Done(NamedTuple):
    """So many operations have been acknowledged."""

    ops: int


class Safe(NamedTuple):
    """So many operations have been said to be durable."""

    ops: int


class Taken(NamedTuple):
    """A commit is durable: it has `ops` operations, of the generations up to `generation`."""

    version: Version
    generation: int
    ops: int


def at(overlay: Overlay, path: str) -> tuple[int, bytes]:
    """Returns the directory and the last name of a path."""
    *folders, name = os.fsencode(path).split(b"/")
    ino = ROOT_INO
    for folder in folders:
        ino = overlay.lookup(ino, folder).ino
    return ino, name


def perform(overlay: Overlay, op: Op) -> None:
    """Does an operation in a working layer."""
    parent, name = at(overlay, op.path)
    if op.kind in ("create", "mkdir", "symlink"):
        match op.kind:
            case "create":
                overlay.mknod(parent, name, stat.S_IFREG | 0o644, 0, 0, 0)
            case "mkdir":
                overlay.mkdir(parent, name, 0o755, 0, 0)
            case _:
                overlay.symlink(parent, name, op.other.encode(), 0, 0)
        return
    ino = overlay.lookup(parent, name).ino
    match op.kind:
        case "rmdir":
            overlay.rmdir(parent, name)
        case "unlink":
            overlay.unlink(parent, name)
        case "rename":
            overlay.rename(parent, name, *at(overlay, op.other))
        case "link":
            overlay.link(ino, *at(overlay, op.other))
        case "write" | "map":
            overlay.write(ino, op.offset, made_bytes(op))
        case "append":
            overlay.write(ino, overlay.getattr(ino).size, made_bytes(op))
        case "truncate":
            overlay.setattr(ino, size=op.size)
        case "chmod":
            overlay.setattr(ino, mode=op.mode)
        case "tag":
            overlay.setxattr(ino, _TAG, b"%d" % op.stamp)
        case _:
            overlay.sync()


def scene_of(overlay: Overlay) -> Scene:
    """Returns what a working layer shows."""
    found: Scene = {}
    files: dict[int, list[str]] = {}
    stack = [("", ROOT_INO)]
    while stack:
        above, directory = stack.pop()
        for name in overlay.names(directory):
            attr = overlay.lookup(directory, name)
            path = os.path.join(above, os.fsdecode(name))
            if attr.kind == Kind.DIR:
                found[path] = Seen("folder", b"")
                stack.append((path, attr.ino))
            elif attr.kind == Kind.SYMLINK:
                found[path] = Seen("link", overlay.readlink(attr.ino))
            else:
                content = bytes(overlay.read(attr.ino, 0, attr.size + 1))
                assert len(content) == attr.size
                files.setdefault(attr.ino, []).append(path)
                found[path] = Seen("file", content, attr.mode, _tag(overlay, attr.ino))
    for ino, paths in files.items():
        assert overlay.getattr(ino).nlink == len(paths)
        for path in paths:
            found[path] = found[path]._replace(group=min(paths))
    return found


def _tag(overlay: Overlay, ino: int) -> bytes:
    with suppress(NoAttribute):
        return overlay.getxattr(ino, _TAG)
    return b""


class Work:
    """Operations chosen by chance and recorded, with what one should see after each."""

    def __init__(self, disk: Disk, chance: random.Random) -> None:
        self.disk = disk
        self.scenes: list[Scene] = [{}]
        self._tree = Tree()
        self._chance = chance

    @property
    def count(self) -> int:
        """How many operations were done."""
        return len(self.scenes) - 1

    def go_on(self, overlay: Overlay, operations: int) -> None:
        """Does some more operations."""
        for _ in range(operations):
            op = self._tree.choose(self._chance)
            self._tree.apply(op)
            self.scenes.append(self._tree.scene())
            self.disk.mark(Begun(self.count))
            perform(overlay, op)
            self.disk.mark(Done(self.count))
            if op.kind == "fsync":
                self.disk.mark(Safe(self.count))


class Moment(NamedTuple):
    """What had happened when the power failed."""

    begun: int = 0
    done: int = 0
    safe: int = 0
    taken: Taken | None = None


def moment_after(disk: Disk, events: int) -> Moment:
    """Returns what had happened after so many events."""
    found = Moment()
    for event in disk.events[:events]:
        match event:
            case Mark(Begun(ops)):
                found = found._replace(begun=ops)
            case Mark(Done(ops)):
                found = found._replace(done=ops)
            case Mark(Safe(ops)):
                found = found._replace(safe=max(ops, found.safe))
            case Mark(Taken(ops=ops) as taken):
                found = found._replace(safe=max(ops, found.safe), taken=taken)
            case _:
                pass
    return found


def check(found: Scene, work: Work, moment: Moment, keep: Keep) -> int:
    """Returns after how many operations the tree was as it was found: of those that count, or it is an error."""
    first = moment.done if keep == "everything" else moment.safe
    possible = range(first, moment.begun + 1)
    for count in reversed(possible):
        if work.scenes[count] == found:
            return count
    pytest.fail(f"{keep}: nothing of {possible}; {difference(found, work.scenes[moment.begun])}")


def test_the_record_has_everything(tmp_path: Path) -> None:
    """What is rebuilt of all that was recorded is the directory, to the byte."""
    root = tmp_path / "repo"
    Repository.init(root).close()
    disk = Disk(root, without=("index",))
    with disk.recording(), Repository.open(root) as repo, repo.open_overlay() as overlay:
        work = Work(disk, random.Random(3))
        for _ in range(3):
            work.go_on(overlay, 30)
            commit(repo, overlay, "m", "a")
    made = after_power_cut(disk.events, "everything", random.Random(0))
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "index" not in path.relative_to(root).parts
    }
    assert made.files.keys() == found.keys()
    assert [path for path in found if made.files[path] != found[path]] == []


def record_working_layer(bench: Bench, disk: Disk, work: Work, commits: int) -> None:
    """Works, compacts and commits in a working layer whose store never fails."""
    bench.reopen()
    for _ in range(commits):
        work.go_on(bench.overlay, 8)
        bench.begin_compaction()
        work.go_on(bench.overlay, 3)
        while bench.go_on_compacting():
            work.go_on(bench.overlay, 1)
        work.go_on(bench.overlay, 3)
        frozen = bench.overlay.freeze()
        count = work.count
        work.go_on(bench.overlay, 3)
        version = bench.store_frozen(frozen)
        disk.mark(Taken(version, frozen.generation, count))
        work.go_on(bench.overlay, 3)
        bench.overlay.complete(frozen, version)
        frozen = bench.overlay.freeze()
        work.go_on(bench.overlay, 3)
        bench.overlay.thaw(frozen)
    work.go_on(bench.overlay, 5)
    bench.overlay.close()


def open_layer(bench: Bench, place: Path, moment: Moment) -> Overlay:
    """Opens a working layer as the next process does, with the branch as it was at a moment."""
    taken = moment.taken
    return Overlay.open(
        RootedPath.of(place),
        bench.store,
        taken.version if taken is not None else None,
        branch="main",
        consumed_generation=taken.generation if taken is not None else 0,
        consumed=lambda: open_journals.Consumed(taken.version if taken is not None else None),
        now=bench.clock,
    )


def cut_while_opening(bench: Bench, place: Path, moment: Moment, chance: random.Random) -> Path:
    """Opens a working layer, and returns what is left if the power fails again in the middle of that."""
    disk = Disk(place)
    disk.mark("opened")
    with disk.recording():
        open_layer(bench, place, moment).abandon()
    left = place.with_name(place.name + "-again")
    start = disk.events.index(Mark("opened"))
    events = disk.events[: chance.randrange(start, len(disk.events) + 1)]
    after_power_cut(events, "chance", chance).write_to(left)
    return left


def scene_after(bench: Bench, place: Path, moment: Moment) -> Scene:
    """Returns what a working layer shows that is opened after a power cut, and once more; removes it."""
    with open_layer(bench, place, moment) as overlay:
        found = scene_of(overlay)
    with open_layer(bench, place, moment) as overlay:
        assert overlay.recovery.is_clean
        assert scene_of(overlay) == found
    shutil.rmtree(place)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_working_layer_after_a_power_cut_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Its store never fails here: that is in the next test."""
    chance = random.Random(seed)
    cuts = lost = 0
    with working_layer(tmp_path) as bench:
        bench.overlay.close()
        disk = Disk(bench.directory)
        disk.mark("opened")
        work = Work(disk, chance)
        with disk.recording():
            record_working_layer(bench, disk, work, commits=2)
        scenes: dict[Hashable, Scene] = {}
        for events in range(disk.events.index(Mark("opened")), len(disk.events) + 1):
            if isinstance(disk.events[events - 1], Mark):
                continue
            moment = moment_after(disk, events)
            for keep in _KEEPS:
                place = tmp_path / f"{events}-{cuts}"
                state = after_power_cut(disk.events[:events], keep, chance)
                if keep == "chance" and chance.random() < 0.2:
                    state.write_to(place)
                    found = scene_after(bench, cut_while_opening(bench, place, moment, chance), moment)
                else:
                    # Between two syncs the disk often has the same: opened once, it is compared with each moment.
                    key = (moment.taken, state.frozen())
                    if key not in scenes:
                        state.write_to(place)
                        scenes[key] = scene_after(bench, place, moment)
                    found = scenes[key]
                count = check(found, work, moment, keep)
                lost += moment.done - count > 0
                cuts += 1
    assert lost > 20, "nothing was ever lost: this proves nothing"


def look(path: Path) -> tuple[Scene, list[Scene]]:
    """Returns what a repository holds after a power cut: the working layer and its versions; commits what is left."""
    with Repository.open(path) as repo:
        assert fsck(repo, read_data=True).is_clean
        with repo.open_overlay() as overlay:
            found = scene_of(overlay)
            versions = [scene_of_version(repo, version) for version in repo.versions()]
            with suppress(NothingToDo):
                commit(repo, overlay, "the rest", "a")
            head = repo.head()
            assert (scene_of_version(repo, head) if head is not None else {}) == found
            assert fsck(repo).is_clean
    return found, versions[::-1]


def scene_of_version(repo: Repository, version: Version) -> Scene:
    """Returns what a version holds."""
    found: Scene = {}
    links = map_items(repo.store, LINKS, version.commit.links)
    leaders = {item.name: item.leader for item in links}
    for path, directory, entry in walk(repo.store, version.commit.root):
        name = os.fsdecode(path)
        if entry.kind == Kind.DIR:
            found[name] = Seen("folder", b"")
        elif entry.kind == Kind.SYMLINK:
            found[name] = Seen("link", entry.content)
        else:
            content = bytes(open_file(repo.store, directory, entry, entry.name).read(0, entry.size))
            group = os.fsdecode(leaders.get(path, path))
            found[name] = Seen("file", content, entry.mode, dict(entry.xattrs).get(_TAG, b""), group)
    return found


def record_commits(repo: Repository, overlay: Overlay, disk: Disk, work: Work) -> list[int]:
    """Works and commits, also while a commit goes on; returns how many operations each version has."""
    counts = []
    written: list[int] = []

    def meanwhile(_files: int, _bytes: int, _total: int | None) -> None:
        work.go_on(overlay, written.pop() if written else 0)

    for _ in range(3):
        work.go_on(overlay, 6)
        assert overlay.compactor.run()
        work.go_on(overlay, 4)
        counts.append(work.count)
        written += [2, 2]
        disk.mark("commit")
        version = commit(repo, overlay, "m", "a", progress=meanwhile).version
        disk.mark(Taken(version, 0, counts[-1]))
        work.go_on(overlay, 4)
    return counts


@pytest.mark.slow
def test_a_repository_after_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    """Commits are whole or absent; what is left of the working layer fits the version that it is found with."""
    root = tmp_path / "repo"
    Repository.init(root).close()
    chance = random.Random(7)
    disk = Disk(root, without=("index",))
    disk.mark("opened")
    work = Work(disk, chance)
    with disk.recording(), Repository.open(root) as repo, repo.open_overlay() as overlay:
        counts = record_commits(repo, overlay, disk, work)
    start = disk.events.index(Mark("opened"))
    for events in cuts_of(disk, start, CUTS_OF_A_REPOSITORY, chance):
        moment = moment_after(disk, events)
        begun = disk.events[:events].count(Mark("commit"))
        done = sum(isinstance(event, Mark) and isinstance(event.what, Taken) for event in disk.events[:events])
        keep = chance.choice(_KEEPS)
        place = tmp_path / f"at{events}"
        after_power_cut(disk.events[:events], keep, chance).write_to(place)
        found, versions = look(place)
        check(found, work, moment, keep)
        assert done <= len(versions) <= begun
        assert versions == [work.scenes[count] for count in counts[: len(versions)]]
        shutil.rmtree(place)


def cuts_of(disk: Disk, start: int, count: int, chance: random.Random) -> list[int]:
    """Returns moments: each one in a commit or some of them, and some of the others."""
    every = [at for at in range(start, len(disk.events) + 1) if not isinstance(disk.events[at - 1], Mark)]
    return sorted(chance.sample(every, min(count, len(every))))


def test_a_sync_that_failed_is_made_good_by_the_next(tmp_path: Path) -> None:
    """The kernel takes bytes that it could not write for written, and says so once: they are handed to it again."""
    with working_layer(tmp_path) as bench:
        steps = Steps(lambda name: OSError(errno.EIO, name))
        bench.on_step = steps
        bench.reopen()
        bench.put(b"before", b"durable")
        bench.overlay.sync()
        disk = Disk(bench.directory)
        with disk.recording():
            bench.put(b"file", b"bytes" * 1000)
            steps.arm(0)
            with pytest.raises(OSError, match="sync journal-1"):
                bench.overlay.sync()
            steps.disarm()
            lost = len(disk.events)
            bench.put(b"later", b"1")
            bench.overlay.sync()
        # Of what was written before the failure nothing has reached the disk.
        start = max(number for number, event in enumerate(disk.events[:lost]) if isinstance(event, NamesSynced))
        events = disk.events[: start + 1] + disk.events[lost:]
        place = tmp_path / "after"
        after_power_cut(events, "nothing", random.Random(0)).write_to(place)
        with open_layer(bench, place, Moment()) as overlay:
            assert scene_of(overlay) == scene_of(bench.overlay)
            assert overlay.recovery.cut == ()
