"""A working layer over a real store in a directory: opened, committed, crashed, and described as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from support.descriptors import open_paths
from vfs.backend.memory import MemoryBackend
from vfs.backend.rooted_path import RootedPath
from vfs.model.chunking import ChunkerParams, IngestParams
from vfs.model.ids import CommitId
from vfs.model.names import join_path
from vfs.model.nodes import LINKS
from vfs.model.objects import Commit, Entry, Kind, Version
from vfs.overlay.compaction.compaction import Cancelled, Compaction
from vfs.overlay.freezing import Frozen
from vfs.overlay.inode_numbers import INO_BITS
from vfs.overlay.layer_nodes import ROOT_INO, Attr
from vfs.overlay.open_journals import Consumed
from vfs.overlay.overlay import Overlay
from vfs.overlay.snapshot import snapshot
from vfs.overlay.state import State
from vfs.store.lmdb_tables import Tables
from vfs.store.object_store import ObjectStore
from vfs.store.object_writer import ObjectWriter
from vfs.store.packs.index import INDEX_TABLES, Index
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.directories import file_content, walk
from vfs.store.trees.file_reader import FileReader
from vfs.store.trees.maps import map_items

SMALL = IngestParams(ChunkerParams(min_bytes=256, avg_bytes=1024, max_bytes=4096), tiny_bytes_max=64)
"""Chunks so small that files of a few KB have lists."""


class Thing(NamedTuple):
    """What a version keeps of one path. `group`: the smallest path of its hard links, empty for a single name."""

    kind: Kind
    mode: int
    owner: tuple[int, int]
    mtime_ns: int | None
    content: bytes
    rdev: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    group: bytes


Picture = dict[bytes, Thing]


class Clock:
    """A clock that ticks once whenever it is asked."""

    def __init__(self) -> None:
        self.now_ns = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        self.now_ns += 1_000
        return self.now_ns


class Bench:
    """A store in memory, and the working layer of one branch with the versions made of it."""

    def __init__(self, directory: Path, store: ObjectStore, *, ino_bits: int = INO_BITS) -> None:
        self.directory = directory
        self.store = store
        self.clock = Clock()
        self.ino_bits = ino_bits
        self.head: Version | None = None
        self.consumed = 0
        self.taken_up: Version | None = None
        self.shown: tuple[Entry, bytes] | None = None
        self.on_step: Callable[[str], None] | None = None
        self.overlay = self._open()

    @property
    def state(self) -> State:
        """The overlay's state, for tests of its parts."""
        return self.overlay._state  # noqa: SLF001

    def _open(self, *, passes_damage: bool = False) -> Overlay:
        return Overlay.open(
            RootedPath.of(self.directory),
            self.store,
            self.head,
            branch="main",
            consumed_generation=self.consumed,
            consumed=lambda: Consumed(self.taken_up, self.shown),
            on_step=self.on_step,
            ino_bits=self.ino_bits,
            now=self.clock,
            passes_damage=passes_damage,
        )

    def recover(self) -> Overlay:
        """Opens a damaged working layer with its undamaged records."""
        self.kill()
        self.overlay = self._open(passes_damage=True)
        return self.overlay

    def reopen(self) -> Overlay:
        """Closes the working layer and opens it again."""
        self.close()
        self.overlay = self._open()
        return self.overlay

    def crash(self) -> Overlay:
        """Opens the working layer as the next process finds it after a kill: nothing was closed."""
        self.kill()
        self.overlay = self._open()
        return self.overlay

    def close(self) -> None:
        """Closes the working layer; a compaction that `begin_compaction` began is cancelled and cleans up first."""
        compaction = self._cancel_compaction()
        if compaction is not None:
            compaction.clean_up()
        self.overlay.close()

    def kill(self) -> None:
        """Ends the use of the working layer as a kill does: files stay as they are, and no descriptor stays open."""
        compaction = self._cancel_compaction()
        if compaction is not None:
            compaction.abandon()
        self.overlay.abandon()

    def _cancel_compaction(self) -> Compaction | None:
        compactor = self.overlay.compactor
        compaction, compactor.running = compactor.running, None
        if compaction is not None:
            compaction.end()
            compaction.release()
        return compaction

    def begin_compaction(self) -> None:
        """Runs a compaction up to the step that renames its checkpoint to its final name."""
        self.overlay.compactor.running = compaction = Compaction(self.state)
        compaction.write()

    def go_on_compacting(self) -> bool | None:
        """Does the next step of it, and cleans up after the last; False after the last, None if it was cancelled."""
        compaction = self.overlay.compactor.running
        assert compaction is not None
        try:
            if compaction.advance():
                return True
            is_done: bool | None = False
        except Cancelled:
            is_done = None
        compaction.end()
        compaction.release()
        self.overlay.compactor.running = None
        compaction.clean_up()
        return is_done

    def store_frozen(self, frozen: Frozen) -> Version:
        """Runs a commit up to its commit point, without completing the working layer."""
        with ObjectWriter(self.store) as writer:
            root, links = snapshot(frozen, writer, ContentWriter(writer, SMALL))
            version = self._made(writer, root, links)
            writer.flush()
        self.consumed, self.taken_up, self.shown = frozen.generation, version, None
        return version

    def publish(self, version: Version) -> Version:
        """Makes an older version's tree the branch's newest, without changing the working layer."""
        with ObjectWriter(self.store) as writer:
            published = self._made(writer, version.commit.root, version.commit.links)
            writer.flush()
        return published

    def _made(self, writer: ObjectWriter, root: Entry, links: bytes) -> Version:
        parents = (self.head.id,) if self.head is not None else ()
        number = self.head.commit.number + 1 if self.head is not None else 1
        made = Commit(number, parents, root, links, self.clock(), "a", "m")
        self.head = Version(writer.put_commit(made), made)
        return self.head

    def versions_of(self, version: Version) -> list[Version]:
        """Returns a version and those before it, the oldest first."""
        found = [version]
        while found[0].commit.parents:
            parent = CommitId(found[0].commit.parents[0])
            found.insert(0, Version(parent, self.store.get_commit(parent)))
        return found

    def commit(self, meanwhile: Callable[[], object] | None = None) -> Version:
        """Commits the working layer; `meanwhile` runs while its picture is being stored."""
        frozen = self.overlay.freeze()
        if meanwhile is not None:
            meanwhile()
        version = self.store_frozen(frozen)
        self.overlay.complete(frozen, version)
        return version

    # Shorthands by path.

    def ino(self, path: bytes) -> int:
        """Returns the inode number at a path."""
        return self.attr(path).ino

    def attr(self, path: bytes) -> Attr:
        """Returns the attributes of the inode at a path."""
        attr = self.overlay.getattr(ROOT_INO)
        for name in path.split(b"/") if path else ():
            attr = self.overlay.lookup(attr.ino, name)
        return attr

    def at(self, path: bytes) -> tuple[int, bytes]:
        """Returns the directory's number and the last name of a path."""
        directory, _, name = path.rpartition(b"/")
        return self.ino(directory), name

    def put(self, path: bytes, data: bytes = b"", *, mode: int = 0o644) -> Attr:
        """Makes a file with some bytes."""
        made = self.overlay.mknod(*self.at(path), 0o100000 | mode, 0, 1, 2)
        if data:
            self.overlay.write(made.ino, 0, data)
        return self.overlay.getattr(made.ino)

    def mkdir(self, path: bytes, *, mode: int = 0o755) -> Attr:
        """Makes a directory."""
        return self.overlay.mkdir(*self.at(path), mode, 1, 2)

    def read(self, path: bytes) -> bytes:
        """Returns a file's bytes."""
        attr = self.attr(path)
        return bytes(self.overlay.read(attr.ino, 0, attr.size + 1))

    def write(self, path: bytes, offset: int, data: bytes) -> None:
        """Writes into a file."""
        assert self.overlay.write(self.ino(path), offset, data) == len(data)

    def rename(self, path: bytes, new_path: bytes, flags: int = 0) -> None:
        """Renames."""
        self.overlay.rename(*self.at(path), *self.at(new_path), flags)

    def link(self, path: bytes, new_path: bytes) -> Attr:
        """Makes a hard link."""
        return self.overlay.link(self.ino(path), *self.at(new_path))

    def unlink(self, path: bytes) -> None:
        """Removes a name."""
        self.overlay.unlink(*self.at(path))

    def rmdir(self, path: bytes) -> None:
        """Removes a directory."""
        self.overlay.rmdir(*self.at(path))

    def names(self, path: bytes = b"") -> list[bytes]:
        """Returns a directory's names."""
        return list(self.overlay.names(self.ino(path)))

    def picture(self) -> Picture:
        """Returns everything the working layer shows, with each inode checked to have one number."""
        overlay = self.overlay
        found: Picture = {}
        seen: dict[int, bytes] = {}
        stack = [(b"", overlay.getattr(ROOT_INO))]
        while stack:
            path, attr = stack.pop()
            leader = seen.setdefault(attr.ino, path)
            group = b""
            if attr.nlink > 1 and attr.kind != Kind.DIR:
                group = leader = min(leader, path)
            else:
                assert leader == path, f"{leader!r} and {path!r} have one number"
            content = b""
            if attr.kind == Kind.FILE:
                content = bytes(overlay.read(attr.ino, 0, attr.size + 1))
                assert len(content) == attr.size
            elif attr.kind == Kind.SYMLINK:
                content = overlay.readlink(attr.ino)
            elif attr.kind == Kind.DIR:
                names = list(overlay.names(attr.ino))
                assert names == sorted(set(names))
                for name in reversed(names):
                    child = overlay.lookup(attr.ino, name)
                    assert child.kind != Kind.DIR or overlay.parent_of(child.ino) == attr.ino
                    stack.append((join_path(path, name), child))
            xattrs = tuple((name, overlay.getxattr(attr.ino, name)) for name in overlay.listxattr(attr.ino))
            found[path] = Thing(
                attr.kind, attr.mode, (attr.uid, attr.gid), attr.mtime_ns, content, attr.rdev, xattrs, group
            )
        return found

    def picture_of(self, version: Version) -> Picture:
        """Returns everything a version has, its sums and links checked."""
        root = version.commit.root
        links = map_items(self.store, LINKS, version.commit.links)
        leaders = {link.name: link.leader for link in links}
        found = {b"": self._thing(b"", None, root, b"")}
        linked: set[bytes] = set()
        for path, directory, entry in walk(self.store, root):
            if entry.linked:
                linked.add(path)
            found[path] = self._thing(path, directory, entry, leaders[path] if entry.linked else b"")
        assert set(leaders) == linked
        return found

    def _thing(self, path: bytes, directory: Entry | None, entry: Entry, group: bytes) -> Thing:
        content = b""
        if entry.kind == Kind.FILE:
            assert directory is not None
            reader = FileReader(self.store, file_content(self.store, directory, entry))
            content = bytes(reader.read(0, entry.size + 1))
            assert len(content) == entry.size
        elif entry.kind == Kind.SYMLINK:
            content = entry.content
        return Thing(
            entry.kind, entry.mode, (entry.uid, entry.gid), entry.mtime_ns, content, entry.rdev, entry.xattrs, group
        )


@contextmanager
def working_layer(directory: Path, *, ino_bits: int = INO_BITS) -> Iterator[Bench]:
    """Makes a store and a working layer in a directory, closes both, and checks that the layer closes its files."""
    tables = Tables(directory / "index", INDEX_TABLES, map_bytes=1 << 28)
    try:
        store = ObjectStore(MemoryBackend(), Index(tables), cache_bytes_max=1 << 24)
        bench = Bench(directory / "work", store, ino_bits=ino_bits)
        try:
            yield bench
        finally:
            bench.close()
        assert not [path for path in open_paths() if path.startswith(str(bench.directory))]
    finally:
        tables.close()
