"""A prefetch worker: a process that decompresses and checks chunks for a mount's daemon, on a core of its own.

In a thread this work would take turns with the event loop, since a process has one interpreter. Decompressed chunks go
into memory that both processes share, or into the kernel's page cache. This module is the worker and the messages it
exchanges with its parent, the daemon, whose side is vfs/fuse/prefetch/worker_pool.py.

A worker is forked from the daemon: an interpreter of its own would start while the first programs read, and take more
processor time than a short sequential read. It ends when its parent does: then the socket between them is closed.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import mmap
import os
import select
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from typing import NoReturn

import msgspec

from vfs.backend.protocol import MissingKey, ObjectBackend
from vfs.backend.storage import Recipe, open_recipe
from vfs.errors import Corrupt
from vfs.fuse.session.guard_process import STOPPING
from vfs.fuse.session.supervisor import WORKER_NAME
from vfs.store.packs.blocks import open_blocks
from vfs.store.packs.compression import Compression
from vfs.store.sequential_readahead import JOB_BYTES_MAX, Extent

SLOTS = 12
"""The slots of the shared memory: so many jobs may be in flight, or decompressed and not yet used."""
STATE_BYTES = 8 * mmap.PAGESIZE
"""The bytes at the memory's start, a `JobState` each: for the slots in their order, then for files, by request id."""
MESSAGE_BYTES_MAX = 128 * 1024
"""Longer than any job or result: the number of their chunks is limited."""
_RAW_BYTES_MAX = 8 * 1024 * 1024
_CLOSE_REMOVED_MS = 10_000
_NICENESS = 5
"""The daemon, which answers requests, gets the processor before the workers, which prefetch for later ones."""

"""The process's name, as `ps -o comm` and `top` show it."""
_PR_SET_NAME = 15

_STORE = struct.Struct("<IiQQQII")
"""The kernel's message notify_store: bytes in all, its code, 0; inode, offset, size, 0. The file's bytes follow."""
_STORE_CODE = 4


class JobState(IntEnum):
    """The state of a job, or of a file. Where both processes write it at the same time, the work is done twice."""

    WAITING = 0
    STARTED = 1
    DONE = 2
    CANCELLED = 3


class File(msgspec.Struct, array_like=True):
    """A file for the kernel's page cache: its request id, its inode number, and its chunks in order."""

    request_id: int
    ino: int
    chunks: list[bytes]


class Job(msgspec.Struct, array_like=True):
    """Chunks to decompress, which lie in these extents: into a slot, or, if that is None, as files into the kernel."""

    slot: int | None
    chunks: list[bytes]
    extents: list[Extent]
    files: list[File] = []


class Decompressed(msgspec.Struct, array_like=True):
    """A chunk whose hash was right: its offset and size in the slot, in bytes."""

    id: bytes
    start: int
    size: int


class JobResult(msgspec.Struct, array_like=True):
    """The end of a job, and the chunks in its slot, without missing and damaged ones, which a request reports."""

    slot: int | None
    chunks: list[Decompressed]


encode = msgspec.msgpack.Encoder().encode
decode_result = msgspec.msgpack.Decoder(JobResult).decode
_decode_job = msgspec.msgpack.Decoder(Job).decode


def slot_start(slot: int) -> int:
    """Returns the offset of a slot in the memory."""
    return STATE_BYTES + slot * JOB_BYTES_MAX


class Worker:
    """Does jobs, one after the other. `connection` is the mount's descriptor, for notify_store."""

    def __init__(self, backend: ObjectBackend, memory: mmap.mmap, connection: int) -> None:
        self._backend = backend
        self._memory = memory
        self._connection = connection
        self._compression = Compression()
        self._raw = bytearray(2 * JOB_BYTES_MAX)

    def do(self, job: Job) -> JobResult:
        """Does a job, except for cancelled parts and those that cannot be read."""
        if job.slot is None:
            self._push(job)
            return JobResult(None, [])
        if self._memory[job.slot] == JobState.CANCELLED:
            return JobResult(job.slot, [])
        self._memory[job.slot] = JobState.STARTED
        return JobResult(job.slot, self._fill(job.slot, job))

    def close_removed(self) -> None:
        """Closes packs that were removed."""
        self._backend.close_removed()

    def _fill(self, slot: int, job: Job) -> list[Decompressed]:
        chunks: list[Decompressed] = []
        start = slot_start(slot)
        end = 0
        for found, plain in self._plain_chunks(job):
            if end + len(plain) > JOB_BYTES_MAX:
                break
            self._memory[start + end : start + end + len(plain)] = plain
            chunks.append(Decompressed(found, end, len(plain)))
            end += len(plain)
        return chunks

    def _push(self, job: Job) -> None:
        files = [file for file in job.files if self._memory[file.request_id] == JobState.WAITING]
        for file in files:
            self._memory[file.request_id] = JobState.STARTED
        if not files:
            return
        chunks = dict(self._plain_chunks(job))
        for file in files:
            pieces = [chunks[chunk] for chunk in file.chunks if chunk in chunks]
            if len(pieces) == len(file.chunks):
                size = sum(map(len, pieces))
                head = _STORE.pack(_STORE.size + size, _STORE_CODE, 0, file.ino, 0, size, 0)
                # The kernel may have forgotten the inode meanwhile.
                with suppress(OSError):
                    os.writev(self._connection, [head, *pieces])
            self._memory[file.request_id] = JobState.DONE

    def _plain_chunks(self, job: Job) -> Iterator[tuple[bytes, memoryview]]:
        """Yields (id, bytes) of the chunks that can be read, valid until the next job."""
        wanted = set(job.chunks)
        needed = sum(sum(extent.sizes) for extent in job.extents)
        if needed > _RAW_BYTES_MAX:
            return
        if needed > len(self._raw):
            self._raw = bytearray(needed)
        rest = memoryview(self._raw)
        for extent in job.extents:
            size = sum(extent.sizes)
            raw, rest = rest[:size], rest[size:]
            with suppress(Corrupt, MissingKey, OSError):
                if self._backend.read_into(extent.pack, extent.offset, raw) == size:
                    for opened in open_blocks(raw, extent.sizes, self._compression, wanted):
                        for stored, plain in opened.good:
                            yield stored.id, plain


def run_forked(channel: socket.socket, memory: mmap.mmap, recipe: Recipe) -> NoReturn:
    """Serves the parent until it ends; called in a process that was just forked, and never returns.

    The first message has the connection with it. The process keeps open, of what the parent had, the socket alone.
    """
    try:
        _separate(channel.fileno())
        with suppress(BrokenPipeError, ConnectionResetError):
            _, connections, _, _ = socket.recv_fds(channel, 1, 1)
            if connections:
                worker = Worker(open_recipe(recipe), memory, connections[0])
                while message := _receive(channel, worker):
                    channel.sendall(encode(worker.do(_decode_job(message))))
    finally:
        os._exit(0)


def _receive(channel: socket.socket, worker: Worker) -> bytes:
    """Returns the next message, empty at the end; closes removed packs while none comes."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while not poll.poll(_CLOSE_REMOVED_MS):
        worker.close_removed()
    return channel.recv(MESSAGE_BYTES_MAX)


def _separate(channel: int) -> None:
    """Makes this process one of its own: a Ctrl-C is meant for the daemon, and so are locks, pipes and log files."""
    # Objects of the daemon never end here: they would close descriptors that have other files now.
    gc.freeze()
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    os.chdir("/")
    os.closerange(3, channel)
    os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    logging.getLogger().handlers.clear()
    ctypes.CDLL(None).prctl(_PR_SET_NAME, WORKER_NAME)
    os.nice(_NICENESS)
