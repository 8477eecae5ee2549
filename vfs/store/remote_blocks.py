"""Blocks of packs in a backend that is not local: read by threads, so that an event loop never waits for them.

On the thread of the event loop a read of blocks that are not on this machine raises `NotLocal`. The caller has them
fetched, keeps them pinned and asks again (vfs/fuse/fetching.py). Any other thread waits. Requests for one block share
one read of the backend, whichever threads they come from.
"""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from vfs.backend.protocol import MissingKey, ObjectBackend
from vfs.errors import VfsError
from vfs.model.ids import Buffer
from vfs.store.packs.pack_file import PREFIX, PackKind
from vfs.store.sequential_readahead import Extent

THREADS = 16
"""Reads of the backend at the same time, at most."""
PREFETCH_THREADS = THREADS // 2
"""How many of them may be prefetches, for which no request waits yet."""
TREE_THREADS = 4
"""How many are kept for blocks of trees: listings and lookups do not queue behind the contents of files."""
PREFETCH_BYTES_MAX = 16 * 1024 * 1024
"""Prefetched blocks that were not used yet; the oldest are evicted."""
PREFETCH_QUEUE_MAX = 64
_RUN_BYTES_MAX = 4 * 1024 * 1024
_SEARCH_BYTES_MAX = 32 * 1024 * 1024
"""What one search keeps pinned, at most."""
_TREE_PACKS = f"{PREFIX}{PackKind.TREE.folder}/"
_IDLE_S = 5.0
"""How long an idle thread stays."""


class Block(NamedTuple):
    """A block's place: the pack's key, and where in the pack it lies."""

    pack: str
    offset: int
    size: int


Search = Callable[[], object]
R = TypeVar("R")


class NotLocal(Exception):
    """What was asked for needs blocks that are not in memory, and the calling thread must not wait for them.

    `search`: a thread-safe function that reads them and more; a worker thread runs it instead of fetching the blocks.
    """

    def __init__(self, remote: RemoteBlocks, blocks: Sequence[Block], search: Search | None = None) -> None:
        super().__init__(f"{len(blocks)} blocks are not in memory")
        self.remote = remote
        self.blocks = blocks
        self.search = search

    def prefetch(self) -> None:
        """Begins to fetch the blocks, for a caller that goes on without them."""
        self.remote.prefetch(self.blocks)


def in_one_search(search: Callable[[], R]) -> R:
    """Returns what a thread-safe function returns that may read much, one block after the other.

    Where that would take many rounds of NotLocal, one has it run in a worker thread.
    """
    try:
        return search()
    except NotLocal as missing:
        raise NotLocal(missing.remote, missing.blocks, search) from None


class Flight:
    """One read of the backend, of blocks that lie side by side."""

    __slots__ = ("blocks", "done", "is_prefetch", "is_tree", "owner")

    def __init__(self, blocks: list[Block], owner: Pins | None) -> None:
        """`owner`: the pins of the request that begins it; None for a prefetch."""
        self.blocks = blocks
        self.owner = owner
        self.is_prefetch = owner is None
        self.is_tree = blocks[0].pack.startswith(_TREE_PACKS)
        self.done: Future[None] = Future()


Outcome = Buffer | MissingKey
"""A block's bytes (fewer where the pack is cut short), or that its pack is missing."""


class Pins:
    """The blocks that one request needs: they stay in memory until the request has its answer. See `RemoteBlocks.pins`.

    Used by one thread at a time.
    """

    def __init__(self, remote: RemoteBlocks) -> None:
        self._remote = remote
        self.blocks: set[Block] = set()
        self._cancelled: Future[None] = Future()

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Keeps what the calling thread reads meanwhile pinned, up to a limit."""
        searching = self._remote._searching  # noqa: SLF001
        searching.pins = self
        try:
            yield
        finally:
            searching.pins = None

    def cancel(self) -> None:
        """Ends the waiting of the thread that fetches for these pins; it raises OSError then."""
        self._cancelled.set_result(None)

    def start(self, blocks: Sequence[Block]) -> list[Flight]:
        """Pins blocks and begins to fetch those that are not in memory; returns what has to be waited for.

        A flight's `done` raises OSError if the read has failed.
        """
        fresh = [block for block in dict.fromkeys(blocks) if block not in self.blocks]
        self.blocks.update(fresh)
        return self._remote._start(self, blocks, fresh)  # noqa: SLF001

    def wait_for(self, blocks: Sequence[Block]) -> None:
        """Waits until blocks are in memory, pinned. Raises OSError, or the backend's VfsError."""
        for is_last in (False, True):
            flights = self.start(blocks)
            for flight in flights:
                wait((flight.done, self._cancelled), return_when=FIRST_COMPLETED)
                if self._cancelled.done():
                    raise OSError(errno.ECANCELED, "the mount ends")
            error = self.error_of(flights, is_last=is_last)
            if error is not None:
                raise _read_error(error)

    def error_of(self, flights: Sequence[Flight], *, is_last: bool) -> BaseException | None:
        """Returns why flights that are done have failed, None if the blocks are in memory or are to be fetched again.

        Unless `is_last`, a read that others had begun does not count: it may have failed for a reason that is over.
        """
        for flight in flights:
            error = flight.done.exception()
            if error is not None and (is_last or flight.owner is self):
                return error
        return None


class RemoteBlocks:
    """Reads blocks of one backend. Safe to call from any thread."""

    def __init__(self, backend: ObjectBackend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._has_work = threading.Condition(self._lock)
        self._event_loop: int | None = None
        self._searching = threading.local()
        self._held: dict[Block, Outcome] = {}
        self._pins: dict[Block, int] = {}
        # Blocks that are held without a pin: they were prefetched.
        self._unused: OrderedDict[Block, int] = OrderedDict()
        self._unused_bytes = 0
        self._flights: dict[Block, Flight] = {}
        self._wanted: deque[Flight] = deque()
        self._wanted_trees: deque[Flight] = deque()
        self._prefetches: deque[Flight] = deque()
        # Reads that run: all, those of the contents of files, and prefetches.
        self._threads = self._idle = self._reading_data = self._prefetching = 0

    def serve_from(self, thread: int | None) -> None:
        """Sets the thread, by its `get_ident`, that must not wait: the event loop's; None: there is none."""
        self._event_loop = thread

    @property
    def may_wait(self) -> bool:
        """True if the calling thread may wait for the backend."""
        return threading.get_ident() != self._event_loop

    @property
    def held_blocks(self) -> int:
        """How many blocks are in memory."""
        return len(self._held)

    @property
    def pinned_blocks(self) -> int:
        """How many blocks requests have pinned."""
        return len(self._pins)

    @contextmanager
    def pins(self) -> Iterator[Pins]:
        """Gives the pins of one request; they are released at the end."""
        pins = Pins(self)
        try:
            yield pins
        finally:
            self._unpin(pins.blocks)

    def read(self, pack: str, offset: int, sizes: Sequence[int]) -> Buffer:
        """Returns blocks of these sizes that lie side by side in a pack; fewer bytes only at the pack's end.

        Raises NotLocal on the event loop's thread, MissingKey, OSError.
        """
        blocks = _blocks_at(pack, offset, sizes)
        outcomes = self._take(blocks)
        if outcomes is None and not self.may_wait:
            # A copy on this machine takes less time than another thread takes to begin.
            kept = self._backend.read_kept(pack, offset, sum(sizes))
            if kept is not None:
                return kept
        if outcomes is None:
            self._require(blocks)
            with self.pins() as pins:
                self._wait_for(pins, blocks)
                outcomes = self._take(blocks) or []
        return _joined(outcomes)

    def require(self, extents: Sequence[Extent]) -> None:
        """Prefetches blocks that are read next; on the event loop's thread raises NotLocal for all of them together."""
        blocks = [block for extent in extents for block in _blocks_at(extent.pack, extent.offset, extent.sizes)]
        if self.may_wait:
            self.prefetch(blocks)
        else:
            self._require([block for block in blocks if self._backend.read_kept(*block) is None])

    def prefetch(self, blocks: Sequence[Block]) -> None:
        """Begins to fetch blocks that will be wanted soon. Does nothing for those for which too many others wait."""
        with self._lock:
            missing = [block for block in blocks if block not in self._held and block not in self._flights]
            for run in _runs(missing):
                if len(self._prefetches) < PREFETCH_QUEUE_MAX:
                    self._queue(Flight(run, None))

    def prefetch_extent(self, extent: Extent) -> None:
        """Begins to fetch the blocks of an extent."""
        self.prefetch(_blocks_at(extent.pack, extent.offset, extent.sizes))

    def wait_idle(self) -> None:
        """Waits until nothing is in flight."""
        while True:
            with self._lock:
                flights = list(self._flights.values())
            if not flights:
                return
            for flight in flights:
                flight.done.exception()

    # Blocks in memory.

    def _take(self, blocks: Sequence[Block]) -> list[Outcome] | None:
        """Returns the blocks if all are in memory. What was prefetched is given up with it: the caches have it next."""
        with self._lock:
            held = self._held
            if any(block not in held for block in blocks):
                return None
            outcomes = [held[block] for block in blocks]
            for block in blocks:
                if block in self._unused:
                    self._drop_unused(block)
            return outcomes

    def _require(self, blocks: Sequence[Block]) -> None:
        if self.may_wait:
            return
        with self._lock:
            missing = [block for block in blocks if block not in self._held]
        if missing:
            raise NotLocal(self, missing)

    def _wait_for(self, pins: Pins, blocks: Sequence[Block]) -> None:
        searching: Pins | None = getattr(self._searching, "pins", None)
        if searching is not None and sum(block.size for block in searching.blocks) < _SEARCH_BYTES_MAX:
            pins = searching
        pins.wait_for(blocks)

    def _unpin(self, blocks: set[Block]) -> None:
        with self._lock:
            for block in blocks:
                left = self._pins[block] - 1
                if left:
                    self._pins[block] = left
                else:
                    del self._pins[block]
                    self._held.pop(block, None)

    def _drop_unused(self, block: Block) -> None:
        self._unused_bytes -= self._unused.pop(block)
        del self._held[block]

    # Reads in flight.

    def _start(self, pins: Pins, blocks: Sequence[Block], fresh: Sequence[Block]) -> list[Flight]:
        with self._lock:
            for block in fresh:
                self._pins[block] = self._pins.get(block, 0) + 1
                if block in self._unused:
                    self._unused_bytes -= self._unused.pop(block)
            missing = [block for block in blocks if block not in self._held]
            known = dict.fromkeys(self._flights[block] for block in missing if block in self._flights)
            added = [Flight(run, pins) for run in _runs([block for block in missing if block not in self._flights])]
            for flight in added:
                self._queue(flight)
            for flight in known:
                if flight.is_prefetch and flight in self._prefetches:
                    self._prefetches.remove(flight)
                    flight.is_prefetch = False
                    self._enqueue(flight)
            return [*known, *added]

    def _queue(self, flight: Flight) -> None:
        for block in flight.blocks:
            self._flights[block] = flight
        self._enqueue(flight)

    def _enqueue(self, flight: Flight) -> None:
        if flight.is_prefetch:
            self._prefetches.append(flight)
        else:
            (self._wanted_trees if flight.is_tree else self._wanted).append(flight)
        self._wake()

    def _wake(self) -> None:
        self._has_work.notify()
        queued = len(self._wanted_trees) + len(self._wanted) + len(self._prefetches)
        if queued > self._idle and self._threads < THREADS:
            try:
                threading.Thread(target=self._work, name="vfs-fetch", daemon=True).start()
                self._threads += 1
            except (RuntimeError, MemoryError) as error:
                # The limit of processes: those that run do it all. Without any, the requests fail.
                if not self._threads:
                    self._fail_queued(OSError(errno.EAGAIN, f"no thread can be started: {error}"))

    def _fail_queued(self, error: OSError) -> None:
        for queue in (self._wanted_trees, self._wanted, self._prefetches):
            while queue:
                flight = queue.popleft()
                for block in flight.blocks:
                    del self._flights[block]
                flight.done.set_exception(error)

    def _work(self) -> None:
        while True:
            with self._lock:
                flight = self._next()
                if flight is None:
                    self._threads -= 1
                    return
            try:
                outcomes = _parts(flight.blocks, self._backend.read_range(*_extent_of(flight.blocks)))
            except MissingKey as missing:
                outcomes = [missing] * len(flight.blocks)
            except BaseException as error:  # noqa: BLE001 - raised in the threads that wait for it
                self._landed(flight, [])
                flight.done.set_exception(error)
                continue
            self._landed(flight, outcomes)
            flight.done.set_result(None)

    def _next(self) -> Flight | None:
        """Returns the next read, waiting a while for one; None if the thread is to end."""
        has_waited = False
        while True:
            flight = self._next_queued()
            if flight is not None:
                self._reading_data += not flight.is_tree
                self._prefetching += flight.is_prefetch
                return flight
            if has_waited:
                return None
            self._idle += 1
            try:
                has_waited = not self._has_work.wait(_IDLE_S)
            finally:
                self._idle -= 1

    def _next_queued(self) -> Flight | None:
        if self._wanted_trees:
            return self._wanted_trees.popleft()
        may_read_data = self._reading_data < THREADS - TREE_THREADS
        if self._wanted and may_read_data:
            return self._wanted.popleft()
        if self._prefetches and self._prefetching < PREFETCH_THREADS and may_read_data:
            return self._prefetches.popleft()
        return None

    def _landed(self, flight: Flight, outcomes: Sequence[Outcome]) -> None:
        with self._lock:
            self._reading_data -= not flight.is_tree
            self._prefetching -= flight.is_prefetch
            if self._wanted or self._prefetches:
                self._wake()
            for block in flight.blocks:
                del self._flights[block]
            for block, outcome in zip(flight.blocks, outcomes, strict=False):
                if block in self._pins:
                    self._held[block] = outcome
                elif not isinstance(outcome, MissingKey):
                    self._held[block] = outcome
                    self._unused[block] = len(outcome)
                    self._unused_bytes += len(outcome)
            while self._unused_bytes > PREFETCH_BYTES_MAX:
                self._drop_unused(next(iter(self._unused)))


def _read_error(error: BaseException) -> Exception:
    """Returns what a failed read raises in its readers, which would take a ValueError for a fault of the data."""
    if isinstance(error, VfsError) or (isinstance(error, OSError) and error.errno):
        return error
    return OSError(errno.EIO, f"a read of the backend has failed: {error!r}")


def _blocks_at(pack: str, offset: int, sizes: Sequence[int]) -> list[Block]:
    blocks = []
    for size in sizes:
        blocks.append(Block(pack, offset, size))
        offset += size
    return blocks


def _runs(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Splits blocks into runs without gaps, each worth one read."""
    run: list[Block] = []
    size = 0
    for block in sorted(set(blocks)):
        is_next = bool(run) and block[:2] == (run[-1].pack, run[-1].offset + run[-1].size)
        if run and (not is_next or size + block.size > _RUN_BYTES_MAX):
            yield run
            run, size = [], 0
        run.append(block)
        size += block.size
    if run:
        yield run


def _extent_of(blocks: Sequence[Block]) -> tuple[str, int, int]:
    return blocks[0].pack, blocks[0].offset, sum(block.size for block in blocks)


def _parts(blocks: Sequence[Block], raw: Buffer) -> list[Outcome]:
    """Returns each block's part of what was read; of several a copy, so that none keeps the others in memory."""
    if len(blocks) == 1:
        return [raw]
    start = blocks[0].offset
    return [bytes(raw[block.offset - start : block.offset - start + block.size]) for block in blocks]


def _joined(outcomes: Sequence[Outcome]) -> Buffer:
    pieces: list[Buffer] = []
    for outcome in outcomes:
        if isinstance(outcome, MissingKey):
            raise MissingKey(outcome.key)
        pieces.append(outcome)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
