"""Journals: files of checksummed records, appended to and replayed. Layout and reasons: docs/format.md.

Invariant: after any crash a journal is a heading and a prefix of the records appended to it; the next opening
quarantines a torn tail (docs/durability.md, W3). An append is one system call, and all or nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Self, TypeVar

from vfs.backend.durable import OnStep, read_at, read_into_at, step, write_at
from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt
from vfs.model.ids import Buffer
from vfs.overlay.journal.fallocate import allocate, punch_hole
from vfs.overlay.journal.framing import (
    HEAD_BYTES,
    Heading,
    StoredRecord,
    encode_head,
    encode_heading,
    is_data_whole,
    read_heading,
    salted,
    scan,
    sum_of,
)
from vfs.overlay.journal.journal_records import TYPE_OF, Record, Synced, encode_record
from vfs.overlay.journal.open_file import OpenFile
from vfs.overlay.journal.quarantine import Quarantined, quarantine_path, quarantine_torn_tail
from vfs.overlay.journal.torn_tail import Gap, damaged, extent_of

T = TypeVar("T")

_COPY_BYTES = 1024 * 1024

NEW_SUFFIX = ".new"
"""Suffix of a journal that does not count yet."""
_RESERVES_BYTES = (1024 * 1024, 64 * 1024)
"""Space for a small compaction; or for the records of several hundred removals."""

_CLOSE_BYTES = 16 * 1024 * 1024


class Journal:
    """One journal file, open for appending and reading.

    Appends need a lock of the caller; reads and `sync` need none. `end` is the position after the last record, `seq`
    the next one's number; a Synced record has the number of the one that follows it. `was_closed`: it ended with a
    Synced record when it was opened. `was_cut`: its tail was torn, and is `quarantined`. `gaps`: damage between its
    records, with `passes_damage`.
    """

    def __init__(self, path: RootedPath, fd: int, heading: Heading, start: int, *, on_step: OnStep | None) -> None:
        self.path = path
        self.heading = heading
        self.start = start
        self.end = start
        self.seq = heading.first_seq
        self.was_cut = False
        self.quarantined: Quarantined | None = None
        self.was_closed = True
        self.claimed = start
        """Up to here records claimed durability when it was opened; past `start`: of earlier generations, too."""
        self.gaps: tuple[Gap, ...] = ()
        self.on_full: Callable[[], bool] | None = None
        """Frees space for an append that found none; returns True if it has. Called with the lock of the caller."""
        self.on_durable: Callable[[Journal], None] = lambda _: None
        """Called when more of it is durable."""
        self.reserved = 0
        """Bytes preallocated after its end, for records without data."""
        self.punched: set[int] = set()
        """Positions at which punched holes begin."""
        self.behind = 0
        """How many whole records were cut off with its torn tail."""
        self._size = start
        self._file = OpenFile(fd, path)
        self._durable = 0
        self._synced_end = 0
        """Up to here no sync is needed: `_durable`, or after a Synced record there, which may be lost."""
        self._marked = -1
        """The end of the last record if that is a Synced one, else -1."""
        self._has_torn_tail = False
        self._syncing = threading.Lock()
        self._writing = threading.Lock()
        """Held for each write, and while `sync` replaces the file; taken after `_syncing`."""
        self._has_failed_sync = False
        self._on_step = on_step
        self._is_checked = False
        self.is_stopped = False
        self.is_removed = False

    @property
    def generation(self) -> int:
        """Its number."""
        return self.heading.generation

    @property
    def durable(self) -> int:
        """Up to where it is durable."""
        return self._durable

    @property
    def next_seq(self) -> int:
        """The number of the first record of the generation after it."""
        return self.heading.next_seq if self.heading.is_checkpoint else self.seq

    @property
    def records_count(self) -> int:
        """How many records it has."""
        return self.seq - self.heading.first_seq

    @property
    def is_torn(self) -> bool:
        """True if it has a torn tail, which `repair` quarantines."""
        return self.end < self._size and not self.was_cut

    @classmethod
    def create(cls, path: RootedPath, heading: Heading, *, on_step: OnStep | None = None) -> Self:
        """Creates a journal without records; durable, with its name, on return. Raises OSError."""
        heading = salted(heading)
        head = encode_heading(heading)
        temporary = path.with_name(path.name + NEW_SUFFIX)
        fd = temporary.create()
        try:
            step(on_step, f"write {path.name}")
            write_at(fd, 0, [head])
            os.fsync(fd)
            temporary.rename(path)
            step(on_step, f"sync directory of {path.name}")
            path.parent.sync()
        except BaseException:
            os.close(fd)
            for left in (temporary, path):
                with contextlib.suppress(OSError):
                    left.unlink()
            raise
        journal = cls(path, fd, heading, len(head), on_step=on_step)
        journal._durable = journal._synced_end = len(head)
        return journal

    @classmethod
    def adopt(
        cls, path: RootedPath, fd: int, heading: Heading, start: int, end: int, seq: int, *, on_step: OnStep | None
    ) -> Self:
        """Returns the journal of a file that the caller has written completely and durably."""
        journal = cls(path, fd, heading, start, on_step=on_step)
        journal.end = journal._durable = journal._synced_end = end
        journal.seq = seq
        return journal

    @classmethod
    def open(cls, path: RootedPath, *, on_step: OnStep | None = None) -> Self:
        """Opens a journal, checks it and quarantines a torn tail; see `inspect` and `repair`."""
        journal = cls.inspect(path, on_step=on_step)
        try:
            journal.repair()
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def inspect(cls, path: RootedPath, *, on_step: OnStep | None = None, passes_damage: bool = False) -> Self:
        """Opens a journal and finds how much of it counts; call `repair` before it is used.

        Data is checked too, unless a later record says that it was durable. Raises Corrupt if the heading or a part
        that counts is damaged (with `passes_damage` damaged records are skipped), Unsupported for a newer format.
        """
        fd = path.open(os.O_RDWR)
        try:
            size = os.fstat(fd).st_size
            heading, start = read_heading(fd, path, size)
            extent = extent_of(fd, heading, start, size, is_thorough=passes_damage)
            if extent.gaps and not passes_damage:
                raise damaged(path, extent)
            if heading.is_checkpoint and not extent.is_closed and not passes_damage:
                # A checkpoint was whole and durable before it got its name, and is never appended to.
                raise damaged(path, extent)
        except BaseException:
            os.close(fd)
            raise
        journal = cls(path, fd, heading, start, on_step=on_step)
        journal.end, journal.seq, journal.gaps = extent.end, extent.seq, extent.gaps
        journal.claimed, journal.was_closed = extent.durable, extent.is_closed
        journal._size, journal.behind = size, extent.behind
        journal._is_checked = not journal.was_closed
        return journal

    def repair(self) -> None:
        """Quarantines a torn tail and makes the rest durable, so that later records can build on it. Raises OSError."""
        if self.is_torn:
            self.was_cut = True
            with self._file as fd:
                self.quarantined = quarantine_torn_tail(self.path, fd, self.end, self._size)
                step(self._on_step, f"cut {self.path.name}")
                os.ftruncate(fd, self.end)
        with self._file as fd:
            os.fsync(fd)
        self._durable = self._synced_end = self.end
        if self.was_closed and not self.was_cut:
            self._marked = self.end

    def append(self, record: Record, data: Buffer = b"") -> int:
        """Appends one record and returns the position of its data; raises OSError with nothing appended."""
        return self._with_room(lambda: self._append(record, data))

    def append_all(self, records: Sequence[Record]) -> None:
        """Appends records without data, all or none of them; raises OSError with nothing appended."""
        self._with_room(lambda: self._append_all(records))

    def _with_room(self, append: Callable[[], T]) -> T:
        try:
            return append()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # The failed append was truncated: reserve some of that space for records that remove files.
            self.reserve()
            if self.on_full is None or not self.on_full():
                raise
            return append()

    def _append(self, record: Record, data: Buffer) -> int:
        number, meta, start, size = TYPE_OF[type(record)], encode_record(record), self.end, len(data)
        position = start + HEAD_BYTES + len(meta)
        check = sum_of(data, is_quick=self.heading.is_quick)
        head = encode_head(
            number, meta, size, check, heading=self.heading, position=start, seq=self.seq, durable=self._durable
        )
        if size and self.reserved:
            with self._file as fd:
                allocate(fd, start, position + size - start + self.reserved)
        self._put([head, meta, data], position + size - start, 1)
        return position

    def _append_all(self, records: Sequence[Record]) -> None:
        parts = bytearray()
        for number, record in enumerate(records):
            meta = encode_record(record)
            continues = number + 1 < len(records)
            parts += encode_head(
                TYPE_OF[type(record)],
                meta,
                0,
                0,
                heading=self.heading,
                position=self.end + len(parts),
                seq=self.seq + number,
                durable=self._durable,
                continues=continues,
            )
            parts += meta
        self._put([parts], len(parts), len(records))

    def stop(self) -> None:
        """Refuses every append from now on: the journal lacks a record that later ones would depend on."""
        self.is_stopped = True

    def _put(self, parts: Sequence[Buffer], size: int, records: int) -> None:
        with self._writing:
            if self.is_stopped:
                raise OSError(errno.EROFS, "the working layer must be opened again")
            with self._file as fd:
                self._put_at_end(fd, parts, size, records)

    def _put_at_end(self, fd: int, parts: Sequence[Buffer], size: int, records: int) -> None:
        if self._has_torn_tail:
            # The rest of an earlier failed append must be truncated first: a record after it could end where one of
            # its records starts, and the next replay would take that for the following one (durability, W2).
            os.ftruncate(fd, self.end)
            self._has_torn_tail = False
        try:
            if (written := os.pwritev(fd, parts, self.end)) != size:
                write_at(fd, self.end + written, [memoryview(b"".join(parts))[written:]])
        except BaseException:
            self._has_torn_tail = True
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self.end)
                self._has_torn_tail = False
            raise
        self.end += size
        self.seq += records

    def read(self, position: int, size: int) -> bytes:
        """Returns bytes of a record's data; raises Corrupt if the file has become shorter."""
        with self._file as fd:
            data = read_at(fd, position, size)
        if len(data) < size:
            raise self._cut_short()
        return data

    def read_into(self, position: int, buffer: memoryview) -> None:
        """Fills a buffer with bytes of records' data; raises as `read` does."""
        with self._file as fd:
            filled = read_into_at(fd, position, buffer)
        if filled < len(buffer):
            raise self._cut_short()

    def _cut_short(self) -> Corrupt:
        return Corrupt(f"the working layer's journal {self.path.name} is shorter than it was")

    def sync(self) -> None:
        """Makes everything appended so far durable; after an OSError, what was not durable before may not be."""
        end = self.end
        # One at a time: the kernel reports a failed write once, and a thread that did not get the report must not
        # take its bytes for durable (durability, W4).
        with self._syncing:
            if end <= self._synced_end:
                return
            if self._has_failed_sync:
                end = self._move(end)
            self._has_failed_sync = True
            step(self._on_step, f"sync {self.path.name}")
            with self._file as fd:
                os.fdatasync(fd)
            self._has_failed_sync = False
            self._durable = self._synced_end = end
            self.on_durable(self)

    @property
    def unsynced_bytes(self) -> int:
        """Bytes that `sync` has to make durable; sys.maxsize while another sync runs."""
        return sys.maxsize if self._syncing.locked() else self.end - self._synced_end

    def _move(self, end: int) -> int:
        """Writes everything into a new file that takes this one's place; returns up to where that is durable.

        The kernel marks pages that it could not write as clean and may drop them. Writing the same bytes to the same
        place again does not help: ext4 may have dropped the allocation. Raises OSError with nothing lost.
        """
        temporary = self.path.with_name(self.path.name + NEW_SUFFIX)
        with self._writing:
            if self.is_removed:
                return end
            end = self.end
            fd = temporary.create()
            try:
                step(self._on_step, f"write {self.path.name} again")
                self._copy_to(fd, end)
                os.fsync(fd)
                temporary.rename(self.path)
                with self._file as replaced:
                    os.dup2(fd, replaced, inheritable=False)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            finally:
                os.close(fd)
        step(self._on_step, f"sync directory of {self.path.name}")
        self.path.parent.sync()
        return end

    def _copy_to(self, fd: int, end: int) -> None:
        position = 0
        while position < end:
            data = self.read(position, min(_COPY_BYTES, end - position))
            write_at(fd, position, [data])
            position += len(data)
        whole = self.start
        for found in self._scan(fd, end):
            if found.end > self._durable and not is_data_whole(fd, found):
                break
            whole = found.end
        if whole != end:
            raise OSError(errno.EIO, f"{self.path.name} is lost from byte {whole} on: the disk failed to write it")

    def _scan(self, fd: int, end: int, *, is_checked: bool = False) -> Iterator[StoredRecord]:
        """Yields the records up to an end, also those after gaps; stops at one that is not whole."""
        position = self.start
        for stop in (*(gap.start for gap in self.gaps), end):
            for found in scan(fd, self.heading, position, stop, is_checked=is_checked):
                position = found.end
                yield found
            if position != stop:
                return
            position = next((gap.end for gap in self.gaps if gap.start == stop), stop)

    def damaged_data(self) -> Iterator[tuple[int, int]]:
        """Reads all records with their data; yields the [start, end) positions of damage."""
        position = self.start
        with self._file as fd:
            for found in self._scan(fd, self.end):
                position = found.end
                if not is_data_whole(fd, found):
                    yield found.data_position, found.end
        if position != self.end:
            yield position, self.end

    def records(self) -> Iterator[StoredRecord]:
        """Yields the records up to the end; raises Corrupt for damage among what was durable."""
        position = self.start
        with self._file as fd:
            for found in self._scan(fd, self.end, is_checked=self._is_checked):
                position = found.end
                yield found
            if position != self.end:
                raise damaged(self.path, extent_of(fd, self.heading, self.start, self.end, is_thorough=True))

    def mark_synced(self) -> None:
        """Appends a Synced record, after `sync`: an incomplete record before it is damage from now on."""
        if self.end == self._durable != self._marked:
            self.append(Synced())
            # It has the number of the next record: the next generation's first number is the same if it gets lost.
            self.seq -= 1
            # No record says that this one is durable.
            self._marked = self._synced_end = self.end

    def seal(self) -> None:
        """Makes everything durable, with a durable Synced record: the next opening need not check any byte so far."""
        self.sync()
        if not self.heading.is_checkpoint:
            self.mark_synced()
            with self._file as fd:
                os.fdatasync(fd)

    def heads(self) -> Iterator[StoredRecord]:
        """Yields the records without verifying their checksums."""
        with self._file as fd:
            yield from self._scan(fd, self.end, is_checked=True)

    @property
    def is_read(self) -> bool:
        """True if a reader uses or holds it."""
        return self._file.is_used

    def punch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Punches out stretches of data that no reader needs. Raises OSError."""
        with self._file as fd:
            for start, end in ranges:
                punch_hole(fd, start, end)
                self.punched.add(start)

    def reserve(self) -> None:
        """Preallocates space after the end that data cannot take, if the filesystem can and has it."""
        for size in (self.reserved,) if self.reserved else _RESERVES_BYTES:
            with contextlib.suppress(OSError), self._file as fd:
                allocate(fd, self.end, size)
                self.reserved = size
                return

    def release_reserve(self) -> None:
        """Frees the preallocated space after the end."""
        if self.reserved:
            with self._file as fd:
                os.ftruncate(fd, self.end)
            self.reserved = 0

    def clear(self) -> None:
        """Frees all its bytes at once; for a removed journal that no reader needs."""
        with self._file as fd:
            os.ftruncate(fd, 0)

    def finish(self) -> None:
        """Makes everything durable, appends a Synced record (the next opening need not check anything), and closes."""
        try:
            self.sync()
            if not (self.heading.is_checkpoint or self.is_stopped):
                self.mark_synced()
                self.release_reserve()
                with self._file as fd:
                    os.fdatasync(fd)
        finally:
            self.close()

    def remove(self) -> None:
        """Removes the file (a damaged one is quarantined); its bytes can be read until it is closed."""
        step(self._on_step, f"remove {self.path.name}")
        with self._writing:
            if self.gaps:
                self.path.rename(quarantine_path(self.path))
            else:
                self.path.unlink(missing_ok=True)
            self.is_removed = True

    def hold(self) -> None:
        """Keeps the file open for a reader until `release`, even if it is closed meanwhile."""
        self._file.hold()

    def release(self) -> None:
        """Ends one `hold`."""
        self._file.release()

    def close(self) -> None:
        """Refuses further appends, and closes the file when its last reader releases it."""
        self.stop()
        # Closing a removed file frees its space, which takes 0.3 s for each GB.
        self._file.close(is_large=self.is_removed and self.end > _CLOSE_BYTES)
