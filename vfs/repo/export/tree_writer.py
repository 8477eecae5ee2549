"""Writing a version's entries as plain files below an open directory, with everything that is kept of them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from vfs.errors import IsADirectory, NotADirectory
from vfs.model.names import check_name, join_path, show_path
from vfs.model.nodes import LINKS
from vfs.model.objects import FORMAT_BITS, Entry, Kind, Version
from vfs.repo.file_metadata import member_path
from vfs.store.object_store import ObjectSource
from vfs.store.progress_callbacks import FileProgress
from vfs.store.trees.directories import entries, find_entry
from vfs.store.trees.file_reader import FileReader, open_file
from vfs.store.trees.maps import map_get

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE_BYTES = 1024 * 1024
_ROUNDED_NS = 2 * 10**9
"""By how much filesystems round times: FAT to 2 seconds, none further."""
_SET_ID = stat.S_ISUID | stat.S_ISGID


class Loss(NamedTuple):
    """Something that a version keeps and the written file could not be given."""

    path: bytes
    what: str
    reason: str


class Exported(msgspec.Struct):
    """What was written, and what was lost; only root can give files their owners (`owners_kept`)."""

    files: int = 0
    bytes: int = 0
    owners_kept: bool = True
    losses: list[Loss] = []


class Wanted:
    """Names to take from a directory: each with those to take below it, or None for all below it."""

    __slots__ = ("names",)

    def __init__(self) -> None:
        self.names: dict[bytes, Wanted | None] = {}


class _Frame(NamedTuple):
    """A directory being written."""

    descriptor: int
    entry: Entry
    path: bytes
    rest: Iterator[tuple[Entry, Wanted | None]]


class TreeWriter:
    """Writes one version below a directory, whose descriptor stays the caller's."""

    def __init__(
        self, source: ObjectSource, version: Version, root: int, total: int | None, progress: FileProgress | None
    ) -> None:
        self._source = source
        self._commit = version.commit
        self._root = root
        self._total = total
        self._progress = progress
        self._first_names: dict[bytes, bytes] = {}
        self._is_root = os.geteuid() == 0
        self._rounded = 0
        self._rounded_first = b""
        self.result = Exported(owners_kept=self._is_root)

    def write(self, wanted: Wanted | None, *, dress_root: bool) -> None:
        """Writes the requested paths. Replaces other files of the same name, and goes into existing directories."""
        root = self._commit.root
        stack = [_Frame(self._root, root, b"", self._members(root, wanted))]
        try:
            while stack:
                frame = stack[-1]
                following = next(frame.rest, None)
                if following is not None:
                    entry, below = following
                    path = join_path(frame.path, check_name(entry.name))
                    if entry.kind == Kind.DIR:
                        descriptor = _enter(frame.descriptor, entry.name, path)
                        stack.append(_Frame(descriptor, entry, path, self._members(entry, below)))
                    else:
                        self._write_name(frame, entry, path)
                    continue
                # Last of all, since every name made in it sets its times.
                if dress_root or len(stack) > 1:
                    self._apply_metadata(frame.descriptor, frame.entry, frame.path)
                stack.pop()
                if stack:
                    os.close(frame.descriptor)
        finally:
            for frame in stack[1:]:
                os.close(frame.descriptor)
        if self._rounded:
            why = f"the target rounds times, {self._rounded:,} of this export"
            self.result.losses.append(Loss(self._rounded_first, "the exact modification time", why))

    def _members(self, directory: Entry, wanted: Wanted | None) -> Iterator[tuple[Entry, Wanted | None]]:
        if wanted is None:
            for entry in entries(self._source, directory):
                yield entry, None
            return
        for name, below in sorted(wanted.names.items()):
            found = find_entry(self._source, directory, name)
            if found is not None:
                yield found, below

    def _write_name(self, frame: _Frame, entry: Entry, path: bytes) -> None:
        _clear(frame.descriptor, entry.name, path)
        if not (entry.linked and self._link(frame, entry, path)):
            if entry.kind == Kind.FILE:
                self._write_file(frame, entry, path)
            elif entry.kind == Kind.SYMLINK:
                os.symlink(entry.content, entry.name, dir_fd=frame.descriptor)
                self._apply_link_metadata(frame.descriptor, entry, path)
            else:
                self._write_node(frame, entry, path)
        self.result.files += 1
        self.result.bytes += entry.size if entry.kind == Kind.FILE else 0
        self._report_progress(0)

    def _report_progress(self, written: int) -> None:
        """Reports progress; `written`: bytes of the file that is being written."""
        if self._progress is not None:
            self._progress(self.result.files, self.result.bytes + written, self._total)

    def _link(self, frame: _Frame, entry: Entry, path: bytes) -> bool:
        """Makes a further link to a file of the same group; False where this is the group's first name."""
        item = map_get(self._source, LINKS, self._commit.links, path)
        leader = item.leader if item is not None else path
        first = self._first_names.setdefault(leader, path)
        if first == path:
            return False
        parent, _, name = first.rpartition(b"/")
        directory = self._open_below(parent)
        try:
            os.link(name, entry.name, src_dir_fd=directory, dst_dir_fd=frame.descriptor, follow_symlinks=False)
        except OSError as error:
            self._record_loss(path, "the hard link (a copy is written)", error)
            return False
        finally:
            os.close(directory)
        return True

    def _open_below(self, path: bytes) -> int:
        descriptor = os.dup(self._root)
        for name in path.split(b"/") if path else []:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def _write_file(self, frame: _Frame, entry: Entry, path: bytes) -> None:
        reader = open_file(self._source, frame.entry, entry, path)
        descriptor = os.open(entry.name, _CREATE, 0o600, dir_fd=frame.descriptor)
        try:
            _write_content(descriptor, reader, self._report_progress)
            self._apply_metadata(descriptor, entry, path)
        finally:
            os.close(descriptor)

    def _write_node(self, frame: _Frame, entry: Entry, path: bytes) -> None:
        mode = FORMAT_BITS[Kind(entry.kind)] | 0o600
        try:
            os.mknod(entry.name, mode, entry.rdev, dir_fd=frame.descriptor)
        except OSError as error:
            self._record_loss(path, "the special file itself", error)
            return
        # Opening it for real would wait for a fifo's other end, or wake a device.
        descriptor = os.open(entry.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=frame.descriptor)
        try:
            self._apply_metadata(b"/proc/self/fd/%d" % descriptor, entry, path)
        finally:
            os.close(descriptor)

    def _apply_metadata(self, target: int | bytes, entry: Entry, path: bytes) -> None:
        """Applies owner, attributes, mode and times, in an order in which none undoes another."""
        mode = entry.mode
        if self._is_root:
            with self._recording_loss(path, "the owner"):
                os.chown(target, entry.uid, entry.gid)
        elif mode & _SET_ID and entry.uid != os.geteuid():
            # The bit would grant the rights of another user than in the version.
            mode &= ~_SET_ID
            self.result.losses.append(Loss(path, "the set-id bits", "the owner cannot be kept"))
        for name, value in entry.xattrs:
            with self._recording_loss(path, f"the attribute {show_path(name)}"):
                os.setxattr(target, name, value)
        with self._recording_loss(path, "the mode"):
            os.chmod(target, mode)
        with self._recording_loss(path, "the modification time"):
            os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
            self._check_time(os.stat(target), entry, path)

    def _apply_link_metadata(self, directory: int, entry: Entry, path: bytes) -> None:
        if self._is_root:
            with self._recording_loss(path, "the owner"):
                os.chown(entry.name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        for name, value in entry.xattrs:
            with self._recording_loss(path, f"the attribute {show_path(name)}"):
                os.setxattr(member_path(directory, entry.name), name, value, follow_symlinks=False)
        with self._recording_loss(path, "the modification time"):
            times = (entry.mtime_ns, entry.mtime_ns)
            os.utime(entry.name, ns=times, dir_fd=directory, follow_symlinks=False)
            self._check_time(os.stat(entry.name, dir_fd=directory, follow_symlinks=False), entry, path)

    def _check_time(self, status: os.stat_result, entry: Entry, path: bytes) -> None:
        """Notes a time that the target could not hold: it gives the nearest one that it can, and no error."""
        off_ns = abs(status.st_mtime_ns - entry.mtime_ns)
        if off_ns >= _ROUNDED_NS:
            nearest = datetime.fromtimestamp(status.st_mtime_ns // 10**9, UTC).date()
            why = f"the target holds no such time; {nearest} is the nearest"
            self.result.losses.append(Loss(path, "the modification time", why))
        elif off_ns:
            self._rounded_first = path if self._rounded == 0 else self._rounded_first
            self._rounded += 1

    @contextlib.contextmanager
    def _recording_loss(self, path: bytes, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            self._record_loss(path, what, error)

    def _record_loss(self, path: bytes, what: str, error: OSError) -> None:
        self.result.losses.append(Loss(path, what, error.strerror or str(error)))


def _enter(parent: int, name: bytes, path: bytes) -> int:
    """Makes a directory, or goes into the one that is there, and opens it."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise NotADirectory(
                f"{show_path(path)} is a directory in the version and something else in the target",
                hint="Move it away, or export to another directory.",
            ) from error
        raise


def _clear(directory: int, name: bytes, path: bytes) -> None:
    """Removes the file at a name that is to be written."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except IsADirectoryError as error:
        raise IsADirectory(
            f"{show_path(path)} is a directory in the target and something else in the version",
            hint="Move it away, or export to another directory.",
        ) from error


def _write_content(descriptor: int, reader: FileReader, heard: Callable[[int], None]) -> None:
    written = 0
    for run in reader.runs():
        at = run.start
        while not run.is_hole and at < run.end:
            data = memoryview(reader.read(at, min(_PIECE_BYTES, run.end - at)))
            while data:
                count = os.pwrite(descriptor, data, at)
                data = data[count:]
                at += count
            written = at
            heard(written)
    if written < reader.size:
        os.ftruncate(descriptor, reader.size)
