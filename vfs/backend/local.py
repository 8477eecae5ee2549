"""LocalBackend: objects and growing files as files below one directory, made durable in a fixed order of system calls.

Nothing below the root is followed through a symbolic link: a repository of another user must not lead a read or a
write out of its directory. Rules: docs/durability.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import operator
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from vfs.backend.durable import OnStep, read_at, read_into_at, step, sync, write_at
from vfs.backend.protocol import (
    UNFINISHED,
    Buffer,
    KeyExists,
    MissingKey,
    OnDisk,
    OpenFile,
    Token,
    TokenMismatch,
    Versioned,
    check_key,
)
from vfs.backend.rooted_path import RootedPath, open_regular
from vfs.errors import InvalidInput

OPEN_FILES_MAX = 128
"""Descriptors kept for reading: enough for the packs a job touches at once, far below a process's limit."""
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITEBACK_BYTES = 8 * 1024 * 1024
_CLAMP_BYTES = 1024 * 1024
_SWAP_LOCK = "swap.lock"
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class LocalBackend:
    """An ObjectBackend, and LocalFiles, over a local directory, which must exist.

    `on_step` is called with the name of each step before it changes what a crash would leave; crash tests raise from
    it. A token is a hash of the contents: after A -> B -> A the first one fits again.
    """

    is_local = True

    def __init__(self, root: Path, on_step: OnStep | None = None) -> None:
        self._root = root
        self._on_step = on_step
        self._readers: OrderedDict[str, OpenFile] = OrderedDict()
        self._readers_lock = threading.Lock()
        self._append_lock = threading.Lock()

    @property
    def root(self) -> Path:
        """The directory."""
        return self._root

    def read(self, key: str) -> bytes:
        """Returns the whole object."""
        with self._opened(key, os.O_RDONLY) as descriptor:
            return read_at(descriptor, 0, os.fstat(descriptor).st_size)

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end."""
        # The local name keeps the descriptor open, even when another thread evicts it from the table meanwhile.
        reader = self._readers.get(key) or self._reader(key)
        if size > _CLAMP_BYTES:
            # pread allocates all bytes asked for before it knows how many there are.
            size = max(0, min(size, os.fstat(reader.descriptor).st_size - offset))
        try:
            return read_at(reader.descriptor, offset, size)
        except OSError as error:
            raise self._named(error, key) from None

    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns the number of bytes, fewer than asked only at its end."""
        reader = self._readers.get(key) or self._reader(key)
        try:
            return read_into_at(reader.descriptor, offset, buffer)
        except OSError as error:
            raise self._named(error, key) from None

    def read_versioned(self, key: str) -> Versioned:
        """Returns the whole object with its token."""
        data = self.read(key)
        return Versioned(data, _token_of(data))

    def read_if_changed(self, key: str, token: Token) -> Versioned | None:
        """Returns the whole object with its token, None if `token` names its contents."""
        found = self.read_versioned(key)
        return found if found.token != token else None

    def read_kept(self, key: str, offset: int, size: int) -> Buffer | None:
        """Returns None: no copies are kept."""
        return None

    def hint_readahead(self, key: str, offset: int, size: int) -> None:
        """Starts the kernel's reading of part of an object into its page cache; returns at once."""
        reader = self._readers.get(key) or self._reader(key)
        os.posix_fadvise(reader.descriptor, offset, size, os.POSIX_FADV_WILLNEED)

    def on_disk(self, key: str, offset: int, size: int) -> OnDisk | None:
        """Returns the object's file and the same offset there."""
        return OnDisk(self._readers.get(key) or self._reader(key), offset)

    def drop_copy(self, key: str, offset: int, size: int) -> bool:
        """Returns False: no copies are kept."""
        return False

    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        reader = self._readers.get(key) or self._reader(key)
        return os.fstat(reader.descriptor).st_size

    def put(self, key: str, data: Buffer) -> None:
        """Stores an object, durable on return; replaces."""
        with self.start() as upload:
            upload.write(data)
            upload.commit(key)

    def put_if_absent(self, key: str, data: Buffer) -> Token:
        """Stores an object where the key has none, else raises KeyExists."""
        check_key(key)
        # Asked first, so that a refusal costs no write; the link below decides.
        with contextlib.suppress(MissingKey), self._opened(key, os.O_RDONLY):
            raise KeyExists(key)
        with self.start() as upload:
            upload.write(data)
            upload.commit_if_absent(key)
        return _token_of(data)

    def compare_and_swap(self, key: str, data: Buffer, expected: Token) -> Token:
        """Replaces an object if `expected` still names its contents; returns the new token."""
        check_key(key)
        with self._swap_locked():
            if self.read_versioned(key).token != expected:
                raise TokenMismatch(key)
            self.put(key, data)
        return _token_of(data)

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
                write_at(descriptor, before, (data,))
                self._step(f"fsync {key}")
                sync(descriptor)
                if before == 0:
                    self.sync_name(key)
            except (OSError, MemoryError):
                os.ftruncate(descriptor, before)
                raise

    def truncate(self, key: str, size: int) -> None:
        """Cuts an object to `size` bytes, durable on return; never extends."""
        with self._append_lock, self._opened(key, os.O_RDWR) as descriptor:
            if os.fstat(descriptor).st_size > size:
                self._step(f"truncate {key}")
                os.ftruncate(descriptor, size)
                sync(descriptor)

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
            sync(directory)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields (key, bytes) sorted by key; symbolic links and special files are not objects."""
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

    def clear_unfinished(self) -> int:
        """Removes the unfinished uploads of dead processes and returns how many; a living process locks its own."""
        removed = 0
        try:
            with self._directory(f"{UNFINISHED}x", create=False) as directory:
                for name in os.listdir(directory):
                    removed += _remove_if_dead(name, directory)
        except MissingKey:
            return 0
        return removed

    def close_removed(self) -> None:
        """Closes the descriptors of files that have no name any more."""
        with self._readers_lock:
            for key, reader in list(self._readers.items()):
                if not _has_name(reader.descriptor):
                    del self._readers[key]

    def close(self) -> None:
        """Closes the descriptors kept for reading."""
        with self._readers_lock:
            self._readers.clear()

    def _reader(self, key: str) -> OpenFile:
        with self._opened(key, os.O_RDONLY) as descriptor:
            reader = OpenFile(os.dup(descriptor))
        with self._readers_lock:
            self._readers[key] = reader
            if len(self._readers) > OPEN_FILES_MAX:
                # First in, first out: a hit updates nothing, and opening again costs ten microseconds.
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

    def _step(self, name: str) -> None:
        step(self._on_step, name)

    def _named(self, error: OSError, key: str) -> OSError:
        """Sets the path of an object in an error: the kernel saw a descriptor, or a name in an open directory."""
        error.filename, error.filename2 = os.path.join(self._root, key), None
        return error

    def sync_name(self, key: str) -> None:
        """Makes the name of an object durable."""
        with self._directory(key, create=False) as directory:
            self._step(f"fsync directory of {key}")
            sync(directory)

    def open_unfinished(self) -> tuple[str, int]:
        """Creates a file for an upload and returns (name, descriptor); its lock tells that its process lives."""
        while True:
            name = os.urandom(16).hex()
            with self._directory(f"{UNFINISHED}{name}", create=True) as directory:
                descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, 0o666, dir_fd=directory)
            # Where clear_unfinished() of another process came in between, it removes the file: try another name.
            if self._locked(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return name, descriptor

    def _locked(self, descriptor: int, mode: int) -> bool:
        """Locks a file below `tmp/`; False, and closed, where clear_unfinished() locked or removed it."""
        try:
            fcntl.flock(descriptor, mode)
            if os.fstat(descriptor).st_nlink:
                return True
        except BlockingIOError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return False

    @contextmanager
    def _swap_locked(self) -> Iterator[None]:
        """Excludes the other compare-and-swaps of all processes; a crash releases the lock."""
        while True:
            with self._directory(f"{UNFINISHED}{_SWAP_LOCK}", create=True) as directory:
                descriptor = open_regular(
                    directory, _SWAP_LOCK, os.O_RDWR | os.O_CREAT, 0o666, os.path.join(self._root, UNFINISHED)
                )
            if self._locked(descriptor, fcntl.LOCK_EX):
                break
        try:
            yield
        finally:
            os.close(descriptor)

    def publish(self, name: str, descriptor: int, key: str, *, if_absent: bool = False) -> None:
        """Gives a finished upload its key: file durable, then its name, then the directory's entry (rule 1)."""
        target = check_key(key).rpartition("/")[2]
        self._step(f"fsync {key}")
        sync(descriptor)
        with (
            self._directory(f"{UNFINISHED}{name}", create=False) as source,
            self._directory(key, create=True) as directory,
        ):
            self._step(f"rename {key}")
            if if_absent:
                self._name_new(name, source, target, directory, key)
            else:
                os.rename(name, target, src_dir_fd=source, dst_dir_fd=directory)
            self._forget(key)
            self._step(f"fsync directory of {key}")
            sync(directory)

    def _name_new(self, name: str, source: int, target: str, directory: int, key: str) -> None:
        """Renames a file to a name that is not taken; of several processes exactly one succeeds."""
        try:
            self._step(f"link {key}")
            os.link(name, target, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            raise KeyExists(key) from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # A file system without hard links: the lock makes the question and the rename one step.
            with self._swap_locked():
                if _is_there(target, directory):
                    raise KeyExists(key) from None
                os.rename(name, target, src_dir_fd=source, dst_dir_fd=directory)
        else:
            os.unlink(name, dir_fd=source)

    def discard(self, name: str) -> None:
        """Removes an upload's file."""
        try:
            with self._directory(f"{UNFINISHED}{name}", create=False) as directory:
                os.unlink(name, dir_fd=directory)
        except (MissingKey, FileNotFoundError):
            # Removed by hand meanwhile.
            return


class LocalUpload:
    """An Upload into a LocalBackend: a file below `tmp/` that is renamed to its key when it is whole."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._name, self._descriptor = backend.open_unfinished()
        self._size = 0
        self._written_back = 0
        self._key = ""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, *pieces: Buffer) -> None:
        """Appends the pieces; after an OSError none of them counts as written."""
        wanted = sum(map(len, pieces))
        written = os.pwritev(self._descriptor, pieces, self._size)
        if written != wanted:
            # A full disk or a signal cut the write short: writing the rest raises the error that explains it.
            write_at(self._descriptor, self._size + written, (b"".join(pieces)[written:],))
        self._size += wanted
        if self._size - self._written_back >= _WRITEBACK_BYTES:
            # Start the writeback now: the fsync at the end then has little left (a tenth of an import's time).
            os.posix_fadvise(self._descriptor, self._written_back, _WRITEBACK_BYTES, os.POSIX_FADV_DONTNEED)
            self._written_back += _WRITEBACK_BYTES

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes that were written before; fewer only at the end."""
        return read_at(self._descriptor, offset, min(size, self._size - offset))

    def commit(self, key: str) -> None:
        """Makes the object durable and visible under `key`; a second time does nothing."""
        if self._descriptor < 0 and self._key == key:
            return
        self._publish(key, if_absent=False)

    def commit_if_absent(self, key: str) -> None:
        """As `commit`, but raises KeyExists where there is an object under the key."""
        self._publish(key, if_absent=True)

    def _publish(self, key: str, *, if_absent: bool) -> None:
        if self._descriptor < 0:
            raise InvalidInput("the upload is over")
        self._backend.publish(self._name, self._descriptor, key, if_absent=if_absent)
        self._key = key
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


def _token_of(data: Buffer) -> Token:
    import hashlib  # OpenSSL, which only conditional writes need.

    return Token((hashlib.sha256(data).hexdigest(),))


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _has_name(descriptor: int) -> bool:
    """Returns False for a file that was removed, or whose disk does not say: the next read opens it again."""
    try:
        return bool(os.fstat(descriptor).st_nlink)
    except OSError:
        return False


def _remove_if_dead(name: str, directory: int) -> bool:
    try:
        descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=directory)
    except OSError:
        # Removed meanwhile, or not made by an upload.
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True
