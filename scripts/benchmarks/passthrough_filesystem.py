"""A pass-through filesystem on the same binding: every request becomes the same call on a directory of the disk.

The fair floor for writing: what it takes is what the binding takes plus what the disk's filesystem takes. It serves as
`vfs mount` does, with polling before parking (decision 10) and syncing in a worker thread. Run as
`python -m benchmarks.passthrough_filesystem DIRECTORY MOUNTPOINT`.

Nothing else may change DIRECTORY meanwhile: the kernel keeps names and attributes for as long as it likes. It must lie
on one filesystem, whose inode numbers are shown.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields, StatvfsData

from vfs.fuse.session import polling

FOREVER_S = 1e9
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[Concatenate["PassthroughFilesystem", P], Coroutine[Any, Any, R]]


def passed(handler: Handler[P, R]) -> Handler[P, R]:
    """Returns errors of the disk's filesystem to the kernel with their error numbers."""

    @wraps(handler)
    async def call(self: PassthroughFilesystem, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except OSError as error:
            number = error.errno or errno.EIO
        raise FUSEError(number)

    return call


class Node:
    """An inode that the kernel knows: where it is, and by which descriptor it is reached while that is open.

    `places` are its (directory's node, name) pairs. `opened` are descriptors: one of a directory, those of a file's
    openings. `children` are the known names of a directory.
    """

    __slots__ = ("children", "ino", "lookups", "opened", "places")

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.lookups = 0
        self.opened: list[int] = []
        self.places: list[tuple[Node, bytes]] = []
        self.children: dict[bytes, Node] = {}

    def directory(self) -> int:
        """Returns a descriptor for calls relative to this directory; directories are few, and keep theirs."""
        if not self.opened:
            above, name = self.places[0]
            self.opened.append(os.open(name, _DIRECTORY_FLAGS, dir_fd=above.directory()))
        return self.opened[0]

    def path(self) -> bytes:
        """Returns a path for the calls that know no descriptor of a directory."""
        if self.opened:
            return b"/proc/self/fd/%d" % self.opened[0]
        above, name = self.places[0]
        return b"/proc/self/fd/%d/%s" % (above.directory(), name)

    def add(self, name: bytes, child: Node) -> None:
        """Records the node of a name of this directory."""
        if self.children.get(name) is not child:
            self.children[name] = child
            child.places.append((self, name))

    def remove(self, name: bytes) -> None:
        """Removes a name of this directory, if it was known."""
        child = self.children.pop(name, None)
        if child is not None:
            child.places.remove((self, name))


def attributes_of(found: os.stat_result) -> EntryAttributes:
    """Returns attributes as the kernel takes them."""
    attributes = EntryAttributes()
    attributes.st_ino = pyfuse3.InodeT(found.st_ino)
    attributes.entry_timeout = attributes.attr_timeout = FOREVER_S
    attributes.st_mode = pyfuse3.ModeT(found.st_mode)
    attributes.st_nlink = found.st_nlink
    attributes.st_uid = found.st_uid
    attributes.st_gid = found.st_gid
    attributes.st_rdev = found.st_rdev
    attributes.st_size = found.st_size
    attributes.st_blocks = found.st_blocks
    attributes.st_atime_ns = found.st_atime_ns
    attributes.st_mtime_ns = found.st_mtime_ns
    attributes.st_ctime_ns = found.st_ctime_ns
    return attributes


class PassthroughFilesystem(pyfuse3.Operations):
    """Passes every request on to a directory of the disk."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        root = Node(pyfuse3.ROOT_INODE)
        root.opened.append(os.open(directory, _DIRECTORY_FLAGS))
        self._nodes: dict[int, Node] = {root.ino: root}
        self._owner = (os.geteuid(), os.getegid())
        self._files: dict[int, Node] = {}
        self._listings: dict[int, tuple[Node, list[bytes]]] = {}
        self._last_listing = 0

    # Nodes.

    def _stat(self, node: Node) -> EntryAttributes:
        if node.opened:
            found = os.fstat(node.opened[0])
        else:
            above, name = node.places[0]
            found = os.stat(name, dir_fd=above.directory(), follow_symlinks=False)
        attributes = attributes_of(found)
        attributes.st_ino = pyfuse3.InodeT(node.ino)
        return attributes

    def _found(self, parent: Node, name: bytes, found: os.stat_result) -> EntryAttributes:
        """Returns the attributes of a name that was looked up, counted."""
        node = self._nodes.get(found.st_ino)
        if node is None:
            node = self._nodes[found.st_ino] = Node(found.st_ino)
        parent.add(name, node)
        node.lookups += 1
        return attributes_of(found)

    def _entry(self, parent: Node, name: bytes) -> EntryAttributes:
        return self._found(parent, name, os.stat(name, dir_fd=parent.directory(), follow_symlinks=False))

    def _made(self, parent: Node, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Returns the attributes of a new inode to the kernel."""
        if (ctx.uid, ctx.gid) != self._owner:
            os.chown(name, ctx.uid, ctx.gid, dir_fd=parent.directory(), follow_symlinks=False)
        return self._entry(parent, name)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, lookups in inode_list:
            node = self._nodes.get(ino)
            if node is None or ino == pyfuse3.ROOT_INODE:
                continue
            node.lookups -= lookups
            if node.lookups <= 0:
                del self._nodes[ino]
                for above, name in list(node.places):
                    above.remove(name)
                for descriptor in node.opened:
                    os.close(descriptor)

    # Names and attributes.

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        try:
            return self._entry(self._nodes[parent_inode], name)
        except FileNotFoundError:
            # As `vfs mount` does: the kernel may remember that nothing is there.
            missing = EntryAttributes()
            missing.st_ino = pyfuse3.InodeT(0)
            missing.entry_timeout = FOREVER_S
            return missing
        except OSError as error:
            number = error.errno or errno.EIO
        raise FUSEError(number)

    @passed
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._stat(self._nodes[inode])

    @passed
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        node = self._nodes[inode]
        if node.opened:
            target: int | bytes = node.opened[0]
            within: dict[str, Any] = {}
        else:
            above, target = node.places[0]
            within = {"dir_fd": above.directory()}
        if fields.update_size:
            os.truncate(fh if fh is not None else node.path(), attr.st_size)
        if fields.update_mode:
            os.chmod(target, stat.S_IMODE(attr.st_mode), **within)
        if within:
            within["follow_symlinks"] = False
        if fields.update_uid or fields.update_gid:
            uid, gid = attr.st_uid if fields.update_uid else -1, attr.st_gid if fields.update_gid else -1
            os.chown(target, uid, gid, **within)
        if fields.update_atime or fields.update_mtime:
            now = self._stat(node)
            times = (
                attr.st_atime_ns if fields.update_atime else now.st_atime_ns,
                attr.st_mtime_ns if fields.update_mtime else now.st_mtime_ns,
            )
            os.utime(target, ns=times, **within)
        return self._stat(node)

    @passed
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        above, name = self._nodes[inode].places[0]
        return os.readlink(name, dir_fd=above.directory())

    # Changes of names.

    @passed
    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        parent = self._nodes[parent_inode]
        os.mknod(name, mode, rdev, dir_fd=parent.directory())
        return self._made(parent, name, ctx)

    @passed
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        parent = self._nodes[parent_inode]
        os.mkdir(name, mode, dir_fd=parent.directory())
        return self._made(parent, name, ctx)

    @passed
    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        parent = self._nodes[parent_inode]
        os.symlink(target, name, dir_fd=parent.directory())
        return self._made(parent, name, ctx)

    @passed
    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        above, name = self._nodes[inode].places[0]
        parent = self._nodes[new_parent_inode]
        os.link(name, new_name, src_dir_fd=above.directory(), dst_dir_fd=parent.directory(), follow_symlinks=False)
        return self._entry(parent, new_name)

    @passed
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        parent = self._nodes[parent_inode]
        os.unlink(name, dir_fd=parent.directory())
        parent.remove(name)

    @passed
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        parent = self._nodes[parent_inode]
        os.rmdir(name, dir_fd=parent.directory())
        parent.remove(name)

    @passed
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        if flags:
            # Python has no call for them; programs that get this error do without.
            raise FUSEError(errno.EINVAL)
        old, new = self._nodes[parent_inode_old], self._nodes[parent_inode_new]
        os.rename(name_old, name_new, src_dir_fd=old.directory(), dst_dir_fd=new.directory())
        node = old.children.get(name_old)
        old.remove(name_old)
        new.remove(name_new)
        if node is not None:
            new.add(name_new, node)

    # Files.

    @passed
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        node = self._nodes[inode]
        # The kernel has done what O_APPEND asks for; with it, writes at a place would go to the end.
        return self._opened(node, os.open(node.path(), flags & ~(os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW)))

    def _opened(self, node: Node, descriptor: int) -> FileInfo:
        node.opened.append(descriptor)
        self._files[descriptor] = node
        return FileInfo(fh=pyfuse3.FileHandleT(descriptor), keep_cache=True)

    @passed
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        parent = self._nodes[parent_inode]
        flags = flags & ~os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(name, flags, mode, dir_fd=parent.directory())
        if (ctx.uid, ctx.gid) != self._owner:
            os.chown(descriptor, ctx.uid, ctx.gid)
        attributes = self._found(parent, name, os.fstat(descriptor))
        return self._opened(self._nodes[attributes.st_ino], descriptor), attributes

    @passed
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    @passed
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return os.pwrite(fh, buf, off)

    async def flush(self, fh: int) -> None:
        # As `vfs mount` does: nothing is held back, and the kernel never asks again.
        raise FUSEError(errno.ENOSYS)

    @passed
    async def release(self, fh: int) -> None:
        self._files.pop(fh).opened.remove(fh)
        os.close(fh)

    @passed
    async def fsync(self, fh: int, datasync: bool) -> None:
        await trio.to_thread.run_sync(os.fdatasync if datasync else os.fsync, fh)

    # Directories.

    @passed
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        node = self._nodes[inode]
        names = [os.fsencode(name) for name in os.listdir(node.directory())]
        self._last_listing += 1
        self._listings[self._last_listing] = node, names
        return self._last_listing

    @passed
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        node, names = self._listings[fh]
        for at in range(start_id, len(names)):
            name = names[at]
            try:
                found = os.stat(name, dir_fd=node.directory(), follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(name), attributes_of(found), at + 1):
                return
            self._found(node, name, found)

    async def releasedir(self, fh: int) -> None:
        del self._listings[fh]

    @passed
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await trio.to_thread.run_sync(os.fsync, self._listings[fh][0].directory())

    # The rest.

    @passed
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        disk = os.fstatvfs(self._nodes[pyfuse3.ROOT_INODE].directory())
        data = StatvfsData()
        for field in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax"):
            setattr(data, f"f_{field}", getattr(disk, f"f_{field}"))
        return data

    def _holder(self, inode: int) -> tuple[int | bytes, bool]:
        """Returns the path or descriptor for calls on extended attributes, and True if they may follow links."""
        node = self._nodes[inode]
        return (node.opened[0], True) if node.opened else (node.path(), False)

    @passed
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        holder, follow = self._holder(inode)
        return os.getxattr(holder, name, follow_symlinks=follow)

    @passed
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        holder, follow = self._holder(inode)
        return [os.fsencode(name) for name in os.listxattr(holder, follow_symlinks=follow)]

    @passed
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        holder, follow = self._holder(inode)
        os.setxattr(holder, name, value, follow_symlinks=follow)

    @passed
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        holder, follow = self._holder(inode)
        os.removexattr(holder, name, follow_symlinks=follow)


def main(arguments: Sequence[str]) -> None:
    """Serves until the mount point is unmounted."""
    directory, mountpoint = arguments
    os.umask(0)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    options = set(pyfuse3.default_options) | {
        "default_permissions",
        "noatime",
        "fsname=passthrough",
        "subtype=passthrough",
    }
    polling.install()
    pyfuse3.init(PassthroughFilesystem(directory), mountpoint, options)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main(sys.argv[1:])
