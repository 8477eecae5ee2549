"""LocalBackend: named bytes as files below one directory, and the order of the system calls that make them durable.

Nothing below the root is followed through a symbolic link: a repository that somebody else made must not lead a read
or a write out of its directory. Rules: docs/durability.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import operator
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from vfs.backend.base import UNFINISHED, Buffer, MissingKey, Space, check_key
from vfs.backend.rooted_path import RootedPath, open_regular
from vfs.errors import InvalidInput

OPEN_FILES_MAX = 128
"""Descriptors kept for reading: enough for the packs a job touches at once, far below a process's limit."""
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITEBACK_BYTES = 8 * 1024 * 1024
_CLAMP_BYTES = 1024 * 1024

Step = Callable[[str], None]


def _no_step(_name: str) -> None:
    return


class LocalBackend:
    """A Backend over a local directory, which must exist.

    `on_step` hears the name of each step before it changes what a crash would leave; crash tests raise from it.
    """

    def __init__(self, root: Path, on_step: Step | None = None) -> None:
        self._root = root
        self._step = on_step or _no_step
        self._readers: OrderedDict[str, _OpenFile] = OrderedDict()
        self._readers_lock = threading.Lock()
        self._append_lock = threading.Lock()

    def read(self, key: str) -> bytes:
        """Returns the whole object."""
        with self._opened(key, os.O_RDONLY) as descriptor:
            return read_at(descriptor, 0, os.fstat(descriptor).st_size)

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end."""
        # The local name keeps the descriptor open, even when another thread pushes it out of the table meanwhile.
        reader = self._readers.get(key) or self._reader(key)
        if size > _CLAMP_BYTES:
            # pread allocates what it is asked for, before it knows how much there is.
            size = max(0, min(size, os.fstat(reader.descriptor).st_size - offset))
        try:
            return read_at(reader.descriptor, offset, size)
        except OSError as error:
            raise self._named(error, key) from None

    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns how much, less only at its end."""
        reader = self._readers.get(key) or self._reader(key)
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(reader.descriptor, [buffer[done:]], offset + done)
            except OSError as error:
                raise self._named(error, key) from None
            if count == 0:
                break
            done += count
        return done

    def will_need(self, key: str, offset: int, size: int) -> None:
        """Has the kernel begin to read part of an object into its page cache, and does not wait."""
        reader = self._readers.get(key) or self._reader(key)
        os.posix_fadvise(reader.descriptor, offset, size, os.POSIX_FADV_WILLNEED)

    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        reader = self._readers.get(key) or self._reader(key)
        return os.fstat(reader.descriptor).st_size

    def put(self, key: str, data: Buffer) -> None:
        """Stores an object, durable on return; replaces."""
        with self.start() as upload:
            upload.write(data)
            upload.commit(key)

    def start(self) -> LocalUpload:
        """Begins an object that is written in pieces."""
        return LocalUpload(self)

    def append(self, key: str, data: Buffer) -> None:
        """Extends an object, durable on return; after an OSError or MemoryError it has its old size."""
        check_key(key)
        with self._append_lock, self._opened(key, os.O_RDWR | os.O_CREAT) as descriptor:
            before = os.fstat(descriptor).st_size
            try:
                self._step(f"append {key}")
                write_at(descriptor, before, data)
                self._step(f"fsync {key}")
                os.fsync(descriptor)
                if before == 0:
                    self._sync_directories(key)
            except (OSError, MemoryError):
                os.ftruncate(descriptor, before)
                raise

    def truncate(self, key: str, size: int) -> None:
        """Cuts an object to `size` bytes, durable on return; never extends."""
        with self._append_lock, self._opened(key, os.O_RDWR) as descriptor:
            if os.fstat(descriptor).st_size > size:
                self._step(f"truncate {key}")
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)

    def delete(self, key: str) -> None:
        """Removes an object, durable on return."""
        name = check_key(key).rpartition("/")[2]
        with self._directory(key, create=False) as directory:
            self._step(f"delete {key}")
            try:
                os.unlink(name, dir_fd=directory)
            except FileNotFoundError:
                raise MissingKey(key) from None
            self._forget(key)
            os.fsync(directory)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields (key, bytes) sorted by key; symbolic links and special files are no objects."""
        parent = prefix.rpartition("/")[0]
        if parent:
            check_key(parent)
        yield from self._list_below(parent, prefix)

    def _list_below(self, parent: str, prefix: str) -> Iterator[tuple[str, int]]:
        start = f"{parent}/" if parent else ""
        try:
            with self._directory(f"{start}x", create=False) as directory, os.scandir(directory) as entries:
                found = [(f"{start}{entry.name}", entry.stat(follow_symlinks=False)) for entry in entries]
        except MissingKey:
            return
        # A directory sorts as its keys do, with the slash.
        names = [(f"{key}/" if stat.S_ISDIR(status.st_mode) else key, status) for key, status in found]
        for key, status in sorted(names, key=operator.itemgetter(0)):
            if key.startswith(prefix) and stat.S_ISREG(status.st_mode):
                yield key, status.st_size
            elif key.endswith("/") and key != UNFINISHED and (key.startswith(prefix) or prefix.startswith(key)):
                yield from self._list_below(key[:-1], prefix)

    def space(self) -> Space:
        """Returns how much room the file system has."""
        found = os.statvfs(self._root)
        unit = found.f_frsize
        return Space(found.f_blocks * unit, found.f_bfree * unit, found.f_bavail * unit, found.f_files, found.f_ffree)

    def clear_unfinished(self) -> int:
        """Removes what uploads of dead processes left and returns how many; those of living processes are locked."""
        removed = 0
        try:
            with self._directory(f"{UNFINISHED}x", create=False) as directory:
                for name in os.listdir(directory):
                    removed += _remove_if_dead(name, directory)
        except MissingKey:
            return 0
        return removed

    def close(self) -> None:
        """Closes the descriptors kept for reading."""
        with self._readers_lock:
            self._readers.clear()

    def _reader(self, key: str) -> _OpenFile:
        with self._opened(key, os.O_RDONLY) as descriptor:
            reader = _OpenFile(os.dup(descriptor))
        with self._readers_lock:
            self._readers[key] = reader
            if len(self._readers) > OPEN_FILES_MAX:
                # Oldest opened, not least used: it costs a hit nothing, and opening again costs ten microseconds.
                self._readers.popitem(last=False)
        return reader

    def _forget(self, key: str) -> None:
        with self._readers_lock:
            self._readers.pop(key, None)

    @contextmanager
    def _opened(self, key: str, flags: int) -> Iterator[int]:
        name = check_key(key).rpartition("/")[2]
        with self._directory(key, create=bool(flags & os.O_CREAT)) as directory:
            try:
                descriptor = open_regular(directory, name, flags, 0o666, os.path.join(self._root, key))
            except FileNotFoundError:
                raise MissingKey(key) from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _directory(self, key: str, *, create: bool) -> Iterator[int]:
        """Opens the directory that holds `key`, following no symbolic link below the root."""
        with contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(RootedPath(self._root, *key.split("/")[:-1]).opened(create=create))
            except FileNotFoundError:
                raise MissingKey(key) from None
            try:
                yield descriptor
            except OSError as error:
                raise self._named(error, key) from None

    def _named(self, error: OSError, key: str) -> OSError:
        """Gives an error the path of an object: the kernel was told a descriptor, or a name in an open directory."""
        error.filename, error.filename2 = os.path.join(self._root, key), None
        return error

    def _sync_directories(self, key: str) -> None:
        with self._directory(key, create=False) as directory:
            self._step(f"fsync directory of {key}")
            os.fsync(directory)

    def open_unfinished(self) -> tuple[str, int]:
        """Creates a file for an upload and returns (name, descriptor); its lock says that it is no leftover."""
        while True:
            name = os.urandom(16).hex()
            with self._directory(f"{UNFINISHED}{name}", create=True) as directory:
                descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, 0o666, dir_fd=directory)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return name, descriptor
            except BlockingIOError:
                # clear_unfinished() of another process came in between; it removes the file.
                pass
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def publish(self, name: str, descriptor: int, key: str) -> None:
        """Gives a finished upload its key: file durable, then its name, then the directory's entry (rule 1)."""
        self._step(f"fsync {key}")
        os.fsync(descriptor)
        target = check_key(key).rpartition("/")[2]
        with (
            self._directory(f"{UNFINISHED}{name}", create=False) as source,
            self._directory(key, create=True) as directory,
        ):
            self._step(f"rename {key}")
            os.rename(name, target, src_dir_fd=source, dst_dir_fd=directory)
            self._forget(key)
            self._step(f"fsync directory of {key}")
            os.fsync(directory)

    def discard(self, name: str) -> None:
        """Removes an upload's file."""
        try:
            with self._directory(f"{UNFINISHED}{name}", create=False) as directory:
                os.unlink(name, dir_fd=directory)
        except (MissingKey, FileNotFoundError):
            # Somebody cleaned up by hand; the aim is reached.
            return


class LocalUpload:
    """An Upload into a LocalBackend: a file below `tmp/` that gets its name when it is whole."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._name, self._descriptor = backend.open_unfinished()
        self._size = 0
        self._written_back = 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, *pieces: Buffer) -> None:
        """Appends the pieces; after an OSError only `abort` makes sense."""
        wanted = sum(map(len, pieces))
        written = os.pwritev(self._descriptor, pieces, self._size)
        if written != wanted:
            # A full disk or a signal cut the write short: the rest is written alone, and says what is wrong.
            write_at(self._descriptor, self._size + written, b"".join(pieces)[written:])
        self._size += wanted
        if self._size - self._written_back >= _WRITEBACK_BYTES:
            # Starts the disk now: the fsync at the end finds little left (measured: a tenth of an ingest's time).
            os.posix_fadvise(self._descriptor, self._written_back, _WRITEBACK_BYTES, os.POSIX_FADV_DONTNEED)
            self._written_back += _WRITEBACK_BYTES

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes that were written before; fewer only at the end."""
        return read_at(self._descriptor, offset, min(size, self._size - offset))

    def commit(self, key: str) -> None:
        """Makes the object durable and visible under `key`."""
        if self._descriptor < 0:
            raise InvalidInput("the upload is over")
        self._backend.publish(self._name, self._descriptor, key)
        self._close()

    def abort(self) -> None:
        """Drops the object; does nothing after `commit` or `abort`."""
        if self._descriptor >= 0:
            self._backend.discard(self._name)
            self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class _OpenFile:
    """A descriptor that closes when its last user lets go, so that pushing it out of the table is safe at any time."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Returns the bytes at an offset of a file; fewer only at its end."""
    data = os.pread(descriptor, size, offset)
    if len(data) == size or not data:
        return data
    pieces = [data]
    done = len(data)
    while done < size:
        data = os.pread(descriptor, size - done, offset + done)
        if not data:
            break
        pieces.append(data)
        done += len(data)
    return b"".join(pieces)


def write_at(descriptor: int, offset: int, data: Buffer) -> None:
    """Writes all bytes at an offset of a file."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        offset += written
        rest = rest[written:]


def _remove_if_dead(name: str, directory: int) -> bool:
    try:
        descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=directory)
    except OSError:
        # Gone meanwhile, or nothing that an upload made.
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True
