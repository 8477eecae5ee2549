"""A process that decompresses and checks chunks for a mount's daemon, on a core of its own.

In a thread that work would take turns with whoever answers requests, since a process has one interpreter. What is
unpacked goes into memory that both share, or right into the kernel's page cache. This module is the program of that
process and the words it has with its employer, whose side is vfs/fuse/prefetch/worker_pool.py.

An unpacker ends when its employer does: the socket between them is closed then.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum

import msgspec

from vfs.backend.protocol import MissingKey, ObjectBackend
from vfs.backend.storage import decode_recipe, open_recipe
from vfs.errors import Corrupt
from vfs.store.access_pattern import JOB_BYTES_MAX, Extent
from vfs.store.packs.blocks import open_blocks
from vfs.store.packs.compression import Compression

SLOTS = 12
"""Jobs that fill a slot of the shared memory and may be under way, or unpacked and not yet used."""
TICKETS = 8 * mmap.PAGESIZE
"""One byte each at the memory's start, a `Progress`: for the slots in their order, then for files to push."""
MESSAGE_BYTES_MAX = 128 * 1024
"""Longer than any job or answer: their chunks are counted."""
_RAW_BYTES_MAX = 8 * 1024 * 1024
_NICENESS = 5
"""Whoever answers requests goes before whoever works for later ones."""

_STORE = struct.Struct("<IiQQQII")
"""The kernel's message "this is in a file": bytes in all, its code, 0; inode, offset, size, 0. The bytes follow."""
_STORE_CODE = 4


class Progress(IntEnum):
    """How far a job, or a file to push, is. Where both sides write it at once, the work is done twice."""

    WAITING = 0
    BEGUN = 1
    DONE = 2
    CALLED_OFF = 3


class File(msgspec.Struct, array_like=True):
    """A file to push: its ticket, its inode number, and its chunks in order."""

    ticket: int
    ino: int
    chunks: list[bytes]


class Job(msgspec.Struct, array_like=True):
    """Chunks to unpack, which lie in these extents: into a slot, or (`slot` is None) to push as these files."""

    slot: int | None
    chunks: list[bytes]
    extents: list[Extent]
    files: list[File] = []


class Unpacked(msgspec.Struct, array_like=True):
    """A chunk whose hash was right, by its place in the slot."""

    id: bytes
    start: int
    size: int


class Answer(msgspec.Struct, array_like=True):
    """Says that a job is done, and what is in its slot. What is missing or damaged is left for whoever wants it."""

    slot: int | None
    chunks: list[Unpacked]


encode = msgspec.msgpack.Encoder().encode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
_decode_job = msgspec.msgpack.Decoder(Job).decode


def slot_start(slot: int) -> int:
    """Returns where a slot begins in the memory."""
    return TICKETS + slot * JOB_BYTES_MAX


class Unpacker:
    """Does jobs, one after the other. `connection` is the mount's, to push files to the kernel."""

    def __init__(self, backend: ObjectBackend, memory: mmap.mmap, connection: int) -> None:
        self._backend = backend
        self._memory = memory
        self._connection = connection
        self._compression = Compression()
        self._scratch = bytearray(2 * JOB_BYTES_MAX)

    def do(self, job: Job) -> Answer:
        """Does a job, or as much of it as is still wanted and can be read."""
        if job.slot is None:
            self._push(job)
            return Answer(None, [])
        if self._memory[job.slot] == Progress.CALLED_OFF:
            return Answer(job.slot, [])
        self._memory[job.slot] = Progress.BEGUN
        return Answer(job.slot, self._fill(job.slot, job))

    def _fill(self, slot: int, job: Job) -> list[Unpacked]:
        chunks: list[Unpacked] = []
        start = slot_start(slot)
        end = 0
        for found, plain in self._plain_chunks(job):
            if end + len(plain) > JOB_BYTES_MAX:
                break
            self._memory[start + end : start + end + len(plain)] = plain
            chunks.append(Unpacked(found, end, len(plain)))
            end += len(plain)
        return chunks

    def _push(self, job: Job) -> None:
        files = [file for file in job.files if self._memory[file.ticket] == Progress.WAITING]
        for file in files:
            self._memory[file.ticket] = Progress.BEGUN
        if not files:
            return
        chunks = dict(self._plain_chunks(job))
        for file in files:
            pieces = [chunks[chunk] for chunk in file.chunks if chunk in chunks]
            if len(pieces) == len(file.chunks):
                size = sum(map(len, pieces))
                head = _STORE.pack(_STORE.size + size, _STORE_CODE, 0, file.ino, 0, size, 0)
                # An inode that the kernel has forgotten meanwhile needs nothing.
                with suppress(OSError):
                    os.writev(self._connection, [head, *pieces])
            self._memory[file.ticket] = Progress.DONE

    def _plain_chunks(self, job: Job) -> Iterator[tuple[bytes, memoryview]]:
        """Yields (id, bytes) of the chunks that can be read, valid until the next job."""
        wanted = set(job.chunks)
        needed = sum(sum(extent.sizes) for extent in job.extents)
        if needed > _RAW_BYTES_MAX:
            return
        if needed > len(self._scratch):
            self._scratch = bytearray(needed)
        rest = memoryview(self._scratch)
        for extent in job.extents:
            size = sum(extent.sizes)
            raw, rest = rest[:size], rest[size:]
            with suppress(Corrupt, MissingKey, OSError):
                if self._backend.read_into(extent.pack, extent.offset, raw) == size:
                    for opened in open_blocks(raw, extent.sizes, self._compression, wanted):
                        for stored, plain in opened.good:
                            yield stored.id, plain


def main() -> None:
    """Serves the employer: socket, memory and connection by number, then the recipe of the backend."""
    words, memory, connection = map(int, sys.argv[1:4])
    backend = open_recipe(decode_recipe(sys.argv[4]))
    os.nice(_NICENESS)
    unpacker = Unpacker(backend, mmap.mmap(memory, 0), connection)
    with socket.socket(fileno=words) as employer, suppress(BrokenPipeError, ConnectionResetError):
        while message := employer.recv(MESSAGE_BYTES_MAX):
            employer.sendall(encode(unpacker.do(_decode_job(message))))


if __name__ == "__main__":
    main()
