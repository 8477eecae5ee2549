"""The working layer: what a branch's newest version looks like with everything that was changed since.

All methods may be called from any thread. Each change is in the journal, in one system call, before it returns; `sync`
makes it durable (docs/durability.md, W1 to W4). What is committed is read by id and never changed (W9). Errors are
those of vfs/errors.py, or OSError where the journal's disk has one (then nothing changed).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Conflict, NotADirectory, NotFound, VfsError
from vfs.model.ids import Buffer
from vfs.model.objects import Entry, Kind, Version
from vfs.overlay import content, freezing, namespace, replacing
from vfs.overlay.changes import Change, Compared, changes, compare, compare_below, is_clean
from vfs.overlay.compaction.compactor import Compactor
from vfs.overlay.freezing import Frozen
from vfs.overlay.journal.durable_files import OnStep
from vfs.overlay.namespace import Listed
from vfs.overlay.nodes import Attr, CommittedFile
from vfs.overlay.numbers import INO_BITS
from vfs.overlay.open_journals import Consumed, RecoveryReport
from vfs.overlay.opening import Opened, open_working_layer
from vfs.overlay.state import Invalidation
from vfs.store.object_store import ObjectSource

log = logging.getLogger(__name__)

_CLOCK_REALTIME_COARSE = 5
"""Linux's number; the library has no name for it."""


def kernel_time_ns() -> int:
    """Returns the time by the clock that the kernel gives files their times by, which moves on with its timer.

    A mount is told times as well (`touch`): by a finer clock what is written before would seem newer.
    """
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


class Overlay:
    """The working layer of one branch, open."""

    def __init__(self, opened: Opened, branch: str) -> None:
        self._state = opened.state
        self._lock_fd = opened.lock_fd
        self.lock = threading.RLock()
        """Held by every method while it looks or changes; whoever holds it sees no one else's change."""
        self._unfinished: tuple[Frozen, Version, Version | None] | None = None
        self.compactor = Compactor(self._state, self.lock)
        self.branch = branch
        self.recovery: RecoveryReport = opened.report

    @classmethod
    def open(
        cls,
        directory: RootedPath,
        source: ObjectSource,
        base: Version | None,
        *,
        branch: str,
        consumed_generation: int,
        consumed: Callable[[], Consumed],
        on_step: OnStep | None = None,
        ino_bits: int = INO_BITS,
        now: Callable[[], int] = kernel_time_ns,
        passes_damage: bool = False,
    ) -> Self:
        """Opens the working layer in a directory, made if it is not there; `recovery` says what that took.

        `base`: the branch's head. `consumed_generation`: the last generation that an operation of the branch's log
        consumed (0: none); `consumed` returns what became of it, and is called only if this layer does not know yet.
        Raises Busy if another process has the layer open, Corrupt if it is damaged (with `passes_damage` the undamaged
        records are written anew instead).
        """
        opened = open_working_layer(
            directory,
            source,
            base,
            branch=branch,
            consumed_generation=consumed_generation,
            consumed=consumed,
            on_step=on_step,
            ino_bits=ino_bits,
            now=now,
            passes_damage=passes_damage,
        )
        return cls(opened, branch)

    def close(self, *, compacts: bool = True) -> None:
        """Makes everything durable and lets go of the working layer; once is enough, twice does no harm.

        `compacts`: first, where that is quick and saves the next opening much."""
        self.compactor.stop()
        with self.lock:
            if self._lock_fd < 0:
                return
            if compacts:
                self.compactor.run_at_end()
            try:
                for journal in self._state.journals.values():
                    if journal.is_removed:
                        journal.close()
                    else:
                        journal.finish()
                self._state.base_file.finish()
            finally:
                self._unlock()

    def _unlock(self) -> None:
        fd, self._lock_fd = self._lock_fd, -1
        os.close(fd)

    def abandon(self) -> None:
        """Lets go of the working layer as a killed process would: nothing is written or made durable."""
        self.compactor.stop()
        with self.lock:
            if self._lock_fd < 0:
                return
            for journal in (*self._state.journals.values(), self._state.base_file):
                journal.close()
            self._unlock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_closed(self) -> bool:
        """Whether it has been closed, or abandoned."""
        return self._lock_fd < 0

    @property
    def base(self) -> Version | None:
        """The version that the working layer stands on (durably, or as soon as the disk has room for that step)."""
        unfinished = self._unfinished
        return unfinished[1] if unfinished is not None else self._state.base

    @property
    def position(self) -> tuple[int, int]:
        """A value that grows with every change: where two are equal, nothing has changed between."""
        with self.lock:
            return self._state.journal.generation - self.compactor.generations, self._state.journal.seq

    # Looking.

    def lookup(self, parent: int, name: bytes, listed: Listed | None = None) -> Attr:
        """Returns the attributes of what a name stands for. Whoever looks up says `forget` when done with the inode.

        `listed` is what `listing` gave with the name, whatever has changed since.
        """
        with self.lock:
            return namespace.lookup(self._state, parent, name, listed)

    def find(self, path: bytes) -> Attr | None:
        """Returns the attributes of what is at a path, or None. Not looked up thereby: there is nothing to forget."""
        with self.lock:
            try:
                inode = namespace.resolve_path(self._state, path)
            except (NotFound, NotADirectory):
                return None
            attr = inode.attr()
            self._state.release(inode.ino)
            return attr

    @contextlib.contextmanager
    def opened(self, path: bytes) -> Iterator[Attr | None]:
        """Gives the attributes of what is at a path, or None; the number is good until the end, like an open file's."""
        attr: Attr | None = None
        with self.lock, contextlib.suppress(NotFound, NotADirectory):
            attr = namespace.resolve_path(self._state, path).attr()
            self.open_file(attr.ino)
        try:
            yield attr
        finally:
            if attr is not None:
                self.close_file(attr.ino)

    def forget(self, ino: int) -> None:
        """Says that an inode number that was looked up is not referred to any more (other than by open files)."""
        with self.lock:
            self._state.held.discard(ino)
            self._state.release(ino)

    def getattr(self, ino: int) -> Attr:
        """Returns an inode's attributes."""
        with self.lock:
            return self._state.resolve(ino).attr()

    def names(self, ino: int, after: bytes | None = None) -> Iterator[bytes]:
        """Yields a directory's names in order, from the first above `after`; a few are loaded at a time.

        What appears or vanishes meanwhile may be yielded or not; anything else is yielded exactly once.
        """
        with self.lock:
            return self._state.names(self._state.resolve_directory(ino), after)

    def listing(self, ino: int, after: bytes | None = None) -> Iterator[tuple[bytes, Listed | None]]:
        """Yields what `names` yields, each with what `lookup` takes so that it need not search for the name again."""
        with self.lock:
            return namespace.listing(self._state, ino, after)

    def parent_of(self, ino: int) -> int:
        """Returns the number of the directory that an inode is in; the root is in itself."""
        with self.lock:
            return self._state.parent_of(ino)

    def path_of(self, ino: int) -> bytes:
        """Returns an inode's path (of hard links: one of them); raises NotFound for an unlinked one."""
        with self.lock:
            return self._state.path_of(ino)

    def readlink(self, ino: int) -> bytes:
        """Returns where a symbolic link leads."""
        with self.lock:
            return namespace.readlink(self._state, ino)

    # Names.

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Attr:
        """Makes a file, fifo, socket or device; `mode` has the file-type bits (none: a file). Looked up thereby."""
        with self.lock:
            return namespace.mknod(self._state, parent, name, mode, rdev, (uid, gid))

    def mkdir(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Attr:
        """Makes a directory. Looked up thereby."""
        with self.lock:
            return namespace.create(self._state, parent, name, Kind.DIR, mode, (uid, gid))

    def symlink(self, parent: int, name: bytes, target: bytes, uid: int, gid: int) -> Attr:
        """Makes a symbolic link. Looked up thereby."""
        with self.lock:
            return namespace.symlink(self._state, parent, name, target, (uid, gid))

    def link(self, ino: int, new_parent: int, new_name: bytes) -> Attr:
        """Gives an inode one more name. Looked up thereby."""
        with self.lock:
            return namespace.link(self._state, ino, new_parent, new_name)

    def unlink(self, parent: int, name: bytes) -> None:
        """Removes a name of anything but a directory."""
        with self.lock:
            namespace.unlink(self._state, parent, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Removes an empty directory."""
        with self.lock:
            namespace.rmdir(self._state, parent, name)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0) -> None:
        """Moves a name in place of another; flags as in renameat2: 1 if there is none, 2 the two change places."""
        with self.lock:
            namespace.rename(self._state, parent, name, new_parent, new_name, flags)

    # Attributes.

    def setattr(
        self,
        ino: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
    ) -> Attr:
        """Sets the attributes that are given and returns all."""
        with self.lock:
            return namespace.set_attributes(
                self._state,
                ino,
                mode=mode,
                uid=uid,
                gid=gid,
                size=size,
                atime_ns=atime_ns,
                mtime_ns=mtime_ns,
                ctime_ns=ctime_ns,
            )

    def getxattr(self, ino: int, name: bytes) -> bytes:
        """Returns an extended attribute; raises NoAttribute."""
        with self.lock:
            return namespace.get_xattr(self._state, ino, name)

    def setxattr(self, ino: int, name: bytes, value: bytes) -> None:
        """Sets an extended attribute."""
        with self.lock:
            namespace.set_xattr(self._state, ino, name, value)

    def listxattr(self, ino: int) -> list[bytes]:
        """Returns the names of the extended attributes, sorted."""
        with self.lock:
            return [name for name, _ in namespace.xattrs(self._state, ino)]

    def removexattr(self, ino: int, name: bytes) -> None:
        """Removes an extended attribute; raises NoAttribute."""
        with self.lock:
            namespace.set_xattr(self._state, ino, name, None)

    # Content.

    def open_file(self, ino: int) -> CommittedFile | None:
        """Counts an open file, whose inode stays readable and writable when its last name goes.

        Returns where the base version has it, None if something has changed it.
        """
        with self.lock:
            unchanged = content.unchanged_file(self._state, ino)
            opens = self._state.opens
            opens[ino] = opens.get(ino, 0) + 1
            return unchanged

    def close_file(self, ino: int) -> None:
        """Takes one `open_file` back."""
        with self.lock:
            opens = self._state.opens
            left = opens.get(ino, 0) - 1
            if left > 0:
                opens[ino] = left
            else:
                opens.pop(ino, None)
                self._state.release(ino)

    def read(self, ino: int, offset: int, size: int) -> Buffer:
        """Returns bytes of a file; fewer only at its end. Not to be written to; disk and decompression hold no lock."""
        with self.lock:
            pieces = content.plan_read(self._state, ino, offset, size)
            journals = content.hold_journals(pieces)
        try:
            return content.fetch(pieces)
        finally:
            if journals:
                with self.lock:
                    for journal in journals:
                        journal.release()

    def write(self, ino: int, offset: int, data: Buffer) -> int:
        """Puts bytes into a file and returns how many; `data` is not kept."""
        with self.lock:
            return content.write(self._state, ino, offset, data)

    def sync(self) -> None:
        """Makes every change so far durable (docs/durability.md, W4)."""
        with self.lock:
            journals = [journal for journal in self._state.journals.values() if not journal.is_removed]
            for journal in journals:
                journal.hold()
        try:
            for journal in sorted(journals, key=lambda journal: journal.generation):
                journal.sync()
            with self.lock, contextlib.suppress(OSError):
                self._state.journal.mark_synced()
        finally:
            with self.lock:
                for journal in journals:
                    journal.release()

    def unsynced_bytes(self) -> int:
        """Returns how much `sync` has to make durable; without bound while it waits for another one."""
        with self.lock:
            return sum(journal.unsynced_bytes for journal in self._state.journals.values() if not journal.is_removed)

    # Versions.

    def is_clean(self) -> bool:
        """Whether nothing differs from the base version, times of directories apart."""
        with self.lock:
            self._finish()
            return is_clean(self._state)

    def changes(self) -> Iterator[Change]:
        """Yields what differs from the base version: names in order, a directory before what is in it.

        The cost follows what was changed. Changes that are made meanwhile may be seen or not.
        """
        with self.lock:
            self._finish()
        return changes(self._state, self.lock)

    def compare(self, root: Entry, path: bytes) -> Compared:
        """Returns what a version with this root entry, any version, and the working layer have at a path."""
        with self.lock:
            self._finish()
        return compare(self._state, self.lock, root, path)

    def compare_below(self, compared: Compared) -> Iterator[Compared]:
        """Yields what may differ in the directories that stand at a path, by name; the cost follows what differs."""
        return compare_below(self._state, self.lock, compared)

    def freeze(self) -> Frozen:
        """Takes a picture of the working layer for `snapshot`, one at a time (Busy); `complete` or `thaw` follows."""
        with self.lock:
            self._require_unfrozen()
            return freezing.freeze(self._state)

    def complete(self, frozen: Frozen, version: Version, below: Version | None = None) -> None:
        """Lets the working layer stand on the version that a frozen layer has become; drops the layer and its journal.

        `below`: the commit that has all of the frozen layer, where the version has less. Both must be durable. There is
        nothing to look up again. Without room on the disk, or memory, for the last step, the layer stays frozen until
        the next commit, question about changes or opening takes it (docs/durability.md, W7).
        """
        with contextlib.suppress(MemoryError):
            # It spares others the lock for so long; what is not prepared is worked out with the lock held.
            with self.lock:
                referred = [*self._state.held, *self._state.opens]
            frozen.prepare(referred)
        with self.lock:
            freezing.check_current(self._state, frozen)
            self._unfinished = frozen, version, below
            try:
                self._finish()
            except (OSError, MemoryError) as error:
                why = error if isinstance(error, OSError) else "no memory is left"
                log.warning("version %s is durable, but its journal stays for now: %s", version.name, why)

    def _require_unfrozen(self) -> None:
        """Makes sure that no layer is frozen, unless a commit is under way."""
        self.compactor.cancel_and_reclaim()
        self._finish()

    def _finish(self) -> None:
        """Takes the last step of a commit that is durable; raises OSError where there is still no room for it."""
        if self._unfinished is not None:
            freezing.complete(self._state, *self._unfinished)
            self._unfinished = None

    def thaw(self, frozen: Frozen) -> None:
        """Undoes `freeze` after a commit has failed: nothing is lost, neither before it nor since (durability, W8)."""
        with self.lock:
            freezing.thaw(self._state, frozen)

    def set_base(self, version: Version) -> list[Invalidation]:
        """Lets a working layer without changes stand on another version; returns what the kernel must look up again.

        Raises Conflict where there are changes, Busy during a commit.
        """
        with self.lock:
            self._require_unfrozen()
            if not is_clean(self._state):
                raise Conflict("the working layer has uncommitted changes")
            return replacing.set_base(self._state, version)

    def begin_replacing(self) -> int:
        """Begins a new generation and returns the one before: what an operation takes up that `replace` then follows.

        Whoever calls it holds `lock` until then. If the operation fails, nothing has changed. Raises Busy in a commit.
        """
        with self.lock:
            self._require_unfrozen()
            return replacing.start(self._state)

    def replace(self, version: Version | None, root: Entry, links: bytes) -> list[Invalidation]:
        """Lets the working layer stand on a version and show a committed tree; what it held is gone.

        The operation that says so is durable, and has taken up what `begin_replacing` returned. Returns what the kernel
        must look up again. After an error nothing can be changed any more before the layer is opened again, which
        then makes it good.
        """
        with self.lock:
            try:
                return replacing.replace(self._state, version, root, links)
            except (OSError, VfsError):
                self._state.journal.stop()
                raise

    def graft(
        self,
        path: bytes,
        entry: Entry | None,
        directory: Entry | None = None,
        links: bytes = b"",
        source_path: bytes | None = None,
    ) -> list[Invalidation]:
        """Puts committed content at a path, in place of whatever is there, without copying; None removes the path.

        `directory` is the committed directory that holds `entry` (not needed for directories), `links` the link map of
        their version, `source_path` the entry's path there (None: the same). The empty path is the root. Hard links
        among what is put stay so; those to names elsewhere are cut. The directory that is to hold the path must exist.
        Returns what the kernel must look up again. Raises Busy during a commit.
        """
        with self.lock:
            self._require_unfrozen()
            source_path = path if source_path is None else source_path
            stale = replacing.graft(self._state, path, entry, directory, links, source_path)
            self.compactor.reclaim()
            return stale
