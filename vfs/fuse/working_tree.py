"""A working layer for the kernel: the overlay's answers, and the lookup counts of its inodes.

`@` names of versions are found in its directories as well: before the entries in the root, behind them elsewhere.
Arguments that are inodes are the overlay's numbers, whose root is 1; answers have the kernel's. The two differ for the
root of a layer that is not at the mount's root, and where numbers of two layers collide
(vfs/fuse/shared_inode_numbers.py).
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError

from vfs.errors import AlreadyExists, InvalidInput, NoAttribute, NotFound, NotPermitted, ReadOnly, Unsupported
from vfs.fuse import acl, attributes
from vfs.fuse.handles import WorkingFile
from vfs.fuse.inodes import ROOT
from vfs.fuse.known_inode_count import KnownNames
from vfs.fuse.listings import Listing, Reply
from vfs.fuse.read_only_tree import ReadOnlyTree
from vfs.fuse.shared_inode_numbers import RemappedNumbers
from vfs.fuse.view.branch_directories import BranchDirectory
from vfs.fuse.view.root_view import RootView
from vfs.fuse.view.version_inodes import Held
from vfs.model.layout import HISTORY_ENDING, MARK, unmarked
from vfs.model.names import show_path
from vfs.model.objects import Kind
from vfs.overlay.apply import without_privileges
from vfs.overlay.layer_nodes import Attr
from vfs.overlay.namespace import Listed
from vfs.overlay.overlay import Overlay
from vfs.repo.file_metadata import ACL_XATTRS, BRANCH_XATTR, PATH_XATTR

log = logging.getLogger(__name__)

WorkingListing = Listing[int, Listed | bool]
"""An open directory of the working layer: its number; an item is True for the name of a version, else what the overlay
lists with the name (False: nothing)."""

_ROOT_UID = 0
_VIRTUAL_XATTRS = b"user.vfs."
_XATTR_SPACES = frozenset((b"user", b"trusted", b"security"))


class WorkingTree:
    """The mount's side of an overlay. Used by one thread; the overlay itself may be used by others meanwhile.

    `directory`: that of its branch. `view`: whether it is the layer in the mount's root. `names` counts its inodes.
    `has_access_lists`: the kernel enforces access lists, and leaves it to us what they and the umask make of modes.
    Invariant: `overlay.forget` is called for an inode exactly when its lookup count becomes 0.
    """

    def __init__(
        self,
        overlay: Overlay,
        read_only: ReadOnlyTree,
        directory: BranchDirectory,
        view: RootView,
        *,
        names: KnownNames | None = None,
        has_access_lists: bool = False,
    ) -> None:
        self.overlay = self._overlay = overlay
        self.names = directory.names
        self._directory = directory
        self._view = view
        self._read_only = read_only
        self._lookups: dict[int, int] = {}
        self._known = names if names is not None else KnownNames()
        self._shared: RemappedNumbers[BranchDirectory] | None = None
        self._branch = directory.branch.encode()
        self._has_access_lists = has_access_lists

    def enforce_access_lists(self, are_enforced: bool) -> None:
        """Sets, before serving, if the kernel enforces access lists."""
        self._has_access_lists = are_enforced

    @property
    def is_root(self) -> bool:
        """True if the mount's root shows this layer."""
        return self._view.overlay is self._overlay

    @property
    def root(self) -> int:
        """The number by which the kernel knows the layer's root; ROOT for the one in the mount's root."""
        return ROOT if self.is_root else self._directory.ino

    @property
    def known_inodes(self) -> int:
        """How many inodes the kernel has looked up here and not forgotten; the root is not counted."""
        return len(self._lookups)

    def lookups_of(self, number: int) -> int:
        """Returns the lookup count of an inode, 0 where it is not known."""
        return self._lookups.get(number, 0)

    def oldest(self, count: int) -> list[int]:
        """Returns the inodes that the kernel has known longest. They are returned again after all others."""
        numbers = list(islice(self._lookups, max(0, count)))
        for number in numbers:
            self._lookups[number] = self._lookups.pop(number)
        return numbers

    def share(self, numbers: RemappedNumbers[BranchDirectory]) -> None:
        """Makes this layer's numbers differ from those of other layers from now on."""
        if self._shared is None:
            self._shared = numbers
            for number in self._lookups:
                numbers.hold(number, self._directory, number)

    def number(self, ino: int) -> int:
        """Returns the number by which the kernel knows an inode of the overlay; any thread may call it."""
        if ino == ROOT:
            return self.root
        return ino if self._shared is None else self._shared.known(self._branch, ino)

    def _attributes(self, attr: Attr) -> EntryAttributes:
        """Returns attributes under the number that the kernel is to know the inode by."""
        entry = attributes.of_working(attr)
        if self._shared is not None:
            ino = attr.ino
            entry.st_ino = self.root if ino == ROOT else self._shared.number(self._directory, self._branch, ino)
        return entry

    def _counted(self, attr: Attr) -> EntryAttributes:
        entry = self._attributes(attr)
        self._hold(entry.st_ino, attr.ino)
        return entry

    def _hold(self, number: int, ino: int) -> None:
        before = self._lookups.get(number, 0)
        self._lookups[number] = before + 1
        if not before:
            if self._shared is not None:
                self._shared.hold(number, self._directory, ino)
            self._known.add()

    def forget(self, number: int, ino: int, lookups: int) -> None:
        """Decrements an inode's lookup count; at 0, the overlay forgets the inode."""
        left = self._lookups.get(number, 0) - lookups
        if left > 0:
            self._lookups[number] = left
            return
        if left < 0:
            log.warning("the kernel forgot inode %d more often than it looked it up", number)
        if self._lookups.pop(number, None) is not None:
            self._known.drop()
        if self._shared is not None:
            self._shared.drop(number)
        self._overlay.forget(ino)

    def lookup(self, parent: int, name: bytes) -> EntryAttributes:
        """Returns the attributes of a name, counted. Raises FUSEError(ENOENT) for an `@` name that names nothing.

        Other absent names are answered as absent, which the kernel may cache: it creates names itself, or an
        invalidation tells it.
        """
        is_mark = name.startswith(MARK)
        if is_mark and parent == ROOT and (version := self._version_in_root(name)) is not None:
            return version
        try:
            return self._counted(self._overlay.lookup(parent, name))
        except NotFound:
            if name.endswith(HISTORY_ENDING) and not is_mark:
                return self._read_only.lookup_history(self.number(parent), name)
            if not is_mark:
                return self._missing(parent, name)
            if parent == ROOT:
                raise FUSEError(errno.ENOENT) from None
        return self._read_only.lookup_link(self.number(parent), name)

    def _version_in_root(self, name: bytes) -> EntryAttributes | None:
        if self.is_root:
            return self._read_only.find_in_root(name)
        return self._read_only.lookup_link(self.root, name) if self.is_version(name) else None

    def _missing(self, parent: int, name: bytes) -> EntryAttributes:
        attr = attributes.missing()
        if parent == ROOT and self.is_root and not self._view.record_absent(name):
            attr.entry_timeout = 0
        return attr

    def is_version(self, name: bytes) -> bool:
        """Returns True if an `@` name names a version now."""
        return self.names.find(unmarked(name)) is not None

    def getattr(self, ino: int) -> EntryAttributes:
        """Returns the attributes of an inode that the kernel knows."""
        return self._attributes(self._overlay.getattr(ino))

    def setattr(self, ino: int, new: EntryAttributes, fields: pyfuse3.SetattrFields) -> EntryAttributes:
        """Changes the attributes that `fields` names and returns all."""
        attr = self._overlay.setattr(
            ino,
            mode=stat.S_IMODE(new.st_mode) if fields.update_mode else None,
            uid=new.st_uid if fields.update_uid else None,
            gid=new.st_gid if fields.update_gid else None,
            size=new.st_size if fields.update_size else None,
            atime_ns=new.st_atime_ns if fields.update_atime else None,
            mtime_ns=new.st_mtime_ns if fields.update_mtime else None,
            ctime_ns=new.st_ctime_ns if fields.update_ctime else None,
        )
        if fields.update_mode and (held := self._access_list(ino, acl.ACCESS)) is not None:
            self._overlay.setxattr(ino, acl.ACCESS, acl.with_mode(held, attr.mode))
            attr = self._overlay.getattr(ino)
        return self._attributes(attr)

    def take_privileges(self, ino: int, uid: int, *, is_written: bool) -> EntryAttributes:
        """Answers a request that sets no attribute, as the kernel sends for a `chown` without change and before writes.

        Like every `chown` it removes privileges, if the user may change them. A write removes them by itself.
        """
        attr = self._overlay.getattr(ino)
        mode = without_privileges(attr.mode)
        if attr.kind == Kind.FILE and mode != attr.mode:
            if uid in (_ROOT_UID, attr.uid):
                attr = self._overlay.setattr(ino, mode=mode)
            elif not is_written:
                raise NotPermitted("only its owner takes privileges from a file by a change of nothing")
        return self._attributes(attr)

    # Names.

    def make(self, parent: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        """Makes a file, fifo, socket or device, counted."""
        _check_new(parent, name)
        return self._counted(self._make(parent, name, mode, rdev, ctx))

    def make_directory(self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        """Makes a directory, counted."""
        _check_new(parent, name)
        return self._counted(self._make(parent, name, stat.S_IFDIR | mode, 0, ctx))

    def _make(self, parent: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext) -> Attr:
        """Makes anything but a link, with the mode and the access lists that it inherits from its directory."""
        default = self._access_list(parent, acl.DEFAULT)
        if default is None:
            return self._make_plain(parent, name, mode & ~ctx.umask if self._has_access_lists else mode, rdev, ctx)
        own, granted = acl.inherited(default, mode)
        # Until it has its list, the group has no rights: with a list, the mode's group bits are the mask.
        attr = self._make_plain(parent, name, granted & ~stat.S_IRWXG, rdev, ctx)
        if acl.mode_of(own)[1]:
            self._overlay.setxattr(attr.ino, acl.ACCESS, own)
        if attr.kind == Kind.DIR:
            self._overlay.setxattr(attr.ino, acl.DEFAULT, default)
        return self._overlay.setattr(attr.ino, mode=attr.mode & ~stat.S_IRWXG | granted & stat.S_IRWXG)

    def _make_plain(self, parent: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext) -> Attr:
        if stat.S_ISDIR(mode):
            return self._overlay.mkdir(parent, name, stat.S_IMODE(mode), ctx.uid, ctx.gid)
        return self._overlay.mknod(parent, name, mode, rdev, ctx.uid, ctx.gid)

    def _access_list(self, ino: int, name: bytes) -> bytes | None:
        """Returns a list that the kernel enforces, or None."""
        if not self._has_access_lists or name not in self._overlay.listxattr(ino):
            return None
        return self._overlay.getxattr(ino, name)

    def make_symlink(self, parent: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        """Makes a symbolic link, counted."""
        _check_new(parent, name)
        return self._counted(self._overlay.symlink(parent, name, target, ctx.uid, ctx.gid))

    def link(self, ino: int, parent: int, name: bytes) -> EntryAttributes:
        """Gives an inode one more name, counted."""
        _check_new(parent, name)
        return self._counted(self._overlay.link(ino, parent, name))

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        """Renames; flags are those of renameat2."""
        _check_new(new_parent, new_name)
        with self._names_of_versions(name):
            self._overlay.rename(parent, name, new_parent, new_name, flags)

    def unlink(self, parent: int, name: bytes) -> None:
        """Removes a name of anything but a directory."""
        with self._names_of_versions(name):
            self._overlay.unlink(parent, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Removes an empty directory."""
        with self._names_of_versions(name):
            self._overlay.rmdir(parent, name)

    @contextmanager
    def _names_of_versions(self, name: bytes) -> Iterator[None]:
        """Raises ReadOnly for a missing name that names a version, as the kernel has seen it as one."""
        try:
            yield
        except NotFound:
            if name == MARK or (name.startswith(MARK) and self.is_version(name)):
                raise ReadOnly(f"{show_path(name)} is a name of a version and cannot be removed or moved") from None
            raise

    def readlink(self, ino: int) -> bytes:
        """Returns the target of a symbolic link."""
        return self._overlay.readlink(ino)

    # Files.

    def open(self, ino: int, flags: int) -> WorkingFile:
        """Opens a file; with O_TRUNC it is empty afterwards."""
        unchanged = self._overlay.open_file(ino)
        if flags & os.O_TRUNC:
            try:
                self._overlay.setattr(ino, size=0)
            except BaseException:
                self._overlay.close_file(ino)
                raise
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        if unchanged is not None and not writes:
            self._read_only.prefetch_policy.opened_unchanged(unchanged.directory, unchanged.entry)
        return WorkingFile(self._overlay, ino, writes=writes)

    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[WorkingFile, EntryAttributes]:
        """Makes a file and opens it. One that exists, unknown to the kernel, is opened unless O_EXCL forbids it."""
        _check_new(parent, name)
        try:
            attr = self._make(parent, name, stat.S_IFREG | stat.S_IMODE(mode), 0, ctx)
        except AlreadyExists:
            if flags & os.O_EXCL:
                raise
            return self._open_existing(parent, name, flags)
        return self.open(attr.ino, flags), self._counted(self._overlay.getattr(attr.ino))

    def _open_existing(self, parent: int, name: bytes, flags: int) -> tuple[WorkingFile, EntryAttributes]:
        attr = self._overlay.lookup(parent, name)
        try:
            if attr.kind != Kind.FILE:
                raise AlreadyExists(f"{show_path(name)} exists")
            file = self.open(attr.ino, flags)
        except BaseException:
            # The kernel is told nothing of the inode that was looked up.
            if self.number(attr.ino) not in self._lookups:
                self._overlay.forget(attr.ino)
            raise
        return file, self._counted(self._overlay.getattr(attr.ino))

    # Directories.

    def listing(self, ino: int) -> WorkingListing:
        """Opens a directory for listing."""
        return Listing(ino, lambda after: self._names(ino, after), lasting=True)

    def _names(self, ino: int, after: bytes | None) -> Iterator[tuple[bytes, Listed | bool]]:
        if ino != ROOT:
            return ((name, listed or False) for name, listed in self._overlay.listing(ino, after))
        return self._root_names(after)

    def _root_names(self, after: bytes | None) -> Iterator[tuple[bytes, Listed | bool]]:
        # Versions come behind all entries. Entries that start with the mark are not listed in the root.
        if after is None or not after.startswith(MARK):
            for name in self._overlay.names(ROOT, after):
                if not name.startswith(MARK):
                    yield name, False
            after = None
        if self.is_root:
            for name in self._read_only.root_names(after):
                yield name, True

    def read_listing(self, listing: WorkingListing, position: int, reply: Reply) -> None:
        """Adds the entries behind a position to the kernel's reply, as many as fit, and counts a lookup for each."""
        parent = listing.directory
        last: tuple[int, int] | None = None

        def resolve(name: bytes, listed: Listed | bool) -> tuple[tuple[int, int] | Held, EntryAttributes] | None:
            nonlocal last
            if listed is True:
                return self._read_only.name_in_root(name)
            try:
                attr = self._overlay.lookup(parent, name, listed or None)
            except NotFound:
                return None
            entry = self._attributes(attr)
            last = entry.st_ino, attr.ino
            return last, entry

        def hold(inode: tuple[int, int] | Held) -> None:
            if isinstance(inode, tuple):
                self._hold(*inode)
            else:
                self._read_only.hold(inode)

        listing.seek(position)
        listing.fill(reply, resolve, hold)
        if last is not None and last[0] not in self._lookups:
            # The entry that did not fit was looked up in the overlay, and the kernel does not know it.
            self._overlay.forget(last[1])

    # Extended attributes.

    def get_xattr(self, ino: int, name: bytes) -> bytes:
        """Returns an extended attribute."""
        if name == BRANCH_XATTR:
            return self._branch
        if name == PATH_XATTR:
            return self._overlay.path_of(ino)
        try:
            return self._overlay.getxattr(ino, name)
        except NoAttribute:
            _check_xattr_name(name)
            raise

    def set_xattr(self, ino: int, name: bytes, value: bytes) -> None:
        """Sets an extended attribute, except those that describe versions.

        Access lists are refused if the kernel does not enforce them; programs then set the mode.
        """
        if name in ACL_XATTRS:
            self._set_access_list(ino, name, value)
            return
        if name.startswith(_VIRTUAL_XATTRS):
            raise NotPermitted(f"the attribute {show_path(name)} describes versions and cannot be set")
        _check_xattr_name(name)
        self._overlay.setxattr(ino, name, value)

    def _set_access_list(self, ino: int, name: bytes, value: bytes) -> None:
        """Sets an access list and the mode that it implies. The kernel has checked that the caller may."""
        if not self._has_access_lists:
            raise Unsupported("access lists are not enforced in this mount, so they cannot be set")
        mode, is_extended = acl.mode_of(value)
        if name == acl.DEFAULT:
            self._overlay.setxattr(ino, name, value)
            return
        if is_extended:
            self._overlay.setxattr(ino, name, value)
        elif self._access_list(ino, name) is not None:
            self._overlay.removexattr(ino, name)
        self._overlay.setattr(ino, mode=self._overlay.getattr(ino).mode & ~0o777 | mode)

    def list_xattrs(self, ino: int) -> list[bytes]:
        """Returns the names of the extended attributes."""
        return list(self._overlay.listxattr(ino))

    def remove_xattr(self, ino: int, name: bytes) -> None:
        """Removes an extended attribute."""
        _check_xattr_name(name)
        try:
            self._overlay.removexattr(ino, name)
        except NoAttribute:
            # An absent list is an empty one.
            if name not in ACL_XATTRS or not self._has_access_lists:
                raise


def _check_new(parent: int, name: bytes) -> None:
    if parent == ROOT and name.startswith(MARK):
        raise NotPermitted(
            f"{show_path(name)}: names that start with @ in the root of a mount belong to versions",
            hint="Choose another name, or make it in a directory below the root.",
        )


def _check_xattr_name(name: bytes) -> None:
    """Refuses names in no namespace, and namespaces for names, as local filesystems do."""
    space, dot, rest = name.partition(b".")
    if not dot or (space not in _XATTR_SPACES and name not in ACL_XATTRS):
        raise Unsupported(f"{show_path(name)} is in no namespace of attributes that is kept")
    if not rest:
        raise InvalidInput(f"{show_path(name)} is a namespace of attributes and not a name")
