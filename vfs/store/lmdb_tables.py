"""Tables: named, ordered maps of bytes to bytes in one LMDB environment.

Everything kept here is derived from files that carry their own checks, and can be deleted (docs/durability.md, rule 9).
LMDB notices neither bit rot nor a truncated file (the first gives wrong values, the second a SIGBUS), so every value
carries a checksum bound to its table and key, and the file's size is compared with its header before it is mapped. No
buffer of LMDB's leaves a transaction. Layout: docs/format.md, "Index".
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from zlib import crc32

import lmdb

from vfs.backend.durable import OnStep, sync
from vfs.backend.rooted_path import RootedPath
from vfs.errors import TooLarge
from vfs.store.lmdb_environment import DamagedTables, Environment, translate, translated
from vfs.store.lmdb_pages import page_fault

KEY_BYTES_MAX = 511
MAP_BYTES = 1 << 40
"""Address space, not disk: chosen once, because resizing under readers breaks them."""
_PAGE_ROWS = 512
_CHECK_BYTES = 4
_ADVISED_BYTES = 128 * 1024
"""The kernel takes no more of one call than the disk takes at once, on some that much."""
_DATA = "data.mdb"
_ORIGIN = "origin"
_MEMORY = "/dev/shm"
_FILES = (_DATA, "lock.mdb", _ORIGIN)

_META = struct.Struct("<16xIIQQ48x48xQQ")
"""LMDB 0.9: page header, magic, version, address, map size, two tree heads, last page, transaction."""
_META_MAGIC = 0xBEEFC0DE
_FULL_BYTES = 1 << 20
"""With less free, a disk counts as full."""
_SIZE_ATTEMPTS = 20
_SIZE_WAIT_S = 0.01
_PAGE_SIZE = struct.Struct("<I")
_PAGE_SIZE_AT = 16 + 4 + 4 + 8 + 8


class Tables:
    """The tables below one directory, open for reading and writing; usable from any thread, also of a forked child.

    A process opens a directory once (Busy otherwise); several processes may have it open. What one transaction wrote
    is seen by every later read of every process. `on_step` is called before each commit.
    """

    def __init__(
        self,
        directory: Path,
        names: Sequence[str],
        *,
        map_bytes: int = MAP_BYTES,
        on_step: OnStep | None = None,
        is_durable: bool = True,
    ) -> None:
        """Opens, or creates, the tables; raises DamagedTables for a file that cannot be trusted to be mapped.

        Unless `is_durable`, what is written survives the end of the process, and no power cut.
        """
        self._on_step = on_step
        # Never a link itself, either: LMDB, which opens it by its path, would follow one.
        rooted = RootedPath.of(directory)
        self._data: RootedPath | None = rooted / _DATA
        rooted.make_directory()
        _check_files(rooted)
        _claim(rooted)
        with self._room_named():
            self._env = Environment(directory, names, map_bytes, is_durable=is_durable)
        # Bound into every checksum, so that a record can never pass for one of another table.
        self._salts = {name: crc32(name.encode()) for name in names}

    @classmethod
    def in_memory(cls, names: Sequence[str]) -> Self:
        """Returns empty tables of this process alone, for what a disk does not take; they go with the process."""
        return cls.unnamed(names, Path(_MEMORY) if os.access(_MEMORY, os.W_OK) else None)

    @classmethod
    def unnamed(cls, names: Sequence[str], place: Path | None) -> Self:
        """Returns empty tables of this process alone on the disk of a directory; they go with the process."""
        import shutil
        import tempfile

        directory = tempfile.mkdtemp(prefix="vfs-", dir=place)
        try:
            tables = cls(Path(directory), names, is_durable=False)
            tables._data = None
            tables._env.is_lost_in_a_fork = True
        finally:
            shutil.rmtree(directory)
        return tables

    def get(self, table: str, key: bytes) -> bytes | None:
        """Returns a value; raises DamagedTables where its checksum is wrong."""
        env = self._env
        # Not by `using`: this is called more than anything else.
        env.users.append(None)
        try:
            with env.begin(table) as transaction:
                stored = transaction.get(key)
        except lmdb.Error as error:
            raise translate(error) from error
        finally:
            env.users.pop()
        return None if stored is None else self._checked(table, key, stored)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """Returns the values of several keys as one moment has them; raises as `get` does."""
        env = self._env
        # As in `get`.
        env.users.append(None)
        try:
            with env.begin(table) as transaction:
                rows = [transaction.get(key) for key in keys]
        except lmdb.Error as error:
            raise translate(error) from error
        finally:
            env.users.pop()
        return [
            None if stored is None else self._checked(table, key, stored)
            for key, stored in zip(keys, rows, strict=True)
        ]

    def stored_rows(self, table: str, keys: Sequence[bytes], missing: bytes) -> bytes:
        """Returns the values of several keys one behind the other, with their checksums, which are not compared.

        `missing` stands for each that there is not, and for one of another length.
        """
        with self._env.using(), self._env.begin(table) as transaction:
            found = list(map(transaction.get, keys))
        rows = [missing if row is None else row for row in found]
        if set(map(len, rows)) != {len(missing)}:
            rows = [row if len(row) == len(missing) else missing for row in rows]
        return b"".join(rows)

    def has(self, table: str, key: bytes) -> bool:
        """Returns True if there is a value with a right checksum; a damaged one raises."""
        return self.get(table, key) is not None

    def scan(
        self, table: str, prefix: bytes = b"", *, start: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yields (key, value) of the keys with a prefix, from the first at or after `start` (reverse: at or before).

        Reads a page at a time: no transaction is open while the caller works, and changes made meanwhile may be seen.
        """
        at, inclusive = start or (prefix if not reverse else b""), True
        while True:
            rows = self._page(table, prefix, at, inclusive=inclusive, reverse=reverse)
            yield from rows
            if len(rows) < _PAGE_ROWS:
                return
            at, inclusive = rows[-1][0], False

    def _page(
        self, table: str, prefix: bytes, at: bytes, *, inclusive: bool, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        rows: list[tuple[bytes, bytes]] = []
        with self._env.using(), self._env.begin(table) as transaction, transaction.cursor() as cursor:
            found = _seek_back(cursor, prefix, at) if reverse else cursor.set_range(at)
            if found and not inclusive and cursor.key() == at:
                found = cursor.prev() if reverse else cursor.next()
            while found and len(rows) < _PAGE_ROWS:
                key, stored = cursor.item()
                if not key.startswith(prefix):
                    break
                rows.append((key, stored))
                found = cursor.prev() if reverse else cursor.next()
        return [(key, self._checked(table, key, stored)) for key, stored in rows]

    def count(self, table: str) -> int:
        """Returns the number of rows."""
        with self._env.using(), self._env.begin() as transaction:
            return transaction.stat(self._env.tables[table])["entries"]

    @contextmanager
    def write(self) -> Iterator[Batch]:
        """Begins a transaction, commits it at the end and drops it on an exception; waits for any other writer.

        Belongs to one thread from begin to end and cannot be nested. Raises OSError(ENOSPC) when the disk is full.
        """
        with self._env.writing() as transaction:
            try:
                yield Batch(self, transaction)
                if self._on_step is not None:
                    self._on_step("commit index")
                with self._room_named(), translated():
                    transaction.commit()
            except BaseException:
                transaction.abort()
                raise
        self._cover_last_page()

    @contextmanager
    def _room_named(self) -> Iterator[None]:
        """Raises ENOSPC for the EIO that LMDB makes of a write that a full disk cut short."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.EIO and self._data is not None and _free_bytes(self._data) < _FULL_BYTES:
                raise OSError(errno.ENOSPC, f"the index cannot grow: {error.strerror}") from error
            raise

    def check(self) -> None:
        """Reads the whole file, every page of every tree and of the list of free pages; raises DamagedTables."""
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            with self._env.using():
                # A compacting copy walks all there is, and finds a page that is in no tree and not free.
                self._env.opened().copyfd(nowhere, compact=True)
        finally:
            os.close(nowhere)
        if self._data is None:
            return
        page_bytes = self._env.page_bytes
        descriptor = self._data.open(os.O_RDONLY)
        try:
            with self._env.using(), self._env.begin() as transaction:
                fault = page_fault(lambda at: os.pread(descriptor, page_bytes, at * page_bytes), transaction.id())
        finally:
            os.close(descriptor)
        if fault:
            raise DamagedTables(f"the index is damaged: {fault}")

    def bytes_used(self) -> int:
        """Returns the size of the tables' file."""
        return self._data.lstat().st_size if self._data is not None else self._wanted_bytes()

    def hint_readahead(self, bytes_max: int) -> None:
        """Has the kernel begin to read the tables' file into its page cache, up to a size, and does not wait for it.

        A look-up touches a page of each level of a tree, and waits for the disk at each that is not in memory.
        """
        if self._data is None:
            return
        with open(self._data.open(os.O_RDONLY), "rb") as file:
            for at in range(0, min(bytes_max, self.bytes_used()), _ADVISED_BYTES):
                os.posix_fadvise(file.fileno(), at, _ADVISED_BYTES, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Closes the environment; further use raises."""
        self._env.close()

    def _cover_last_page(self) -> None:
        """Keeps the file as long as its header says: pages taken and freed within a transaction are never written."""
        wanted = self._wanted_bytes()
        if self._data is not None and self._data.lstat().st_size < wanted:
            with open(self._data.open(os.O_RDWR), "r+b") as file:
                if os.fstat(file.fileno()).st_size < wanted:
                    file.truncate(wanted)

    def _wanted_bytes(self) -> int:
        with self._env.using():
            return int((self._env.opened().info()["last_pgno"] + 1) * self._env.page_bytes)

    def _checked(self, table: str, key: bytes, stored: bytes) -> bytes:
        value = stored[_CHECK_BYTES:]
        if stored[:_CHECK_BYTES] != crc32(value, crc32(key, self._salts[table])).to_bytes(_CHECK_BYTES, "little"):
            raise DamagedTables(f"a row of the table {table} is damaged")
        return value

    def seal(self, table: str, key: bytes, value: bytes) -> bytes:
        """Returns a value as it is stored: its checksum, then itself."""
        return crc32(value, crc32(key, self._salts[table])).to_bytes(_CHECK_BYTES, "little") + value

    def open_row(self, table: str, key: bytes, stored: bytes | None) -> bytes | None:
        """Returns a stored value without its checksum; raises DamagedTables."""
        return None if stored is None else self._checked(table, key, stored)

    def handle(self, table: str) -> lmdb._Database:
        """Returns LMDB's own name of a table, for Batch."""
        return self._env.tables[table]


class Batch:
    """A write transaction; sees its own changes."""

    def __init__(self, tables: Tables, transaction: lmdb.Transaction[bytes]) -> None:
        self._tables = tables
        self._transaction = transaction

    def get(self, table: str, key: bytes) -> bytes | None:
        """Returns a value as it is within the transaction."""
        with translated():
            stored = self._transaction.get(key, db=self._tables.handle(table))
        return self._tables.open_row(table, key, stored)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Stores a value; replaces."""
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise TooLarge(f"a key of the table {table} has {len(key)} bytes; {KEY_BYTES_MAX} is the most")
        try:
            self._transaction.put(key, self._tables.seal(table, key, value), db=self._tables.handle(table))
        except lmdb.Error as error:
            raise translate(error) from error

    def put_new(self, table: str, rows: Iterator[tuple[bytes, bytes]]) -> int:
        """Stores the rows, sorted by key, whose key is not there yet, and returns how many."""
        seal, handle = self._tables.seal, self._tables.handle(table)
        try:
            # Appended rows fill their pages; LMDB halves the pages that others are inserted into.
            is_empty = not self._transaction.stat(handle)["entries"]
            sealed = ((key, seal(table, key, value)) for key, value in rows)
            with self._transaction.cursor(handle) as cursor:
                return cursor.putmulti(sealed, overwrite=False, append=is_empty)[1]
        except lmdb.Error as error:
            raise translate(error) from error

    def delete(self, table: str, key: bytes) -> bool:
        """Removes a row. Returns True if there was one."""
        with translated():
            return self._transaction.delete(key, db=self._tables.handle(table))

    def delete_prefix(self, table: str, prefix: bytes, *, start: bytes = b"") -> None:
        """Removes the rows with a prefix, from the first at or after `start`."""
        with translated(), self._transaction.cursor(self._tables.handle(table)) as cursor:
            found = cursor.set_range(start or prefix)
            while found and cursor.key().startswith(prefix):
                found = cursor.delete()

    def clear(self, table: str) -> None:
        """Removes all rows of a table."""
        with translated():
            self._transaction.drop(self._tables.handle(table), delete=False)

    def last(self, table: str) -> tuple[bytes, bytes] | None:
        """Returns the row with the largest key."""
        with translated(), self._transaction.cursor(self._tables.handle(table)) as cursor:
            if not cursor.last():
                return None
            key, stored = cursor.item()
        return key, self._tables.open_row(table, key, stored) or b""


def discard(directory: Path) -> None:
    """Removes the tables' files. No process may have them open: it would go on with the removed ones."""
    rooted = RootedPath.of(directory)
    for path in rooted.glob("*"):
        if path.name in _FILES:
            path.unlink(missing_ok=True)


def _check_files(directory: RootedPath) -> None:
    """Refuses files that LMDB would follow out of the directory or read past the end of; raises DamagedTables."""
    for name in _FILES:
        try:
            status = (directory / name).lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise DamagedTables(f"{directory.name}/{name} is not a plain file")
        if name == _DATA and status.st_size:
            _check_origin(directory, status.st_ino)
            _check_size(directory / name)


def _check_origin(directory: RootedPath, inode: int) -> None:
    """Refuses a data file that was not begun here.

    A copy made of a live file is torn, and one of unknown origin may be built to crash LMDB, which can tell
    neither; a copy has another inode number.
    """
    try:
        origin = (directory / _ORIGIN).read_bytes()
    except FileNotFoundError:
        origin = b""
    if origin != b"%d\n" % inode:
        raise DamagedTables(f"{directory.name}/{_DATA} is a copy from elsewhere")


def _claim(directory: RootedPath) -> None:
    """Begins the data file where there is none, and notes that it was begun here."""
    descriptor = (directory / _DATA).open(os.O_RDWR | os.O_CREAT)
    try:
        status = os.fstat(descriptor)
        if status.st_size:
            return
    finally:
        os.close(descriptor)
    origin = (directory / _ORIGIN).open(os.O_WRONLY | os.O_CREAT)
    try:
        # Two processes that begin together write the same bytes; what an older file left behind them is cut.
        os.ftruncate(origin, os.write(origin, f"{status.st_ino}\n".encode()))
        sync(origin)
    finally:
        os.close(origin)


def _free_bytes(path: RootedPath) -> int:
    descriptor = path.open(os.O_RDONLY)
    try:
        disk = os.fstatvfs(descriptor)
    finally:
        os.close(descriptor)
    return disk.f_bavail * disk.f_frsize


def _check_size(path: RootedPath) -> None:
    """Refuses a file shorter than its header says; waits a moment for a process that is just lengthening it."""
    for _ in range(_SIZE_ATTEMPTS):
        if not _size_damage(path):
            return
        time.sleep(_SIZE_WAIT_S)
    damage = _size_damage(path)
    if damage:
        raise DamagedTables(f"{path.name} {damage}")


def _size_damage(path: RootedPath) -> str:
    with open(path.open(os.O_RDONLY), "rb") as file:
        first = file.read(_META.size)
        if len(first) < _META.size:
            return "is cut short"
        (page_bytes,) = _PAGE_SIZE.unpack_from(first, _PAGE_SIZE_AT)
        if page_bytes not in (1 << power for power in range(9, 17)):
            return "has a damaged header"
        file.seek(page_bytes)
        second = file.read(_META.size)
        # Taken after the header: another process may commit meanwhile, and writes pages before the header.
        size = os.fstat(file.fileno()).st_size
    if len(second) < _META.size:
        return "is cut short"
    heads = [_META.unpack(head) for head in (first, second)]
    if any(magic != _META_MAGIC or version != 1 for magic, version, *_ in heads):
        return "has a damaged header"
    # LMDB uses the head with the younger transaction; the file must hold all pages that it counts.
    last_page = max(heads, key=lambda head: head[-1])[-2]
    return "is cut short" if size < (last_page + 1) * page_bytes else ""


def _seek_back(cursor: lmdb.Cursor[bytes], prefix: bytes, at: bytes) -> bool:
    """Moves to the last key with a prefix that is at or before `at` (empty: any)."""
    if at:
        if cursor.set_range(at):
            return cursor.key() == at or cursor.prev()
        return cursor.last()
    after = _after_prefix(prefix)
    if after and cursor.set_range(after):
        return cursor.prev()
    return cursor.last()


def _after_prefix(prefix: bytes) -> bytes:
    """Returns the smallest key greater than all with a prefix; empty where there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else b""
