"""Writes a checkpoint: a journal that replaces all generations before it (docs/format.md).

It is written under a temporary name, made durable, and then renamed. So it is there as a whole or not at all, and the
generations that it replaces can be removed afterwards (docs/durability.md, W11).
"""

from __future__ import annotations

import contextlib
import os

from vfs.backend.durable import OnStep, step, write_at
from vfs.backend.rooted_path import RootedPath
from vfs.model.ids import Buffer
from vfs.overlay.journal.framing import HEAD_BYTES, Heading, encode_head, encode_heading, salted, sum_of
from vfs.overlay.journal.journal import NEW_SUFFIX, Journal
from vfs.overlay.journal.journal_records import TYPE_OF, Record, Synced, encode_record

_BUFFER_BYTES = 1024 * 1024


class CheckpointWriter:
    """A checkpoint being written; `size`: bytes so far. For one thread."""

    def __init__(self, path: RootedPath, heading: Heading, *, on_step: OnStep | None) -> None:
        """Raises OSError."""
        self._path = path
        self._heading = heading = salted(heading)
        self._on_step = on_step
        self._seq = 0
        self._temporary = path.with_name(path.name + NEW_SUFFIX)
        self._head = encode_heading(heading)
        self._buffer = bytearray()
        self.size = 0
        self._fd = self._temporary.create()

    def begin(self) -> None:
        """Begins, or begins again, after the heading; raises OSError."""
        os.ftruncate(self._fd, 0)
        self._buffer = bytearray(self._head)
        self.size = len(self._head)
        self._seq = self._heading.first_seq

    def append(self, record: Record, data: Buffer = b"", *, is_whole: bool = True) -> int:
        """Adds a record and returns the position of its data; `is_whole`: the data is undamaged.

        A record with damaged data gets a checksum that does not match it (docs/durability.md, W10).
        """
        meta = encode_record(record)
        data_sum = sum_of(data, is_quick=True)
        if not is_whole:
            data_sum ^= 1
        self._buffer += encode_head(
            TYPE_OF[type(record)],
            meta,
            len(data),
            data_sum,
            heading=self._heading,
            position=self.size,
            seq=self._seq,
            durable=0,
        )
        self._buffer += meta
        self._buffer += data
        position = self.size + HEAD_BYTES + len(meta)
        self.size = position + len(data)
        self._seq += not isinstance(record, Synced)
        return position

    def flush(self, bytes_min: int = _BUFFER_BYTES) -> bool:
        """Writes the buffer if it has at least `bytes_min`; returns True if it has written. Raises OSError."""
        if len(self._buffer) < bytes_min:
            return False
        write_at(self._fd, self.size - len(self._buffer), [self._buffer])
        self._buffer.clear()
        return True

    def free_bytes(self) -> int:
        """Returns how many bytes the disk has free for this user."""
        disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize

    def finish(self) -> None:
        """Makes everything durable, under the temporary name; raises OSError."""
        self.append(Synced())
        self.flush(0)
        step(self._on_step, f"sync {self._temporary.name}")
        os.fsync(self._fd)

    def place(self) -> Journal:
        """Renames it to its final name, durably, and returns it as a journal that can be read.

        After an OSError the next opening may find either name: both give the same layer.
        """
        step(self._on_step, f"name {self._path.name}")
        self._temporary.rename(self._path)
        step(self._on_step, f"sync directory of {self._path.name}")
        self._path.parent.sync()
        journal = Journal.adopt(
            self._path, self._fd, self._heading, len(self._head), self.size, self._seq, on_step=self._on_step
        )
        self._fd = -1
        return journal

    def discard(self) -> None:
        """Removes the temporary file; does nothing after `place`."""
        if self.close():
            with contextlib.suppress(OSError):
                self._temporary.unlink()

    def close(self) -> bool:
        """Closes the temporary file and leaves it there; returns False if there is none any more."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return False
        os.close(fd)
        return True
