"""RootedPath: access to files below a directory whose contents another user may have made.

A repository can come from anywhere: an archive, a shared disk, another user. So nothing below its root is followed
through a symbolic link, nothing but regular files and directories is opened, and no file is written that has a second
name elsewhere. Each call walks from the root, one directory descriptor after the other; the root itself is the
caller's choice and may be reached through links (docs/durability.md, rule 10).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import total_ordering
from pathlib import Path

from vfs.backend.durable import OnStep, sync, write_at
from vfs.backend.protocol import Buffer
from vfs.errors import Corrupt, InvalidInput

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a fifo must fail the check below, not wait for a writer.
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_LINK_HINT = (
    "A repository holds no links: put what it points at in its place, or mount a directory there (mount --bind)."
)
_NAMES_HINT = "Give the repository a copy of its own: `cp -p FILE FILE.copy && mv FILE.copy FILE`."


class Planted(Corrupt):
    """A link, a special file or a directory stands where the repository has a file of its own; it is not touched."""

    code = "planted"


@total_ordering
class RootedPath:
    """A place below a root; used like a `pathlib.Path`, but never handed to a system call that follows links.

    Every method may raise OSError, whose `filename` is the whole path, and Planted.
    """

    __slots__ = ("_names", "_root")

    def __init__(self, root: Path, *names: str) -> None:
        """Raises InvalidInput for a name that is not one plain component."""
        for name in names:
            if not name or name in (".", "..") or "/" in name or "\0" in name:
                raise InvalidInput(f"{name!r} cannot be a name in a repository")
        self._root = root
        self._names = names

    @classmethod
    def of(cls, path: Path) -> RootedPath:
        """Returns a path whose root is the directory that it is in."""
        return cls(path.parent, path.name)

    def __truediv__(self, name: str) -> RootedPath:
        return RootedPath(self._root, *self._names, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RootedPath) and self.path == other.path

    def __lt__(self, other: RootedPath) -> bool:
        return self.path < other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"RootedPath({str(self)!r})"

    @property
    def path(self) -> Path:
        """The whole path, for messages."""
        return self._root.joinpath(*self._names)

    @property
    def name(self) -> str:
        """The last component."""
        return self._names[-1] if self._names else self._root.name

    @property
    def parent(self) -> RootedPath:
        """The directory that it is in; the root's is itself."""
        return RootedPath(self._root, *self._names[:-1])

    def with_name(self, name: str) -> RootedPath:
        """Returns a neighbour."""
        return self.parent / name

    # Directories.

    @contextmanager
    def opened(self, *, create: bool = False, mode: int = 0o777) -> Iterator[int]:
        """Opens a directory; `create` makes it, and those above it, where they are not there (durability, rule 2)."""
        with self._errors_named(), self._walked(self._names, mode if create else 0) as descriptor:
            yield descriptor

    @contextmanager
    def _walked(self, names: Sequence[str], create_mode: int = 0) -> Iterator[int]:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for done, name in enumerate(names):
                below = self._step_into(name, descriptor, create_mode, done)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _step_into(self, name: str, parent: int, create_mode: int, done: int) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not create_mode:
                raise
        except OSError as error:
            raise self._refusal(error, done + 1) from error
        try:
            os.mkdir(name, create_mode, dir_fd=parent)
        except FileExistsError:
            # Another process has made it meanwhile.
            pass
        # The name of a new directory is durable before anything is stored in it.
        sync(parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)

    def make_directory(self) -> None:
        """Makes a directory, and those above it, where they are not there; durable on return."""
        with self.opened(create=True):
            pass

    def sync(self) -> None:
        """Makes the names in a directory durable."""
        with self.opened() as descriptor:
            sync(descriptor)

    def names(self) -> list[str]:
        """Returns the names in a directory, sorted."""
        with self.opened() as descriptor:
            return sorted(os.listdir(descriptor))

    def iterdir(self) -> Iterator[RootedPath]:
        """Yields a directory's entries, sorted by name."""
        return (self / name for name in self.names())

    def glob(self, pattern: str) -> list[RootedPath]:
        """Returns a directory's entries whose names match a pattern, sorted; none where there is no directory."""
        try:
            return [self / name for name in self.names() if fnmatchcase(name, pattern)]
        except FileNotFoundError:
            return []

    def remove_directory(self) -> None:
        """Removes a directory with the files that are in it; Planted where a directory is in it."""
        for below in self.iterdir():
            try:
                below.unlink(missing_ok=True)
            except IsADirectoryError as error:
                raise _planted(str(below), "a directory") from error
        with self._holder() as directory:
            os.rmdir(self.name, dir_fd=directory)

    # Names.

    @contextmanager
    def _holder(self) -> Iterator[int]:
        """Opens the directory that it is in; errors within are about this path."""
        with self._errors_named(), self._walked(self._names[:-1]) as descriptor:
            yield descriptor

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # The kernel was told a descriptor, or a name in an open directory.
            error.filename = str(self)
            raise

    def lstat(self) -> os.stat_result:
        """Returns what stands there, whatever it is."""
        with self._holder() as directory:
            return os.stat(self._names[-1] if self._names else ".", dir_fd=directory, follow_symlinks=False)

    def exists(self) -> bool:
        """Returns True if the name exists, even as a link without a target."""
        return self._mode() != 0

    def is_dir(self) -> bool:
        """Returns True for a directory; a link to one is none."""
        return stat.S_ISDIR(self._mode())

    def _mode(self) -> int:
        try:
            return self.lstat().st_mode
        except FileNotFoundError:
            return 0

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Removes a name; of a link, the link. `missing_ok`: also where its directory is missing."""
        try:
            with self._holder() as directory:
                os.unlink(self.name, dir_fd=directory)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: RootedPath) -> None:
        """Gives it another name, in place of what has that; what a link there leads to stays as it is."""
        with self._holder() as source, target._holder() as directory:
            os.rename(self.name, target.name, src_dir_fd=source, dst_dir_fd=directory)

    # Regular files.

    def open(self, flags: int, mode: int = 0o600) -> int:
        """Opens a regular file and returns its descriptor; with O_CREAT the directory must be there.

        For writing, refuses a file that has a second name: writes would show there, too.
        """
        with self._holder() as directory:
            return open_regular(directory, self.name, flags, mode, str(self))

    def create(self, mode: int = 0o600) -> int:
        """Begins a new file for reading and writing; what a crash left under the name is removed before."""
        with self._holder() as directory:
            try:
                os.unlink(self.name, dir_fd=directory)
            except FileNotFoundError:
                pass
            except IsADirectoryError as error:
                raise _planted(str(self), "a directory") from error
            return os.open(self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, mode, dir_fd=directory)

    def read_bytes(self, size_max: int = 1 << 30) -> bytes:
        """Returns a regular file's bytes; Planted for one that is larger than it can be."""
        descriptor = self.open(os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            if size > size_max:
                raise Planted(f"{self} has {size} bytes; no program of ours makes one of more than {size_max}")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(size)
        finally:
            os.close(descriptor)

    def replace_bytes(self, data: Buffer, what: str, on_step: OnStep) -> None:
        """Makes `data` the contents of a file, durable on return; old or new after any crash, never a mix.

        `on_step` is called with "write" and "name" before `what`, as of every durable step.
        """
        draft = self.with_name(self.name + ".new")
        on_step(f"write {what}")
        descriptor = draft.create()
        try:
            write_at(descriptor, 0, [data])
            sync(descriptor)
        finally:
            os.close(descriptor)
        on_step(f"name {what}")
        draft.rename(self)
        self.parent.sync()

    def _refusal(self, error: OSError, depth: int) -> Exception:
        return refusal(str(self._root.joinpath(*self._names[:depth])), error)


def open_regular(directory: int, name: str, flags: int, mode: int, shown: str) -> int:
    """Opens a regular file in an open directory; `shown` is its path, for messages. Raises OSError, Planted."""
    try:
        # Before it is opened: opening alone does something to some devices.
        kind = stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        kind = stat.S_IFREG
    if kind != stat.S_IFREG:
        raise _planted(shown, _WHAT.get(kind, "a special file"))
    try:
        descriptor = os.open(name, flags | _FILE, mode, dir_fd=directory)
    except OSError as error:
        raise refusal(shown, error) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and (status.st_nlink <= 1 or not flags & (os.O_WRONLY | os.O_RDWR)):
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise _planted(shown, "a special file")
    raise Planted(f"{shown} has a second name (a hard link), and writing would change that too", hint=_NAMES_HINT)


_WHAT = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a directory"}


def refusal(shown: str, error: OSError) -> Exception:
    """Turns what a planted link or special file answers into the error that says so; returns any other as it is."""
    if error.errno == errno.ENXIO:
        return _planted(shown, "a special file")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return _planted(shown, "a symbolic link or a file")
    return error


def _planted(shown: str, what: str) -> Planted:
    return Planted(f"{shown}: {what} stands where the repository keeps its own", hint=_LINK_HINT)
