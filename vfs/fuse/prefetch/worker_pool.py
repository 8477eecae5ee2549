"""The worker pool of a mount: processes that prefetch, and the chunks that they have prefetched.

Chunks of a file that is read sequentially go into memory shared with the workers, and are used in place, without a
copy. Small files that a program will open next go from the worker into the kernel's page cache (decision 40). A job
that no worker has started when its result is needed is cancelled and done here: a request never waits for a worker
that is busy with another job, or that has died.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import select
import signal
import socket
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from vfs.backend.storage import Recipe
from vfs.fuse.prefetch.worker import (
    MESSAGE_BYTES_MAX,
    SLOTS,
    STATE_BYTES,
    File,
    Job,
    JobResult,
    JobState,
    decode_result,
    encode,
    run_forked,
    slot_start,
)
from vfs.model.ids import ChunkId
from vfs.store.sequential_readahead import JOB_BYTES_MAX, Extent

log = logging.getLogger(__name__)

PROCESSES = min(2, len(os.sched_getaffinity(0)))
"""Two workers keep up with the fastest reader that the FUSE binding has served in measurements."""
_STARTED_WAIT_MS = 200
"""A started job takes milliseconds; if it takes longer than this, the waiting request does the work itself."""
_IDLE_WAIT_MS = 60_000
UNUSED_S = 2.0
"""Prefetched chunks that no request has used stay at least so long; then other streams may evict them."""
_END_WAIT_MS = 5_000
_SlotBytes = ctypes.c_ubyte * JOB_BYTES_MAX


class _Process:
    """One worker process, seen from the daemon: `jobs` in flight, of which some fill `slots`."""

    def __init__(self, recipe: Recipe, memory: mmap.mmap) -> None:
        self.jobs = 0
        self.slots: set[int] = set()
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = os.fork()
            if self.pid == 0:
                run_forked(theirs, memory, recipe)
        self._ended = os.pidfd_open(self.pid)

    def connect(self, connection: int) -> None:
        """Gives the process the mount's descriptor: it serves from then on."""
        with suppress(BrokenPipeError):
            socket.send_fds(self.channel, [b"c"], [connection])

    def end(self) -> bool:
        """Lets the process end. Returns True if it has ended by itself."""
        self.channel.close()
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        by_itself = bool(poll.poll(_END_WAIT_MS))
        if not by_itself:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._ended)
        # Where the daemon was started with SIGCHLD ignored, the kernel has reaped it.
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        return by_itself


@dataclass(slots=True)
class _Contents:
    """Chunks in a slot, those of them that no request has used, and when they were prefetched."""

    chunks: list[bytes]
    unused: set[bytes]
    prefetched_s: float


class WorkerPool:
    """Worker processes that prefetch; usable from any thread. Does nothing before `start` and after `close`."""

    def __init__(self, recipe: Recipe | None) -> None:
        """`recipe`: how the processes open the backend; None: they cannot, and there are none."""
        self._recipe = recipe
        self._lock = threading.Lock()
        self._forked: list[_Process] = []
        self._processes: list[_Process] = []
        self._memory: mmap.mmap | None = None
        # The slot that was freed last is used first: its memory is likely still in the processor's cache.
        self._free = list(range(SLOTS))
        self._next_request_id = SLOTS
        self._in_flight: dict[bytes, int] = {}
        self._chunks_of: dict[int, Sequence[ChunkId]] = {}
        # The bytes, and the slot that they lie in.
        self._prefetched: dict[bytes, tuple[memoryview, int]] = {}
        # The contents of slots, oldest first: those with chunks that no request has used yet, and the others.
        self._unused: OrderedDict[int, _Contents] = OrderedDict()
        self._used: OrderedDict[int, _Contents] = OrderedDict()

    @property
    def processes(self) -> list[int]:
        """The ids of the running workers."""
        return [process.pid for process in self._processes]

    def fork(self) -> None:
        """Forks the workers, which wait for `start`; in a mount before another thread exists. May raise OSError."""
        if self._recipe is None:
            return
        size = STATE_BYTES + SLOTS * JOB_BYTES_MAX
        with self._lock:
            descriptor = os.memfd_create("vfs-unpacked")
            try:
                os.truncate(descriptor, size)
                self._memory = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
            for _ in range(PROCESSES):
                self._forked.append(_Process(self._recipe, self._memory))

    def start(self, connection: int) -> None:
        """Lets the forked workers serve a mount, given its descriptor."""
        with self._lock:
            for process in self._forked:
                process.connect(connection)
            self._processes, self._forked = self._forked, []

    def close(self) -> bool:
        """Ends the workers. Returns True if all have ended by themselves. Views that are in use stay valid."""
        with self._lock:
            processes = [*self._processes, *self._forked]
            self._processes, self._forked = [], []
            for known in (self._in_flight, self._chunks_of, self._prefetched, self._unused, self._used):
                known.clear()
            # With its last view the memory is freed, and its descriptor closed.
            self._memory = None
        ended = [process.end() for process in processes]
        return all(ended)

    # Chunks of a file that is read in sequence.

    def holds(self, object_id: ChunkId) -> bool:
        """Returns True if a chunk is prefetched or in flight."""
        return object_id in self._prefetched or object_id in self._in_flight

    def prefetch(self, chunks: Sequence[ChunkId], extents: list[Extent]) -> None:
        """Begins to decompress chunks of these extents into memory; does nothing while all slots are in use."""
        with self._lock:
            self._receive_results()
            slot = self._free_slot() if self._processes else None
            if slot is None:
                return
            process = self._send(Job(slot, list(chunks), extents), [slot])
            if process is None:
                self._free.append(slot)
                return
            process.slots.add(slot)
            self._chunks_of[slot] = chunks
            for chunk in chunks:
                self._in_flight[chunk] = slot

    def get(self, object_id: ChunkId) -> memoryview | None:
        """Returns a chunk that is prefetched, or whose job has started, read-only and checked; else None.

        A job that has not started is cancelled: the caller does the work at once.
        """
        if not self.holds(object_id):
            return None
        with self._lock:
            slot = self._in_flight.get(object_id)
            if slot is not None:
                self._receive_results()
                if self._in_flight.get(object_id) == slot:
                    self._wait_or_cancel(slot)
            return self._use(object_id)

    def _use(self, object_id: ChunkId) -> memoryview | None:
        found = self._prefetched.get(object_id)
        if found is None:
            return None
        view, slot = found
        contents = self._unused.get(slot)
        if contents is not None:
            contents.unused.discard(object_id)
            if not contents.unused:
                self._used[slot] = self._unused.pop(slot)
        return view

    def _free_slot(self) -> int | None:
        """Returns a slot to be filled, None while all are in use. Evicts the oldest chunks that requests have used.

        Unused chunks stay for a while: where sequential streams need more memory than there is, later ones are not
        prefetched, and no chunk is evicted before it was used.
        """
        while not self._free and (self._used or self._is_expired()):
            _, contents = (self._used or self._unused).popitem(last=False)
            for chunk in contents.chunks:
                del self._prefetched[chunk]
        return self._free.pop() if self._free else None

    def _is_expired(self) -> bool:
        """Returns True if no request has used the oldest unused chunks for too long."""
        oldest = next(iter(self._unused.values()), None)
        return oldest is not None and time.monotonic() - oldest.prefetched_s > UNUSED_S

    def _wait_or_cancel(self, slot: int) -> None:
        memory = self._memory
        if memory is not None and memory[slot] == JobState.STARTED:
            process = next(one for one in self._processes if slot in one.slots)
            while slot in process.slots and self._receive_result(process, _STARTED_WAIT_MS):
                pass
        elif memory is not None:
            memory[slot] = JobState.CANCELLED
        self._forget_in_flight(slot)

    def _forget_in_flight(self, slot: int) -> None:
        for chunk in self._chunks_of.pop(slot, ()):
            if self._in_flight.get(chunk) == slot:
                del self._in_flight[chunk]

    # Files for the kernel.

    def push(self, files: Sequence[tuple[int, list[ChunkId]]], extents: list[Extent]) -> list[int]:
        """Begins to put files (inode, chunks) into the kernel's page cache; returns their request ids, or none."""
        with self._lock:
            self._receive_results()
            given: list[File] = []
            for ino, chunks in files:
                given.append(File(self._next_request_id, ino, list(chunks)))
                self._next_request_id = self._next_request_id + 1 if self._next_request_id + 1 < STATE_BYTES else SLOTS
            request_ids = [file.request_id for file in given]
            job = Job(None, [chunk for file in given for chunk in file.chunks], extents, given)
            return request_ids if self._send(job, request_ids) is not None else []

    def cancel(self, request_id: int) -> bool:
        """Cancels the request for a file. Returns True if no worker had started it."""
        memory = self._memory
        if memory is None or memory[request_id] != JobState.WAITING:
            return False
        memory[request_id] = JobState.CANCELLED
        return True

    # Messages.

    def wait_idle(self) -> None:
        """Waits until nothing is in flight."""
        with self._lock:
            for process in list(self._processes):
                while process.jobs and self._receive_result(process, _IDLE_WAIT_MS):
                    pass

    def _send(self, job: Job, request_ids: Sequence[int]) -> _Process | None:
        """Sends a job to the worker with the fewest jobs; returns the worker, None if none can take it."""
        if self._memory is None or not self._processes:
            return None
        for request_id in request_ids:
            self._memory[request_id] = JobState.WAITING
        message = encode(job)
        for process in sorted(self._processes, key=lambda one: one.jobs):
            try:
                process.channel.send(message, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                self._discard(process)
                continue
            process.jobs += 1
            return process
        return None

    def _receive_results(self) -> None:
        for process in list(self._processes):
            while process.jobs and self._receive_result(process, 0):
                pass

    def _receive_result(self, process: _Process, wait_ms: int) -> bool:
        """Receives one result of a worker. Returns True if there was one."""
        if wait_ms:
            poll = select.poll()
            poll.register(process.channel, select.POLLIN)
            if not poll.poll(wait_ms):
                return False
        try:
            message = process.channel.recv(MESSAGE_BYTES_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            message = b""
        if not message:
            self._discard(process)
            return False
        result = decode_result(message)
        process.jobs -= 1
        if result.slot is not None:
            process.slots.discard(result.slot)
            self._forget_in_flight(result.slot)
            self._accept(result.slot, result)
        return True

    def _accept(self, slot: int, result: JobResult) -> None:
        # A chunk that was prefetched before stays where it is, so that every chunk is in one slot.
        fresh = [chunk for chunk in result.chunks if chunk.id not in self._prefetched]
        if not fresh or self._memory is None:
            self._free.append(slot)
            return
        # Every view keeps this object alive; the slot is freed with the last view.
        whole = _SlotBytes.from_buffer(self._memory, slot_start(slot))
        weakref.finalize(whole, self._free.append, slot).atexit = False
        view = memoryview(whole).cast("B").toreadonly()
        for chunk in fresh:
            self._prefetched[chunk.id] = view[chunk.start : chunk.start + chunk.size], slot
        chunks = [chunk.id for chunk in fresh]
        self._unused[slot] = _Contents(chunks, set(chunks), time.monotonic())

    def _discard(self, process: _Process) -> None:
        """Removes a worker that has died: requests read its chunks themselves; its slots are not used again."""
        log.warning("the prefetch worker %d has ended", process.pid)
        self._processes.remove(process)
        for slot in process.slots:
            self._forget_in_flight(slot)
        process.end()
