"""Unpackers: the processes that read ahead for a mount, and what they bring.

Chunks of a file that is read in sequence come into memory shared with them, and are used where they lie. Small files
that will be opened next they push into the kernel's page cache themselves (decision 40). What
they have not begun when it is wanted is called off and done here: nobody waits for a process that is busy with
something else, or that has died.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from vfs.backend.storage import Recipe, encode_recipe
from vfs.fuse.prefetch.worker import (
    MESSAGE_BYTES_MAX,
    SLOTS,
    TICKETS,
    Answer,
    File,
    Job,
    Progress,
    decode_answer,
    encode,
    slot_start,
)
from vfs.model.ids import ChunkId
from vfs.store.access_pattern import JOB_BYTES_MAX, Extent

log = logging.getLogger(__name__)

PROCESSES = min(2, len(os.sched_getaffinity(0)))
"""Two keep up with the fastest reader that the binding has been seen to serve."""
_BEGUN_WAIT_MS = 200
"""A job that was begun takes milliseconds; where it takes longer than this, whoever waits for it does the work."""
_SETTLE_WAIT_MS = 60_000
UNUSED_S = 2.0
"""So long what was brought stays for whoever it was brought for, where others could use the memory."""
_END_WAIT_S = 5
_SlotBytes = ctypes.c_ubyte * JOB_BYTES_MAX


class _Process:
    """One process, as its employer knows it: `jobs` under way, of them `slots` to be filled."""

    def __init__(self, recipe: Recipe, memory: int, connection: int) -> None:
        self.jobs = 0
        self.slots: set[int] = set()
        self.words, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            passed = (theirs.fileno(), memory, connection)
            command = [
                sys.executable,
                "-P",
                "-m",
                "vfs.fuse.prefetch.worker",
                *map(str, passed),
                encode_recipe(recipe),
            ]
            # In a session of its own: a Ctrl-C is for the daemon, and this one follows the daemon.
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                pass_fds=passed,
                start_new_session=True,
            )

    def end(self) -> bool:
        """Lets the process end; says whether it has."""
        self.words.close()
        try:
            self.process.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return False
        return True


@dataclass(slots=True)
class _Contents:
    """Chunks in a slot, those of them that nobody has asked for, and when they arrived."""

    chunks: list[bytes]
    unused: set[bytes]
    arrived_s: float


class Unpackers:
    """Processes that unpack ahead; usable from any thread. Nothing is brought before `start` and after `close`."""

    def __init__(self, recipe: Recipe | None) -> None:
        """`recipe`: how the processes open the backend; None: they cannot, and there are none."""
        self._recipe = recipe
        self._lock = threading.Lock()
        self._processes: list[_Process] = []
        self._memory: mmap.mmap | None = None
        # The last one freed is used first: its memory was touched lately.
        self._free = list(range(SLOTS))
        self._next_ticket = SLOTS
        self._coming: dict[bytes, int] = {}
        self._wanted: dict[int, Sequence[ChunkId]] = {}
        # The bytes, and the slot that they lie in.
        self._arrived: dict[bytes, tuple[memoryview, int]] = {}
        # What is in slots, the oldest first: those of which something was not asked for yet, and the others.
        self._unused: OrderedDict[int, _Contents] = OrderedDict()
        self._used: OrderedDict[int, _Contents] = OrderedDict()

    @property
    def processes(self) -> list[int]:
        """The processes that are there."""
        return [process.process.pid for process in self._processes]

    def start(self, connection: int) -> None:
        """Starts the processes, for a mount by its descriptor. After an OSError those work that have started."""
        if self._recipe is None:
            return
        size = TICKETS + SLOTS * JOB_BYTES_MAX
        with self._lock:
            descriptor = os.memfd_create("vfs-unpacked")
            try:
                os.truncate(descriptor, size)
                self._memory = mmap.mmap(descriptor, size)
                for _ in range(PROCESSES):
                    self._processes.append(_Process(self._recipe, descriptor, connection))
            finally:
                os.close(descriptor)

    def close(self) -> bool:
        """Ends the processes; says whether all have ended. Views that are in use stay valid."""
        with self._lock:
            processes, self._processes = self._processes, []
            for known in (self._coming, self._wanted, self._arrived, self._unused, self._used):
                known.clear()
        ended = [process.end() for process in processes]
        return all(ended)

    # Chunks of a file that is read in sequence.

    def holds(self, object_id: ChunkId) -> bool:
        """Says whether a chunk is here or on its way."""
        return object_id in self._arrived or object_id in self._coming

    def bring(self, chunks: Sequence[ChunkId], extents: list[Extent]) -> None:
        """Has chunks unpacked into memory, which lie in these extents; does nothing where all slots are in use."""
        with self._lock:
            self._take_answers()
            slot = self._free_slot() if self._processes else None
            if slot is None:
                return
            process = self._send(Job(slot, list(chunks), extents), [slot])
            if process is None:
                self._free.append(slot)
                return
            process.slots.add(slot)
            self._wanted[slot] = chunks
            for chunk in chunks:
                self._coming[chunk] = slot

    def get(self, object_id: ChunkId) -> memoryview | None:
        """Returns a chunk that has arrived or is being unpacked just now, read-only and checked; else None.

        A job that waits for its turn is called off: whoever asks does the work at once.
        """
        if not self.holds(object_id):
            return None
        with self._lock:
            slot = self._coming.get(object_id)
            if slot is not None:
                self._take_answers()
                if self._coming.get(object_id) == slot:
                    self._wait_or_call_off(slot)
            return self._use(object_id)

    def _use(self, object_id: ChunkId) -> memoryview | None:
        found = self._arrived.get(object_id)
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
        """Returns a slot to be filled, None where all are in use.

        What somebody has still to ask for stays for a while: of readers that want more together than there is, those
        that come late are not helped, and nothing is unpacked in vain.
        """
        while not self._free and (self._used or self._is_stale()):
            _, contents = (self._used or self._unused).popitem(last=False)
            for chunk in contents.chunks:
                del self._arrived[chunk]
        return self._free.pop() if self._free else None

    def _is_stale(self) -> bool:
        """Says whether what arrived first was asked for by nobody for too long."""
        oldest = next(iter(self._unused.values()), None)
        return oldest is not None and time.monotonic() - oldest.arrived_s > UNUSED_S

    def _wait_or_call_off(self, slot: int) -> None:
        memory = self._memory
        if memory is not None and memory[slot] == Progress.BEGUN:
            process = next(one for one in self._processes if slot in one.slots)
            while slot in process.slots and self._take_answer(process, _BEGUN_WAIT_MS):
                pass
        elif memory is not None:
            memory[slot] = Progress.CALLED_OFF
        self._forget_coming(slot)

    def _forget_coming(self, slot: int) -> None:
        for chunk in self._wanted.pop(slot, ()):
            if self._coming.get(chunk) == slot:
                del self._coming[chunk]

    # Files for the kernel.

    def push(self, files: Sequence[tuple[int, list[ChunkId]]], extents: list[Extent]) -> list[int]:
        """Has files, given as (inode, chunks), put into the kernel's page cache; returns a ticket for each, or none."""
        with self._lock:
            self._take_answers()
            given: list[File] = []
            for ino, chunks in files:
                given.append(File(self._next_ticket, ino, list(chunks)))
                self._next_ticket = self._next_ticket + 1 if self._next_ticket + 1 < TICKETS else SLOTS
            tickets = [file.ticket for file in given]
            job = Job(None, [chunk for file in given for chunk in file.chunks], extents, given)
            return tickets if self._send(job, tickets) is not None else []

    def call_off(self, ticket: int) -> bool:
        """Takes a file back from the processes; says whether that came in time, so that nobody has begun with it."""
        memory = self._memory
        if memory is None or memory[ticket] != Progress.WAITING:
            return False
        memory[ticket] = Progress.CALLED_OFF
        return True

    # Words with the processes.

    def settle(self) -> None:
        """Waits until nothing is on its way."""
        with self._lock:
            for process in list(self._processes):
                while process.jobs and self._take_answer(process, _SETTLE_WAIT_MS):
                    pass

    def _send(self, job: Job, tickets: Sequence[int]) -> _Process | None:
        """Gives a job to the process that has the fewest; returns it, None where none can take it."""
        if self._memory is None or not self._processes:
            return None
        for ticket in tickets:
            self._memory[ticket] = Progress.WAITING
        message = encode(job)
        for process in sorted(self._processes, key=lambda one: one.jobs):
            try:
                process.words.send(message, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError:
                self._lose(process)
                continue
            process.jobs += 1
            return process
        return None

    def _take_answers(self) -> None:
        for process in list(self._processes):
            while process.jobs and self._take_answer(process, 0):
                pass

    def _take_answer(self, process: _Process, wait_ms: int) -> bool:
        """Takes one answer of a process; says whether there was one."""
        if wait_ms:
            poll = select.poll()
            poll.register(process.words, select.POLLIN)
            if not poll.poll(wait_ms):
                return False
        try:
            message = process.words.recv(MESSAGE_BYTES_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            message = b""
        if not message:
            self._lose(process)
            return False
        answer = decode_answer(message)
        process.jobs -= 1
        if answer.slot is not None:
            process.slots.discard(answer.slot)
            self._forget_coming(answer.slot)
            self._take(answer.slot, answer)
        return True

    def _take(self, slot: int, answer: Answer) -> None:
        # Of what was here already the earlier one stays, so that every chunk is in one slot.
        fresh = [chunk for chunk in answer.chunks if chunk.id not in self._arrived]
        if not fresh or self._memory is None:
            self._free.append(slot)
            return
        # Every view keeps this alive; with the last of them the slot is free.
        whole = _SlotBytes.from_buffer(self._memory, slot_start(slot))
        weakref.finalize(whole, self._free.append, slot).atexit = False
        view = memoryview(whole).cast("B").toreadonly()
        for chunk in fresh:
            self._arrived[chunk.id] = view[chunk.start : chunk.start + chunk.size], slot
        chunks = [chunk.id for chunk in fresh]
        self._unused[slot] = _Contents(chunks, set(chunks), time.monotonic())

    def _lose(self, process: _Process) -> None:
        """A process has died: what it had under way is left to whoever wants it; its slots are not used again."""
        log.warning("a process that reads ahead has ended with status %s", process.process.poll())
        self._processes.remove(process)
        for slot in process.slots:
            self._forget_coming(slot)
        process.end()
