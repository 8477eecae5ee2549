"""The working layer: a branch's newest version with all uncommitted changes over it (copy-on-write).

All methods may be called from any thread. Each change is in the journal, in one system call, before it returns; `sync`
makes it durable (docs/durability.md, W1 to W4). Committed content is read by id and never changed (W9). Errors are
those of vfs/errors.py, or OSError if the journal's disk fails (then nothing has changed).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from vfs.backend.durable import OnStep
from vfs.backend.rooted_path import RootedPath
from vfs.errors import Conflict, NotADirectory, NotFound, VfsError
from vfs.model.ids import Buffer
from vfs.model.objects import Entry, Kind, Version
from vfs.overlay import content, freezing, namespace, replacing, syncing
from vfs.overlay.commit_completion import CommitCompletion
from vfs.overlay.compaction.compactor import Compactor
from vfs.overlay.freezing import Frozen
from vfs.overlay.inode_numbers import INO_BITS
from vfs.overlay.journal.open_file import wait_until_closed
from vfs.overlay.kernel_clock import kernel_time_ns
from vfs.overlay.layer_changes import Change, Compared, changes, compare, compare_below, is_clean
from vfs.overlay.layer_nodes import Attr, CommittedFile
from vfs.overlay.namespace import Listed
from vfs.overlay.open_journals import Consumed, RecoveryReport
from vfs.overlay.opening import Opened, layer_lock, open_working_layer
from vfs.overlay.state import Invalidation
from vfs.store.object_store import ObjectSource

if TYPE_CHECKING:
    from vfs.store.remote_blocks import RemoteBlocks


class Overlay:
    """The working layer of one branch, open."""

    def __init__(self, opened: Opened, branch: str, remote: RemoteBlocks | None) -> None:
        self._state = opened.state
        self._lock_fd = opened.lock_fd
        self.lock = layer_lock(remote)
        """Held by every method; a caller that holds it sees no change by another thread."""
        self._completion = CommitCompletion(self._state)
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
        remote: RemoteBlocks | None = None,
    ) -> Self:
        """Opens the working layer in a directory, created if it is not there; `recovery` reports what that took.

        `base`: the branch's head. `consumed_generation`: the last generation that an operation of the branch's log
        consumed (0: none); `consumed` returns what became of it, and is called only if this layer does not know yet.
        `remote`: how the source's blocks are read, if not from a local backend (see LayerLock).
        Raises Busy if another process has the layer open, Corrupt if it is damaged (with `passes_damage` the undamaged
        records are rewritten instead).
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
        return cls(opened, branch, remote)

    def close(self, *, compacts: bool = True) -> None:
        """Makes everything durable and closes the layer; idempotent. `compacts`: compacts first, if worth it."""
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
        wait_until_closed()
        self._state.mark.close()
        fd, self._lock_fd = self._lock_fd, -1
        os.close(fd)

    def abandon(self) -> None:
        """Closes the working layer as a kill would: writes nothing and makes nothing durable."""
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
        """True if it was closed or abandoned."""
        return self._lock_fd < 0

    @property
    def base(self) -> Version | None:
        """The base version (durably, or as soon as the disk has space for that step)."""
        return self._completion.version or self._state.base

    @property
    def position(self) -> tuple[int, int]:
        """A value that grows with every change: if two are equal, nothing has changed in between."""
        with self.lock:
            return self._state.journal.generation - self.compactor.generations, self._state.journal.seq

    # Reading names and attributes.

    def lookup(self, parent: int, name: bytes, listed: Listed | None = None) -> Attr:
        """Returns the attributes of the inode with a name, and counts it as looked up; the caller must `forget` it.

        `listed`: the value that `listing` yielded with the name; it may be outdated.
        """
        with self.lock:
            return namespace.lookup(self._state, parent, name, listed)

    def find(self, path: bytes) -> Attr | None:
        """Returns the attributes of the inode at a path, or None; it does not count as looked up."""
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
        """Yields the attributes of the inode at a path, or None; the number is valid until exit."""
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
        """Records that the caller no longer refers to an inode that was looked up (open files still may)."""
        with self.lock:
            self._state.held.discard(ino)
            self._state.release(ino)

    def getattr(self, ino: int) -> Attr:
        """Returns an inode's attributes."""
        with self.lock:
            return self._state.resolve(ino).attr()

    def names(self, ino: int, after: bytes | None = None) -> Iterator[bytes]:
        """Yields a directory's names in order, from the first above `after`; loads a few at a time.

        Names that are added or removed meanwhile may be yielded or not; all others are yielded exactly once.
        """
        with self.lock:
            return self._state.names(self._state.resolve_directory(ino), after)

    def listing(self, ino: int, after: bytes | None = None) -> Iterator[tuple[bytes, Listed | None]]:
        """Yields the same names as `names`, each with a value that spares `lookup` the search for the name."""
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
        """Returns the target of a symbolic link."""
        with self.lock:
            return namespace.readlink(self._state, ino)

    # Names.

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Attr:
        """Creates a file, fifo, socket or device; `mode` has the file-type bits (none: a file). Counts as looked up."""
        with self.lock:
            return namespace.mknod(self._state, parent, name, mode, rdev, (uid, gid))

    def mkdir(self, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Attr:
        """Creates a directory, which counts as looked up."""
        with self.lock:
            return namespace.create(self._state, parent, name, Kind.DIR, mode, (uid, gid))

    def symlink(self, parent: int, name: bytes, target: bytes, uid: int, gid: int) -> Attr:
        """Creates a symbolic link, which counts as looked up."""
        with self.lock:
            return namespace.symlink(self._state, parent, name, target, (uid, gid))

    def link(self, ino: int, new_parent: int, new_name: bytes) -> Attr:
        """Gives an inode one more name; it counts as looked up."""
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
        """Renames, replacing the target; flags as in renameat2: 1 (NOREPLACE) refuses a target, 2 (EXCHANGE) swaps."""
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
        """Counts an open file, whose inode stays readable and writable after its last name was removed.

        Returns the file in the base version, None if it was changed.
        """
        with self.lock:
            return content.open_file(self._state, ino)

    def close_file(self, ino: int) -> None:
        """Ends one `open_file`."""
        with self.lock:
            content.close_file(self._state, ino)

    def read(self, ino: int, offset: int, size: int) -> Buffer:
        """Returns bytes of a file, read-only; fewer only at its end. Reads and decompresses without the lock."""
        return content.read(self._state, self.lock, ino, offset, size)

    def write(self, ino: int, offset: int, data: Buffer) -> int:
        """Writes bytes into a file and returns how many; keeps no reference to `data`."""
        with self.lock:
            return content.write(self._state, ino, offset, data)

    def sync(self) -> None:
        """Makes every change so far durable (docs/durability.md, W4)."""
        syncing.sync(self._state, self.lock)

    def unsynced_bytes(self) -> int:
        """Returns the number of bytes that `sync` has to make durable; sys.maxsize or more while another sync runs."""
        with self.lock:
            return syncing.unsynced_bytes(self._state)

    # Versions.

    def is_clean(self) -> bool:
        """Returns True if nothing differs from the base version, times of directories apart."""
        with self.lock:
            self._completion.finish()
            return is_clean(self._state)

    def changes(self) -> Iterator[Change]:
        """Yields the differences from the base version, a directory before its entries; later ones perhaps."""
        with self.lock:
            self._completion.finish()
        return changes(self._state, self.lock)

    def compare(self, root: Entry, path: bytes) -> Compared:
        """Compares a path of any version (its root entry is `root`) with the working layer."""
        with self.lock:
            self._completion.finish()
        return compare(self._state, self.lock, root, path)

    def compare_below(self, compared: Compared) -> Iterator[Compared]:
        """Yields the entries that may differ in the directories at a path; the cost follows the differences."""
        return compare_below(self._state, self.lock, compared)

    def freeze(self) -> Frozen:
        """Freezes the working layer for `snapshot`; call `complete` or `thaw` after it. Raises Busy if it is frozen."""
        with self.lock:
            self._require_unfrozen()
            return freezing.freeze(self._state)

    def complete(self, frozen: Frozen, version: Version, below: Version | None = None) -> None:
        """Makes the version that a frozen layer was committed as the base version; drops the layer and its journals.

        `below`: the commit that has all of the frozen layer, if the version has less. Both must be durable. No caches
        need invalidation. If the last step finds no disk space or memory, the layer stays frozen until the next
        commit, query for changes or opening repeats the step (docs/durability.md, W7).
        """
        with contextlib.suppress(MemoryError):
            # Done without the lock, which others can take meanwhile; the rest is computed with it.
            with self.lock:
                referred = [*self._state.held, *self._state.opens]
            frozen.prepare(referred)
        with self.lock:
            self._completion.complete(frozen, version, below)

    def _require_unfrozen(self) -> None:
        """Cancels a compaction and finishes a durable commit: then a layer is frozen only during a commit."""
        self.compactor.cancel_and_reclaim()
        self._completion.finish()

    def thaw(self, frozen: Frozen) -> None:
        """Undoes `freeze` after a failed commit: no change is lost, earlier or later (docs/durability.md, W8)."""
        with self.lock:
            freezing.thaw(self._state, frozen)

    def set_base(self, version: Version) -> list[Invalidation]:
        """Gives a working layer without changes another base version; returns the names to invalidate.

        Raises Conflict if there are changes, Busy during a commit.
        """
        with self.lock:
            self._require_unfrozen()
            if not is_clean(self._state):
                raise Conflict("the working layer has uncommitted changes")
            return replacing.set_base(self._state, version)

    def begin_replacing(self) -> int:
        """Begins a new generation and returns the one before, for an operation to consume; then call `replace`.

        The caller holds `lock` until then. If the operation fails, nothing has changed. Raises Busy during a commit.
        """
        with self.lock:
            self._require_unfrozen()
            return replacing.start(self._state)

    def replace(self, version: Version | None, root: Entry, links: bytes) -> list[Invalidation]:
        """Gives the working layer a base version and a committed tree as its content; discards its changes.

        The operation for it is durable, and has consumed the generation that `begin_replacing` returned. Returns the
        names to invalidate. After an error the layer is read-only; the next opening finishes the replacement.
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
        """Grafts committed content at a path in place of the present one, without copying; None removes the path.

        `directory` is the committed directory that holds `entry` (not needed for directories), `links` the link map of
        their version, `source_path` the entry's path there (None: the same). The empty path is the root. Hard links
        within the content are kept; those to names elsewhere are broken. The parent directory must exist. Returns the
        names to invalidate. Raises Busy during a commit.
        """
        with self.lock:
            self._require_unfrozen()
            source = path if source_path is None else source_path
            invalidations = replacing.graft(self._state, path, entry, directory, links, source)
            self.compactor.reclaim()
            return invalidations
