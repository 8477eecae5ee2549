"""The working layer against a tree of dicts: any sequence of operations, commits, crashes and restores."""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from support.cached_names import Cached, cached_names, check_cached
from support.memory import memory_directory
from support.model_tree import (
    Inode,
    cannot_rename,
    check_changes,
    inode_of,
    learn_times,
    paths_below,
    picture_of,
    without_privileges,
)
from support.working import Bench, Picture, working_layer
from vfs.errors import VfsError
from vfs.model.objects import Kind, Version
from vfs.overlay.compaction import compaction
from vfs.overlay.freezing import Frozen
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.state import Invalidation
from vfs.store.trees.directories import resolve_path

TARGETS = st.lists(st.integers(1, 255), min_size=1, max_size=20).map(bytes)
NAMES = [b"a", b"b", b"c", b"d\xff"]
FILE_BYTES_MAX = 6000


class OverlayMachine(RuleBasedStateMachine):
    """Each rule does one thing to both sides; what the model refuses, the working layer must refuse too."""

    ino_bits = 61

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        directory = self.stack.enter_context(memory_directory())
        self.bench: Bench = self.stack.enter_context(working_layer(directory, ino_bits=self.ino_bits))
        root = self.bench.attr(b"")
        self.root = Inode(Kind.DIR, root.mode, (root.uid, root.gid), ino=ROOT_INO)
        self.opened: list[Inode] = []
        self.frozen: tuple[Frozen, Picture] | None = None
        self.is_compacting = False
        self.history: list[tuple[Version, Picture]] = []

    def teardown(self) -> None:
        self.stack.close()

    # The model.

    def paths(self) -> dict[bytes, Inode]:
        return paths_below(self.root)

    def pick(self, number: int, kinds: tuple[Kind, ...] = tuple(Kind)) -> tuple[bytes, Inode]:
        found = sorted((path, inode) for path, inode in self.paths().items() if inode.kind in kinds)
        return found[number % len(found)]

    def links_of(self, inode: Inode) -> list[bytes]:
        return sorted(path for path, other in self.paths().items() if other is inode)

    def expected(self) -> Picture:
        return picture_of(self.root)

    def touch(self, *inodes: Inode) -> None:
        for inode in inodes:
            inode.mtime_ns = None

    def refused(self, change: object, *args: object, **options: object) -> bool:
        """Returns True if the working layer refuses an operation."""
        try:
            change(*args, **options)  # type: ignore[operator]
        except (VfsError, OSError):
            return True
        return False

    # Making.

    @rule(
        at=st.integers(0, 50),
        name=st.sampled_from(NAMES),
        data=st.binary(max_size=3000),
        mode=st.sampled_from([0o644, 0o4755, 0o2755]),
    )
    def make_file(self, at: int, name: bytes, data: bytes, mode: int) -> None:
        path, directory = self.pick(at, (Kind.DIR,))
        if path.count(b"/") > 2:
            return
        parent = self.bench.ino(path)
        if name in directory.children:
            assert self.refused(self.bench.overlay.mknod, parent, name, stat.S_IFREG | mode, 0, 7, 8)
            return
        made = self.bench.overlay.mknod(parent, name, stat.S_IFREG | mode, 0, 7, 8)
        inode = directory.children[name] = Inode(Kind.FILE, mode, self.owner(directory, 7, 8), bytearray(data))
        if data:
            self.bench.overlay.write(made.ino, 0, data)
            inode.mode = without_privileges(mode)
        self.touch(directory)

    def owner(self, directory: Inode, uid: int, gid: int) -> tuple[int, int]:
        return uid, directory.owner[1] if directory.mode & stat.S_ISGID else gid

    @rule(at=st.integers(0, 50), name=st.sampled_from(NAMES), mode=st.sampled_from([0o755, 0o2775, 0o1777]))
    def make_directory(self, at: int, name: bytes, mode: int) -> None:
        path, directory = self.pick(at, (Kind.DIR,))
        if path.count(b"/") > 2:
            return
        parent = self.bench.ino(path)
        if name in directory.children:
            assert self.refused(self.bench.overlay.mkdir, parent, name, mode, 7, 8)
            return
        self.bench.overlay.mkdir(parent, name, mode, 7, 8)
        mode |= directory.mode & stat.S_ISGID
        directory.children[name] = Inode(Kind.DIR, mode, self.owner(directory, 7, 8))
        self.touch(directory)

    @rule(at=st.integers(0, 50), name=st.sampled_from(NAMES), leads=TARGETS)
    def make_symlink(self, at: int, name: bytes, leads: bytes) -> None:
        path, directory = self.pick(at, (Kind.DIR,))
        parent = self.bench.ino(path)
        if name in directory.children:
            assert self.refused(self.bench.overlay.symlink, parent, name, leads, 7, 8)
            return
        self.bench.overlay.symlink(parent, name, leads, 7, 8)
        directory.children[name] = Inode(Kind.SYMLINK, 0o777, self.owner(directory, 7, 8), bytearray(leads))
        self.touch(directory)

    @rule(at=st.integers(0, 50), name=st.sampled_from(NAMES))
    def make_device(self, at: int, name: bytes) -> None:
        path, directory = self.pick(at, (Kind.DIR,))
        if name not in directory.children:
            self.bench.overlay.mknod(self.bench.ino(path), name, stat.S_IFCHR | 0o600, 0x501, 7, 8)
            directory.children[name] = Inode(Kind.CHAR, 0o600, self.owner(directory, 7, 8), rdev=0x501)
            self.touch(directory)

    @rule(number=st.integers(0, 50), at=st.integers(0, 50), name=st.sampled_from(NAMES))
    def link(self, number: int, at: int, name: bytes) -> None:
        old, inode = self.pick(number)
        path, directory = self.pick(at, (Kind.DIR,))
        parent, ino = self.bench.ino(path), self.bench.ino(old)
        if name in directory.children or inode.kind == Kind.DIR:
            assert self.refused(self.bench.overlay.link, ino, parent, name)
            return
        self.bench.overlay.link(ino, parent, name)
        directory.children[name] = inode
        self.touch(directory)

    # Removing and moving.

    @rule(number=st.integers(0, 50))
    def remove(self, number: int) -> None:
        path, inode = self.pick(number)
        if not path:
            return
        parent, name = self.bench.at(path)
        directory = self.paths()[path.rpartition(b"/")[0]]
        if inode.kind == Kind.DIR:
            assert self.refused(self.bench.overlay.unlink, parent, name)
            if inode.children:
                assert self.refused(self.bench.overlay.rmdir, parent, name)
                return
            self.bench.overlay.rmdir(parent, name)
        else:
            assert self.refused(self.bench.overlay.rmdir, parent, name)
            self.bench.overlay.unlink(parent, name)
        del directory.children[name]
        self.touch(directory)

    @rule(
        number=st.integers(0, 50),
        at=st.integers(0, 50),
        name=st.sampled_from(NAMES),
        flags=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def rename(self, number: int, at: int, name: bytes, flags: int) -> None:
        path, inode = self.pick(number)
        if not path:
            return
        new_path, new_directory = self.pick(at, (Kind.DIR,))
        paths = self.paths()
        old_directory, old_name = paths[path.rpartition(b"/")[0]], path.rpartition(b"/")[2]
        target = new_directory.children.get(name)
        arguments = (*self.bench.at(path), self.bench.ino(new_path), name, flags)
        if cannot_rename(inode, target, old_directory, new_directory, flags):
            assert self.refused(self.bench.overlay.rename, *arguments)
            return
        self.bench.overlay.rename(*arguments)
        if target is inode:
            return
        if flags == 2:
            assert target is not None
            old_directory.children[old_name] = target
        else:
            del old_directory.children[old_name]
        new_directory.children[name] = inode
        self.touch(old_directory, new_directory)

    # Contents.

    @rule(number=st.integers(0, 50), offset=st.integers(0, FILE_BYTES_MAX), data=st.binary(min_size=1, max_size=1500))
    def write(self, number: int, offset: int, data: bytes) -> None:
        files = [inode for _, inode in sorted(self.paths().items()) if inode.kind == Kind.FILE] + self.opened
        if not files:
            return
        inode = files[number % len(files)]
        self.bench.overlay.write(self.number_of(inode), offset, data)
        if len(inode.content) < offset:
            inode.content.extend(bytes(offset - len(inode.content)))
        inode.content[offset : offset + len(data)] = data
        inode.mode = without_privileges(inode.mode)
        self.touch(inode)

    @rule(number=st.integers(0, 50), size=st.integers(0, FILE_BYTES_MAX))
    def truncate(self, number: int, size: int) -> None:
        files = [inode for _, inode in sorted(self.paths().items()) if inode.kind == Kind.FILE] + self.opened
        if not files:
            return
        inode = files[number % len(files)]
        self.bench.overlay.setattr(self.number_of(inode), size=size)
        del inode.content[size:]
        inode.content.extend(bytes(size - len(inode.content)))
        inode.mode = without_privileges(inode.mode)
        self.touch(inode)

    def number_of(self, inode: Inode) -> int:
        if inode.ino:
            return inode.ino
        return self.bench.ino(self.links_of(inode)[0])

    @rule(number=st.integers(0, 50))
    def open_file(self, number: int) -> None:
        files = [inode for _, inode in sorted(self.paths().items()) if inode.kind == Kind.FILE]
        if files:
            inode = files[number % len(files)]
            self.bench.overlay.open_file(self.number_of(inode))
            self.opened.append(inode)

    @precondition(lambda self: self.opened)
    @rule(number=st.integers(0, 50))
    def close_file(self, number: int) -> None:
        inode = self.opened.pop(number % len(self.opened))
        self.bench.overlay.close_file(inode.ino)

    # Attributes.

    @rule(number=st.integers(0, 50), mode=st.sampled_from([0o600, 0o4711, 0o7777, 0]))
    def chmod(self, number: int, mode: int) -> None:
        path, inode = self.pick(number)
        self.bench.overlay.setattr(self.bench.ino(path), mode=mode)
        inode.mode = mode

    @rule(number=st.integers(0, 50), gid=st.integers(0, 3))
    def chown(self, number: int, gid: int) -> None:
        path, inode = self.pick(number)
        self.bench.overlay.setattr(self.bench.ino(path), gid=gid)
        inode.owner = inode.owner[0], gid
        if inode.kind != Kind.DIR:
            inode.mode = without_privileges(inode.mode)

    @rule(number=st.integers(0, 50), mtime_ns=st.integers(-(2**40), 2**62))
    def utimens(self, number: int, mtime_ns: int) -> None:
        path, inode = self.pick(number)
        self.bench.overlay.setattr(self.bench.ino(path), mtime_ns=mtime_ns, atime_ns=5)
        inode.mtime_ns = mtime_ns

    @rule(
        number=st.integers(0, 50), name=st.sampled_from([b"user.a", b"user.b"]), value=st.none() | st.binary(max_size=9)
    )
    def set_xattr(self, number: int, name: bytes, value: bytes | None) -> None:
        path, inode = self.pick(number)
        ino = self.bench.ino(path)
        if value is not None:
            self.bench.overlay.setxattr(ino, name, value)
            inode.xattrs[name] = value
        elif name in inode.xattrs:
            self.bench.overlay.removexattr(ino, name)
            del inode.xattrs[name]
        else:
            assert self.refused(self.bench.overlay.removexattr, ino, name)

    # The kernel, processes, commits.

    @rule(number=st.integers(0, 50))
    def forget(self, number: int) -> None:
        path, inode = self.pick(number)
        if path and inode not in self.opened:
            self.bench.overlay.forget(self.bench.ino(path))

    @rule()
    def forget_all(self) -> None:
        for inode in self.paths().values():
            if inode.ino and inode is not self.root:
                self.bench.overlay.forget(inode.ino)

    @rule()
    def reopen(self) -> None:
        self.frozen = None
        self.is_compacting = False
        self.opened = []
        self.bench.reopen()

    @rule()
    def crash(self) -> None:
        self.frozen = None
        self.is_compacting = False
        self.opened = []
        self.bench.crash()

    @precondition(lambda self: not self.is_compacting)
    @rule()
    def compact(self) -> None:
        assert self.bench.overlay.compactor.run() == (self.frozen is None)

    @precondition(lambda self: self.frozen is None and not self.is_compacting)
    @rule()
    def begin_compaction(self) -> None:
        self.bench.begin_compaction()
        self.is_compacting = True

    @precondition(lambda self: self.is_compacting)
    @rule()
    def go_on_compacting(self) -> None:
        self.is_compacting = bool(self.bench.go_on_compacting())

    @precondition(lambda self: self.frozen is None)
    @rule()
    def freeze(self) -> None:
        learn_times(self.paths(), self.bench.picture(), self.bench.clock.now_ns)
        self.frozen = self.bench.overlay.freeze(), self.expected()

    @precondition(lambda self: self.frozen is not None)
    @rule(with_crash=st.booleans())
    def complete(self, with_crash: bool) -> None:
        assert self.frozen is not None
        frozen, picture = self.frozen
        self.frozen = None
        version = self.bench.store_frozen(frozen)
        assert self.bench.picture_of(version) == picture
        self.history.append((version, picture))
        if with_crash:
            self.opened = []
            self.is_compacting = False
            self.bench.crash()
            assert self.bench.overlay.recovery.finished_commit
        else:
            self.bench.overlay.complete(frozen, version)

    @precondition(lambda self: self.frozen is not None)
    @rule()
    def thaw(self) -> None:
        assert self.frozen is not None
        self.bench.overlay.thaw(self.frozen[0])
        self.frozen = None

    @precondition(lambda self: self.frozen is None and self.history)
    @rule(number=st.integers(0, 50), source=st.integers(0, 50), at=st.integers(0, 50), name=st.sampled_from(NAMES))
    def restore(self, number: int, source: int, at: int, name: bytes) -> None:
        version, picture = self.history[number % len(self.history)]
        source_path = sorted(picture)[source % len(picture)]
        if source_path:
            path, directory = self.pick(at, (Kind.DIR,))
            path = path + b"/" + name if path else name
        else:
            path, directory = b"", self.root
        cached = self.cache()
        place = resolve_path(self.bench.store, version.commit.root, source_path)
        stale = self.bench.overlay.graft(path, place.entry, place.directory, version.commit.links, source_path)
        fresh = inode_of(picture, source_path)
        if path:
            directory.children[name] = fresh
            self.touch(directory)
        else:
            fresh.ino = ROOT_INO
            self.root = fresh
        self.learn_again()
        self.check_cache(cached, stale)

    @precondition(lambda self: self.frozen is None)
    @rule(number=st.integers(0, 50))
    def remove_tree(self, number: int) -> None:
        path, _ = self.pick(number)
        if not path:
            return
        cached = self.cache()
        stale = self.bench.overlay.graft(path, None)
        directory = self.paths()[path.rpartition(b"/")[0]]
        del directory.children[path.rpartition(b"/")[2]]
        self.touch(directory)
        self.check_cache(cached, stale)

    @precondition(lambda self: self.frozen is None and self.history)
    @rule(number=st.integers(0, 50), with_crash=st.booleans())
    def publish(self, number: int, with_crash: bool) -> None:
        if not self.bench.overlay.is_clean():
            return
        version, picture = self.history[number % len(self.history)]
        cached = self.cache()
        published = self.bench.publish(version)
        self.exchange(cached, picture, None if with_crash else partial(self.bench.overlay.set_base, published))
        assert self.bench.overlay.base == published

    @precondition(lambda self: self.frozen is None and self.history)
    @rule(number=st.integers(0, 50), shown=st.integers(0, 50), with_crash=st.booleans())
    def replace(self, number: int, shown: int, with_crash: bool) -> None:
        version, picture = self.history[shown % len(self.history)]
        cached = self.cache()
        self.bench.consumed = self.bench.overlay.begin_replacing()
        self.bench.taken_up = published = self.bench.publish(self.history[number % len(self.history)][0])
        self.bench.shown = version.commit.root, version.commit.links
        replace = partial(self.bench.overlay.replace, published, *self.bench.shown)
        self.exchange(cached, picture, None if with_crash else replace)
        assert self.bench.overlay.base == published

    def exchange(self, cached: Cached, picture: Picture, change: Callable[[], list[Invalidation]] | None) -> None:
        """Shows a version from now on, by a change, or (None) by that of a process that died before it could."""
        self.root = inode_of(picture, b"")
        self.root.ino = ROOT_INO
        if change is None:
            self.opened = []
            self.is_compacting = False
            self.bench.crash()
        else:
            stale = change()
            self.learn_again()
            self.check_cache(cached, stale)

    # What the kernel would have cached.

    def cache(self) -> Cached:
        return cached_names(self.bench, self.folders(), NAMES)

    def check_cache(self, cached: Cached, stale: list[Invalidation]) -> None:
        check_cached(self.bench, self.folders(), cached, stale)

    def folders(self) -> list[bytes]:
        return sorted(path for path, inode in self.paths().items() if inode.kind == Kind.DIR)

    # Comparing.

    def learn_again(self) -> None:
        """Content was exchanged from outside: what is open may be the old file or show the new one."""
        present = list(self.paths().values())
        self.opened = [inode for inode in self.opened if inode in present]
        for inode in present:
            if inode is not self.root:
                inode.ino = 0

    @invariant()
    def shows_what_it_should(self) -> None:
        picture = self.bench.picture()
        learn_times(self.paths(), picture, self.bench.clock.now_ns)
        assert picture == self.expected()

    @invariant()
    def numbers_stay(self) -> None:
        for path, inode in self.paths().items():
            ino = self.bench.ino(path)
            if not inode.ino or self.ino_bits < 61:
                inode.ino = ino
            assert inode.ino == ino, path

    @invariant()
    def open_files_can_be_read(self) -> None:
        for inode in self.opened:
            assert bytes(self.bench.overlay.read(inode.ino, 0, FILE_BYTES_MAX * 2)) == inode.content

    @invariant()
    def changes_are_those_to_the_base(self) -> None:
        base = self.bench.overlay.base
        if base is None or self.frozen is not None:
            return
        old = next(picture for version, picture in self.history if version.commit.root == base.commit.root)
        found = {change.path: change.kind for change in self.bench.overlay.changes()}
        check_changes(found, old, self.expected())


class CollidingMachine(OverlayMachine):
    """The same with numbers of 6 bits: nearly every derived number collides."""

    ino_bits = 6


@pytest.mark.parametrize("machine", [OverlayMachine, CollidingMachine])
def test_working_layer_is_a_tree_of_dicts(machine: type[OverlayMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    # Something happens between any two steps of a compaction, however small the layer is.
    monkeypatch.setattr(compaction, "_SLICE_NODES", 1)
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40))
