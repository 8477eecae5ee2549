"""The requests of a mount that goes on after its daemon was killed.

The daemon records what the kernel gets to know. Its successor finds an inode again by looking its name up, when the
kernel first uses the number, and opens files again under the numbers that their programs hold.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from typing import Any, cast

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields

from vfs.errors import VfsError
from vfs.fuse.handles import OpenDirectory
from vfs.fuse.inodes import BRANCHES_START, RUNS_DIRECTORY, WORKING_START
from vfs.fuse.native_file_inodes import NativeFiles
from vfs.fuse.request_errors import errno_of
from vfs.fuse.request_handlers import EXCHANGE, VfsOperations
from vfs.fuse.session.takeover_state import Legacy
from vfs.fuse.working_tree import WorkingTree
from vfs.model.ids import Buffer
from vfs.native.session import HANDLE

log = logging.getLogger(__name__)

_NOT_OF_OPENING = os.O_TRUNC | os.O_CREAT | os.O_EXCL


class SurvivingOperations(VfsOperations):
    """`VfsOperations` whose state in the kernel can be taken over. `legacy` has what a predecessor left."""

    legacy: Legacy

    def survive(self, legacy: Legacy) -> None:
        """Sets, before serving, where the state is recorded."""
        self.legacy = legacy
        if isinstance(self.files, NativeFiles):
            legacy.share(self.files.table)
            # How many look-ups a predecessor has answered is not known.
            self.files.table.take_forgets(are_taken=not legacy.left.inodes)
        self._lost = legacy.left.inodes
        self._lost_handles = legacy.left.handles
        self._inherited: dict[int, tuple[int, bytes]] = {}
        """Inodes whose count in the kernel has lookups at predecessors in it: their directories and names."""
        self._finding = trio.Lock()
        self._handles.continue_after(max(self._lost_handles, default=0))
        self._reply = self._recorded_reply(self._reply)
        self._directories: dict[int, int] = {}
        """The inodes of open directories, by handle."""
        self._listed: dict[int, list[tuple[EntryAttributes, bytes]]] = {}
        """What is in the replies of listings now, by their requests."""

    # Finding again.

    async def _known(self, *inos: int) -> None:
        """Finds inodes again that only a predecessor knew."""
        for ino in inos:
            if ino in self._lost:
                try:
                    async with self._finding:
                        await self._find_again(ino)
                except FUSEError:
                    raise
                except Exception as error:  # noqa: BLE001 - as in the boundary of handlers: none may end the mount
                    raise FUSEError(errno_of(error, "takeover")) from None

    async def _find_again(self, ino: int) -> None:
        if ino not in self._lost:
            return
        # From the root down: names lead there, whatever the numbers are derived from.
        chain: list[int] = []
        while ino in self._lost and ino not in chain:
            chain.append(ino)
            ino = self._lost[ino][0]
        for number in reversed(chain):
            parent, name = self._lost.pop(number)
            if not await self._look_up(number, parent, name) and not self._find_moved(number):
                log.warning("inode %d is not found again: %r in inode %d", number, name, parent)
                continue
            self._inherited[number] = parent, name

    async def _look_up(self, number: int, parent: int, name: bytes) -> bool:
        try:
            found = await super().lookup(parent, name, cast("RequestContext", None))
        except FUSEError:
            return False
        if found.st_ino == number:
            return True
        if found.st_ino:
            await super().forget([(found.st_ino, 1)])
        return False

    def _find_moved(self, number: int) -> bool:
        """Finds an inode of the working layer in the root by its number, which stays when it is moved."""
        if self._layers is None or not WORKING_START <= number < BRANCHES_START:
            return False
        working = self._layers.root
        try:
            above, _, name = working.overlay.path_of(number).rpartition(b"/")
            parent = working.overlay.find(above)
            return parent is not None and working.lookup(parent.ino, name).st_ino == number
        except (VfsError, OSError, FUSEError):
            return False

    def _lookups_of(self, ino: int) -> int:
        """Returns the lookup count of an inode, 0 where it is not known."""
        try:
            if self._layers is not None and WORKING_START <= ino < BRANCHES_START:
                return self._layers.find(ino)[0].lookups_of(ino)
            return self._read_only.lookups_of(ino)
        except OSError:
            return 0

    async def _open_again(self, fh: int) -> None:
        """Opens a file or directory again that only a predecessor had open; without it, the request gets EBADF."""
        if fh & HANDLE:
            await self._known(fh ^ HANDLE)
        if fh not in self._lost_handles:
            return
        handle = self._lost_handles[fh]
        await self._known(handle.ino)
        if fh not in self._lost_handles:
            return
        try:
            side, number = self._routing.find(handle.ino) or await self._routing.open_branch(handle.ino)
            self._lost_handles.pop(fh, None)
            made: Any
            if handle.is_directory:
                listing = side.listing(number)
                listing.counts = True
                made = OpenDirectory(side, listing)
                self._directories[fh] = handle.ino
            elif isinstance(side, WorkingTree):
                made = side.open(number, handle.flags & ~_NOT_OF_OPENING)
            else:
                made = side.open(number)
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("handle %d of inode %d is not opened again: %s", fh, handle.ino, error)
            raise FUSEError(errno.ESTALE) from None
        finally:
            self.fetching.let_go()
        self._handles.restore(fh, made)

    # Recording.

    def told(self, ino: int, parent: int, name: bytes) -> None:
        """Records a name that the kernel is told."""
        self.legacy.told(ino, parent, name)
        if self._lost.pop(ino, None) is not None:
            self._inherited[ino] = parent, name

    def _tell(self, attr: EntryAttributes, parent: int, name: bytes) -> EntryAttributes:
        if attr.st_ino > RUNS_DIRECTORY:
            self.told(attr.st_ino, parent, name)
        return attr

    def _tell_moved(self, parent: int, name: bytes) -> None:
        """Records the name at which an inode, which the kernel knows, is from now on."""
        try:
            found = self._routing.find(parent)
            working = found[0] if found is not None else None
            if found is not None and isinstance(working, WorkingTree):
                # The kernel knows it, so it is held already.
                ino = working.number(working.overlay.lookup(found[1], name).ino)
                self.legacy.moved(ino)
                self.legacy.told(ino, parent, name)
        except Exception:
            # The change is made, and must not be reported as an error.
            log.exception("a rename is not recorded")
        finally:
            self.fetching.let_go()

    def _recorded_reply(self, reply: Any) -> Any:
        def record(token: Any, name: bytes, attr: EntryAttributes, following: int) -> bool:
            fits = bool(reply(token, name, attr, following))
            if fits:
                self._listed[id(token)].append((attr, name))
            return fits

        return record

    # Requests.

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if self._lost:
            await self._known(parent_inode)
        return self._tell(await super().lookup(parent_inode, name, ctx), parent_inode, name)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, lookups in inode_list:
            place = self._lost.pop(ino, None)
            known = self._lookups_of(ino) if place is not None else 0
            if place is None or known:
                # One that is lost and known was told of natively since.
                place = place or self._inherited.pop(ino, None)
                if place is not None:
                    lookups = known or self._lookups_of(ino)
                    # A look-up may have overtaken this request; how many were at predecessors is not known. If the
                    # kernel still uses the number, it is found again.
                    self._lost[ino] = place
                if lookups:
                    await super().forget([(ino, lookups)])
            self.legacy.moved(ino)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        if self._lost:
            await self._known(inode)
        return await super().getattr(inode, ctx)

    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        if self._lost:
            await self._known(inode)
        return await super().setattr(inode, attr, fields, fh, ctx)

    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        if self._lost:
            await self._known(inode)
        return await super().readlink(inode, ctx)

    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        if self._lost:
            await self._known(parent_inode)
        return self._tell(await super().mknod(parent_inode, name, mode, rdev, ctx), parent_inode, name)

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        if self._lost:
            await self._known(parent_inode)
        return self._tell(await super().mkdir(parent_inode, name, mode, ctx), parent_inode, name)

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        if self._lost:
            await self._known(parent_inode)
        await super().unlink(parent_inode, name, ctx)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        if self._lost:
            await self._known(parent_inode)
        await super().rmdir(parent_inode, name, ctx)

    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        if self._lost:
            await self._known(parent_inode)
        return self._tell(await super().symlink(parent_inode, name, target, ctx), parent_inode, name)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        if self._lost:
            await self._known(parent_inode_old, parent_inode_new)
        await super().rename(parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx)
        self._tell_moved(parent_inode_new, name_new)
        if flags & EXCHANGE:
            self._tell_moved(parent_inode_old, name_old)

    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        if self._lost:
            await self._known(inode, new_parent_inode)
        return self._tell(await super().link(inode, new_parent_inode, new_name, ctx), new_parent_inode, new_name)

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        if self._lost:
            await self._known(inode)
        made = await super().open(inode, flags, ctx)
        self.legacy.opened(made.fh, inode, flags, is_directory=False)
        return made

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        if self._lost:
            await self._known(parent_inode)
        made, attr = await super().create(parent_inode, name, mode, flags, ctx)
        self._tell(attr, parent_inode, name)
        self.legacy.opened(made.fh, attr.st_ino, flags, is_directory=False)
        return made, attr

    async def read(self, fh: int, off: int, size: int) -> Buffer:  # type: ignore[override]
        if self._lost or self._lost_handles:
            await self._open_again(fh)
        return await super().read(fh, off, size)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        if self._lost_handles:
            await self._open_again(fh)
        return await super().write(fh, off, buf)

    async def release(self, fh: int) -> None:
        self.legacy.closed(fh)
        if self._lost_handles.pop(fh, None) is None:
            await super().release(fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        if self._lost_handles:
            await self._open_again(fh)
        await super().fsync(fh, datasync)

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        if self._lost:
            await self._known(inode)
        fh = await super().opendir(inode, ctx)
        self._directories[fh] = inode
        self.legacy.opened(fh, inode, 0, is_directory=True)
        return fh

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        if self._lost or self._lost_handles:
            await self._open_again(fh)
        parent = fh ^ HANDLE if fh & HANDLE else self._directories[fh]
        listed = self._listed[id(token)] = []
        try:
            await super().readdir(fh, start_id, token)
        finally:
            del self._listed[id(token)]
        # The reply is sent behind this. By now the inodes are counted.
        for attr, name in listed:
            self._tell(attr, parent, name)

    async def releasedir(self, fh: int) -> None:
        self.legacy.closed(fh)
        self._directories.pop(fh, None)
        if self._lost_handles.pop(fh, None) is None:
            await super().releasedir(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        if self._lost_handles:
            await self._open_again(fh)
        await super().fsyncdir(fh, datasync)

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        if self._lost:
            await self._known(inode)
        return await super().getxattr(inode, name, ctx)

    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        if self._lost:
            await self._known(inode)
        return await super().listxattr(inode, ctx)

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        if self._lost:
            await self._known(inode)
        await super().setxattr(inode, name, value, ctx)

    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        if self._lost:
            await self._known(inode)
        await super().removexattr(inode, name, ctx)
