"""The requests of the kernel, one short method each: translate, delegate, reply.

An inode number says which part answers: the working layer (`Working`) or what is read-only (`Committed`). Every method
is in a net: what this package raises on purpose becomes its errno, anything else EIO and a traceback in the log, since
an exception that reached the binding would end the mount.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields, StatvfsData

from vfs.errors import Corrupt, VfsError
from vfs.fuse.committed import Committed, CommittedListing
from vfs.fuse.handles import Handles, VersionReader, WorkingFile
from vfs.fuse.inodes import ROOT, WORKING_START
from vfs.fuse.listings import Listing
from vfs.fuse.made import MadeDirectory
from vfs.fuse.working import Working, WorkingListing
from vfs.model.ids import Buffer
from vfs.model.names import show_path
from vfs.model.objects import NAME_BYTES_MAX
from vfs.overlay.overlay import Overlay

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[Concatenate["VfsOperations", P], Coroutine[Any, Any, R]]

_SETTABLE = ("size", "mode", "mtime", "atime", "uid", "gid", "ctime")

ReaddirReply = Callable[[pyfuse3.ReaddirToken, bytes, EntryAttributes, int], bool]
"""The binding's function that takes an entry of a listing and the position behind it."""


def guarded(handler: Handler[P, R]) -> Handler[P, R]:
    """Puts a handler into the net: it raises nothing but FUSEError (and cancellation)."""

    @functools.wraps(handler)
    async def guard(self: VfsOperations, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except Exception as error:  # noqa: BLE001 - the net: logged and answered as EIO
            number = _errno_of(error, handler.__name__)
        raise FUSEError(number)

    return guard


def _errno_of(error: Exception, request: str) -> int:
    if isinstance(error, Corrupt):
        log.error("%s: %s", request, error)
        return error.errno
    if isinstance(error, VfsError):
        if error.hint:
            # An error number alone would not tell what to do instead.
            log.info("%s: %s. %s", request, error, error.hint)
        return error.errno
    if isinstance(error, OSError) and error.errno:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
            log.error("%s: %s", request, error)
        return error.errno
    log.error("%s: unexpected error", request, exc_info=error)
    return errno.EIO


class VfsOperations(pyfuse3.Operations):
    """One mount's requests. Runs in the event loop's thread; only `fsync` leaves it.

    `overlay` is None for a read-only mount. `store_path` is where free space is measured.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(
        self,
        committed: Committed,
        overlay: Overlay | None,
        store_path: Path,
        *,
        reply: ReaddirReply = pyfuse3.readdir_reply,
    ) -> None:
        super().__init__()
        self._reply = reply
        self._committed = committed
        self._overlay = overlay
        self._working = Working(overlay, committed) if overlay is not None else None
        self._store_path = store_path
        self._handles = Handles()

    def enforce_access_lists(self, are_enforced: bool) -> None:
        """Says, before serving, whether the mount was made so that the kernel enforces access lists."""
        self.enable_acl = are_enforced
        if self._working is not None:
            self._working.has_access_lists = are_enforced

    @property
    def known_inodes(self) -> int:
        """How many inodes the kernel has looked up and not forgotten."""
        return self._committed.known_inodes + (self._working.known_inodes if self._working is not None else 0)

    @property
    def open_handles(self) -> int:
        """How many files and directories the kernel has open."""
        return len(self._handles)

    def writers(self) -> set[int]:
        """Returns the inodes that programs have open for writing; may be called from any thread."""
        return self._handles.writers()

    def _side(self, ino: int) -> Working | Committed:
        if self._working is not None and (ino >= WORKING_START or ino == ROOT):
            return self._working
        return self._committed

    def _writable(self, ino: int) -> Working:
        """Returns the working layer where the inode is in it. Raises FUSEError(EROFS)."""
        if self._working is not None and (ino >= WORKING_START or ino == ROOT):
            return self._working
        raise FUSEError(errno.EROFS)

    # Names and attributes.

    @guarded
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._side(parent_inode).lookup(parent_inode, name)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, lookups in inode_list:
            try:
                self._side(ino).forget(ino, lookups)
            except Exception:
                log.exception("forget: unexpected error")

    @guarded
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._side(inode).getattr(inode)

    @guarded
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        working = self._writable(inode)
        if not any(getattr(fields, f"update_{name}") for name in _SETTABLE):
            return working.take_privileges(inode, ctx.uid, is_written=inode in self._handles.writers())
        return working.setattr(inode, attr, fields)

    @guarded
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return self._side(inode).readlink(inode)

    # Changes of names.

    @guarded
    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        return self._writable(parent_inode).make(parent_inode, name, mode, rdev, ctx)

    @guarded
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return self._writable(parent_inode).make_directory(parent_inode, name, mode, ctx)

    @guarded
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._writable(parent_inode).unlink(parent_inode, name)

    @guarded
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._writable(parent_inode).rmdir(parent_inode, name)

    @guarded
    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._writable(parent_inode).make_symlink(parent_inode, name, target, ctx)

    @guarded
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        self._writable(parent_inode_old)
        self._writable(parent_inode_new).rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @guarded
    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        working = self._writable(new_parent_inode)
        if self._side(inode) is not working:
            # A version is another filesystem to whoever wants one inode in both.
            raise FUSEError(errno.EXDEV)
        return working.link(inode, new_parent_inode, new_name)

    # Files.

    @guarded
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        side = self._side(inode)
        if isinstance(side, Working):
            return FileInfo(fh=self._handles.add(side.open(inode, flags)), keep_cache=True)
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise FUSEError(errno.EROFS)
        return FileInfo(fh=self._handles.add(side.open(inode)), keep_cache=True)

    @guarded
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        file, attr = self._writable(parent_inode).create(parent_inode, name, mode, flags, ctx)
        return FileInfo(fh=self._handles.add(file), keep_cache=True), attr

    @guarded
    async def read(self, fh: int, off: int, size: int) -> Buffer:  # type: ignore[override]
        # Wider than the binding's annotation on purpose: any contiguous buffer is replied without a copy.
        handle = self._handles.get(fh)
        if isinstance(handle, VersionReader):
            try:
                return handle.reader.read(off, size)
            except Corrupt as error:
                log.error("read: %s of %s at byte %d: %s", show_path(handle.path), handle.version, off, error)
                raise FUSEError(error.errno) from None
        return self._open_overlay().read(cast("WorkingFile", handle).ino, off, size)

    @guarded
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        handle = self._handles.get(fh)
        if not isinstance(handle, WorkingFile):
            raise FUSEError(errno.EROFS)
        return self._open_overlay().write(handle.ino, off, buf)

    def _open_overlay(self) -> Overlay:
        if self._overlay is None:
            raise FUSEError(errno.EROFS)
        return self._overlay

    @guarded
    async def flush(self, fh: int) -> None:
        # Nothing is held back that `close` would have to write. The kernel asks once and never again.
        raise FUSEError(errno.ENOSYS)

    @guarded
    async def release(self, fh: int) -> None:
        handle = self._handles.remove(fh)
        if isinstance(handle, WorkingFile) and self._working is not None:
            self._working.release(handle)

    @guarded
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._sync(isinstance(self._handles.get(fh), WorkingFile))

    async def _sync(self, is_working: bool) -> None:
        if is_working and self._overlay is not None:
            # A disk's flush takes as long as it takes; requests go on meanwhile. Not abandoned when cancelled: the
            # reply must not say "done" before it is.
            await trio.to_thread.run_sync(self._overlay.sync)

    # Directories.

    @guarded
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        listing = self._side(inode).listing(inode)
        if isinstance(listing.directory, MadeDirectory):
            # It may have to go through the whole history; requests go on meanwhile.
            await trio.to_thread.run_sync(listing.directory.prepare)
        return self._handles.add(listing)

    @guarded
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._handles.get(fh)
        if not isinstance(listing, Listing):
            raise FUSEError(errno.ENOTDIR)
        reply = functools.partial(self._reply, token)
        side = self._side(listing.directory) if isinstance(listing.directory, int) else self._committed
        if isinstance(side, Working):
            side.read_listing(cast("WorkingListing", listing), start_id, reply)
        else:
            side.read_listing(cast("CommittedListing", listing), start_id, reply)

    @guarded
    async def releasedir(self, fh: int) -> None:
        self._handles.remove(fh)

    @guarded
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        listing = self._handles.get(fh)
        directory = listing.directory if isinstance(listing, Listing) else None
        await self._sync(isinstance(directory, int) and self._side(directory) is self._working)

    # The rest.

    @guarded
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        disk = os.statvfs(self._store_path)
        data = StatvfsData()
        for field in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"):
            setattr(data, f"f_{field}", getattr(disk, f"f_{field}"))
        data.f_namemax = NAME_BYTES_MAX
        return data

    @guarded
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return bytes(self._side(inode).get_xattr(inode, name))

    @guarded
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        names = self._side(inode).list_xattrs(inode)
        # Local filesystems show these to root alone, who alone can read them.
        return names if not ctx.uid else [name for name in names if not name.startswith(b"trusted.")]

    @guarded
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._writable(inode).set_xattr(inode, name, value)

    @guarded
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        self._writable(inode).remove_xattr(inode, name)
