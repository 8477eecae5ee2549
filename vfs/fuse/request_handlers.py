"""The requests of the kernel, one short method each: translate, delegate, reply.

Which part answers is decided in vfs/fuse/inode_routing.py. Every handler has an error boundary: errors of this project
become their errno, any other one EIO and a traceback in the log, since an exception that reached the binding would end
the mount.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields, StatvfsData

from vfs.errors import Corrupt
from vfs.fuse.compact_file_inodes import FileTable
from vfs.fuse.fetching import Fetching
from vfs.fuse.handles import Handles, OpenDirectory, VersionReader, WorkingFile
from vfs.fuse.inode_pruning import Pruner
from vfs.fuse.inode_routing import InodeRouting
from vfs.fuse.inodes import ROOT
from vfs.fuse.layers import Layers
from vfs.fuse.listings import UnopenedListings
from vfs.fuse.read_only_tree import ReadOnlyTree
from vfs.fuse.recorder import Recorder
from vfs.fuse.request_errors import errno_of
from vfs.fuse.run_attribute import RUN_XATTR, run_attribute
from vfs.fuse.sync_scheduling import SyncScheduler
from vfs.fuse.view.version_inodes import VersionDirectory
from vfs.fuse.view.virtual import VirtualDirectory
from vfs.fuse.working_tree import WorkingTree
from vfs.model.ids import Buffer
from vfs.model.layout import MARK
from vfs.model.names import show_path
from vfs.model.objects import NAME_BYTES_MAX
from vfs.native.session import HANDLE, Locator, NameSource
from vfs.overlay.overlay import Overlay
from vfs.repo.file_metadata import MOUNT_XATTR
from vfs.repo.repository import Repository
from vfs.store.remote_blocks import RemoteBlocks

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[Concatenate["VfsOperations", P], Coroutine[Any, Any, R]]

EXCHANGE = 2
"""RENAMEEXCHANGE of renameat2: both names are there afterwards."""
_SETTABLE = ("size", "mode", "mtime", "atime", "uid", "gid", "ctime")

ReaddirReply = Callable[[pyfuse3.ReaddirToken, bytes, EntryAttributes, int], bool]
"""The binding's function that adds an entry of a listing, and the position behind it, to a reply."""


def error_boundary(handler: Handler[P, R]) -> Handler[P, R]:
    """Puts an error boundary around a handler: it raises nothing but FUSEError (and cancellation).

    Blocks that are not local are fetched, and the handler called again: it changes nothing before its last read.
    """

    @functools.wraps(handler)
    async def guard(self: VfsOperations, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if not self.fetching.is_remote:
                return await handler(self, *args, **kwargs)
            return await self.fetching.answer(lambda: handler(self, *args, **kwargs))
        except FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 - the error boundary: logged and answered as EIO
            number = errno_of(error, handler.__name__)
        raise FUSEError(number)

    return guard


class VfsOperations(pyfuse3.Operations):
    """One mount's requests. Runs in the event loop's thread; only `fsync` and opening a branch leave it.

    `layers` is None for a read-only mount. `store_path` is where free space is measured.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(
        self,
        read_only: ReadOnlyTree,
        layers: Layers | None,
        store_path: Path,
        *,
        reply: ReaddirReply = pyfuse3.readdir_reply,
        remote: RemoteBlocks | None = None,
        recorder: Recorder | None = None,
        repository: Repository | None = None,
    ) -> None:
        super().__init__()
        self._reply = reply
        self._read_only = read_only
        self._layers = layers
        self._store_path = store_path
        self._repository = repository
        self._introduction = b""
        self._handles = Handles()
        self._unopened: UnopenedListings[Any, Any] = UnopenedListings()
        self._sync_scheduler = SyncScheduler()
        self.recorder = recorder
        """What records runs; None for a read-only mount, which no command reaches."""
        self.fetching = Fetching(remote)
        self._routing = InodeRouting(read_only, layers, self._handles, self.fetching)
        self.native_reads: Locator | None = None
        """Where reads lie that may be answered natively; None: all come here."""
        self.native_names: NameSource | None = None
        """Where names lie that may be answered natively; None: all come here."""
        self.drop_places: Callable[[], None] = lambda: None
        """Drops what is kept of such places, with the packs that it keeps open."""

    def introduce(self, introduction: bytes) -> None:
        """Sets the value of the attribute that describes the mount: an Introduction as JSON."""
        self._introduction = introduction

    def enforce_access_lists(self, are_enforced: bool) -> None:
        """Sets, before serving, if the kernel enforces access lists in this mount."""
        self.enable_acl = are_enforced
        if self._layers is not None:
            self._layers.enforce_access_lists(are_enforced)

    pruner: Pruner
    """What bounds the number of known inodes; set before serving."""

    files: FileTable[VersionDirectory]
    """The files of versions that the kernel knows; set before serving."""

    @property
    def known_inodes(self) -> int:
        """How many inodes the kernel has looked up and not forgotten."""
        return self._read_only.known_inodes + (self._layers.known_inodes if self._layers is not None else 0)

    @property
    def open_handles(self) -> int:
        """How many files and directories the kernel has open."""
        return len(self._handles)

    def changing_directories(self) -> Iterator[int]:
        """Yields the directories that the kernel may know, outside working layers, whose names change."""
        return self._read_only.changing_directories()

    def writers(self, overlay: Overlay) -> set[int]:
        """Returns the inodes that programs have open for writing in a working layer; any thread may ask."""
        return self._handles.writers(overlay)

    def told(self, ino: int, parent: int, name: bytes) -> None:
        """Called when the kernel is told of a directory natively, at a name in another."""

    def _recording(self) -> Recorder | None:
        """Returns what records runs while one is in progress, else None."""
        recorder = self.recorder
        return recorder if recorder is not None and recorder.is_active else None

    def _note_change(
        self, ctx: RequestContext, working: WorkingTree, parent: int, name: bytes, *, gone: bool = False
    ) -> None:
        """Notes that a program made, replaced or removed a name."""
        recorder = self._recording()
        if recorder is not None:
            recorder.changed(ctx.pid, working.overlay, parent, name, removed=gone)

    # Names and attributes.

    @error_boundary
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        side, parent = self._routing.find(parent_inode) or await self._routing.open_branch(parent_inode)
        recorder = self._recording()
        if recorder is not None and parent_inode == ROOT and name.startswith(MARK):
            version = self._read_only.version_named(name)
            if version is not None:
                recorder.named(ctx.pid, version)
        return side.lookup(parent, name)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        if (recorder := self._recording()) is not None:
            recorder.take_native_opens()
        for ino, lookups in inode_list:
            try:
                await self._routing.forget(ino, lookups)
            except Exception:
                log.exception("forget: unexpected error")

    @error_boundary
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        found = self._routing.find(inode)
        if found is None:
            # Listing the branches opens none of them.
            return self._routing.writable_layers().attributes(inode)
        return found[0].getattr(found[1])

    @error_boundary
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        working, number = await self._routing.writable(inode)
        if not any(getattr(fields, f"update_{name}") for name in _SETTABLE):
            is_written = number in self._handles.writers(working.overlay)
            return working.take_privileges(number, ctx.uid, is_written=is_written)
        recorder = self._recording()
        if recorder is not None and fields.update_size:
            recorder.resized(ctx.pid, working.overlay, number)
        return working.setattr(number, attr, fields)

    @error_boundary
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        side, number = self._routing.find(inode) or await self._routing.open_branch(inode)
        return side.readlink(number)

    # Changes of names.

    @error_boundary
    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        working, parent = await self._routing.writable(parent_inode)
        made = working.make(parent, name, mode, rdev, ctx)
        self._note_change(ctx, working, parent, name)
        return made

    @error_boundary
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        working, parent = await self._routing.writable(parent_inode)
        return working.make_directory(parent, name, mode, ctx)

    @error_boundary
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        working, parent = await self._routing.writable(parent_inode)
        working.unlink(parent, name)
        self._note_change(ctx, working, parent, name, gone=True)

    @error_boundary
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        working, parent = await self._routing.writable(parent_inode)
        working.rmdir(parent, name)

    @error_boundary
    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        working, parent = await self._routing.writable(parent_inode)
        made = working.make_symlink(parent, name, target, ctx)
        self._note_change(ctx, working, parent, name)
        return made

    @error_boundary
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        working, old = await self._routing.writable(parent_inode_old)
        target, new = await self._routing.writable(parent_inode_new)
        if target is not working:
            # Two branches are two filesystems to a program that moves a file: `mv` copies.
            raise FUSEError(errno.EXDEV)
        working.rename(old, name_old, new, name_new, flags)
        self._note_change(ctx, working, old, name_old, gone=not flags & EXCHANGE)
        self._note_change(ctx, working, new, name_new)

    @error_boundary
    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        working, parent = await self._routing.writable(new_parent_inode)
        found = self._routing.find(inode)
        if found is None or found[0] is not working:
            # A version, or another branch, is another filesystem to a program that makes a hard link.
            raise FUSEError(errno.EXDEV)
        made = working.link(found[1], parent, new_name)
        self._note_change(ctx, working, parent, new_name)
        return made

    # Files.

    @error_boundary
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        side, number = self._routing.find(inode) or await self._routing.open_branch(inode)
        recorder = self.recorder
        if isinstance(side, WorkingTree):
            file = side.open(number, flags)
            if recorder is not None and recorder.is_active:
                recorder.opened_working(ctx.pid, inode, side.overlay, number, flags)
            return FileInfo(fh=self._handles.add(file), keep_cache=True)
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise FUSEError(errno.EROFS)
        reader = side.open(number)
        if recorder is not None and recorder.is_active:
            recorder.opened_version(ctx.pid, inode, side.known(inode))
            recorder.know_thread(ctx.pid)
        return FileInfo(fh=self._handles.add(reader), keep_cache=True)

    @error_boundary
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        working, parent = await self._routing.writable(parent_inode)
        file, attr = working.create(parent, name, mode, flags, ctx)
        recorder = self._recording()
        if recorder is not None:
            recorder.opened_working(ctx.pid, attr.st_ino, working.overlay, file.ino, flags | os.O_TRUNC)
        return FileInfo(fh=self._handles.add(file), keep_cache=True), attr

    @error_boundary
    async def read(self, fh: int, off: int, size: int) -> Buffer:  # type: ignore[override]
        # Wider than the binding's annotation on purpose: any contiguous buffer is replied without a copy.
        handle = self._routing.file(fh)
        if isinstance(handle, VersionReader):
            try:
                return handle.reader.read(off, size)
            except Corrupt as error:
                log.error("read: %s of %s at byte %d: %s", show_path(handle.path), handle.version, off, error)
                raise FUSEError(error.errno) from None
        file = cast("WorkingFile", handle)
        return file.overlay.read(file.ino, off, size)

    @error_boundary
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        handle = self._routing.file(fh)
        if not isinstance(handle, WorkingFile):
            raise FUSEError(errno.EROFS)
        return handle.overlay.write(handle.ino, off, buf)

    @error_boundary
    async def flush(self, fh: int) -> None:
        # `close` has nothing to write. After ENOSYS the kernel does not ask again.
        raise FUSEError(errno.ENOSYS)

    @error_boundary
    async def release(self, fh: int) -> None:
        handle = self._routing.file(fh)
        self._handles.remove(fh)
        if isinstance(handle, WorkingFile):
            handle.overlay.close_file(handle.ino)

    @error_boundary
    async def fsync(self, fh: int, datasync: bool) -> None:
        handle = self._routing.file(fh)
        self.fetching.let_go()
        if isinstance(handle, WorkingFile):
            await self._sync_scheduler.sync(handle.overlay)

    # Directories.

    @error_boundary
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        side, number = self._routing.find(inode) or await self._routing.open_branch(inode)
        listing = side.listing(number)
        recorder = self._recording()
        if recorder is not None:
            if isinstance(side, WorkingTree):
                recorder.listed_working(ctx.pid, inode, side.overlay, number)
            else:
                recorder.listed_version(ctx.pid, inode, listing.directory)
                recorder.know_thread(ctx.pid)
        if isinstance(listing.directory, VirtualDirectory):
            # It may have to walk the whole history; the event loop serves other requests meanwhile.
            self.fetching.let_go()
            await self.fetching.run(listing.directory.prepare)
        return self._handles.add(OpenDirectory(side, listing))

    @error_boundary
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        if fh & HANDLE:
            await self._read_unopened(fh ^ HANDLE, start_id, token)
            return
        directory = self._routing.directory(fh)
        directory.side.read_listing(directory.listing, start_id, functools.partial(self._reply, token))

    async def _read_unopened(self, ino: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Answers a request for entries of a directory that was opened natively, or without a request."""
        listing, position, base = self._unopened.at(ino, start_id, self._read_only.unopened_listing)
        if isinstance(listing.directory, VirtualDirectory):
            await self.fetching.run(listing.directory.prepare)
        self._read_only.read_listing(
            listing, position, lambda name, attr, following: self._reply(token, name, attr, base + following)
        )

    @error_boundary
    async def releasedir(self, fh: int) -> None:
        self._handles.remove(fh)

    @error_boundary
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        directory = self._routing.directory(fh)
        self.fetching.let_go()
        if isinstance(directory.side, WorkingTree):
            await self._sync_scheduler.sync(directory.side.overlay)

    # The rest.

    @error_boundary
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        disk = os.statvfs(self._store_path)
        data = StatvfsData()
        for field in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"):
            setattr(data, f"f_{field}", getattr(disk, f"f_{field}"))
        data.f_namemax = NAME_BYTES_MAX
        return data

    @error_boundary
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        if name == MOUNT_XATTR and self._introduction:
            return self._introduction
        side, number = self._routing.find(inode) or await self._routing.open_branch(inode)
        if name == RUN_XATTR and self._repository is not None:
            return await run_attribute(self._repository, side, number)
        return bytes(side.get_xattr(number, name))

    @error_boundary
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        side, number = self._routing.find(inode) or await self._routing.open_branch(inode)
        names = side.list_xattrs(number)
        # As in local filesystems, only root can list and read these.
        return names if not ctx.uid else [name for name in names if not name.startswith(b"trusted.")]

    @error_boundary
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        working, number = await self._routing.writable(inode)
        working.set_xattr(number, name, value)

    @error_boundary
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        working, number = await self._routing.writable(inode)
        working.remove_xattr(number, name)
