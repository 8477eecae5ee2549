"""LazyPacks: a repository's backend whose packs may be at a remote; what is read of them is kept on disk.

A reader waits for no more than the pages that it needs (`vfs/remote/disk_cache.py`). What is fetched behind it
follows what was read: at most WASTE times as many bytes. Where reads of one part of a pack have missed so many, the
4 MiB around them come: one request then serves what would take a hundred. A pack of which still more was missed is read
as a whole, in any order: from then on the first miss fetches the 16 MiB around it. So a reader of few small files
pays for few bytes, and one of all files, of any size, makes few requests. What was filled and evicted before half of it
was read is not filled again before it was missed often: a cache that is smaller than the data would fetch the same
bytes again and again.

A pack that no remote has any more was replaced by a sweep: the newest root says where its objects are now.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, TypeVar

from vfs.backend.protocol import TRANSIENT, Buffer, MissingKey, ObjectBackend, OnDisk
from vfs.backend.rooted_path import RootedPath
from vfs.backend.wrappers import Wrapper
from vfs.errors import VfsError
from vfs.remote.disk_cache import PAGE_BYTES, PAGES, SEGMENT_BYTES, Segment, SegmentCache
from vfs.store.packs.pack_file import PACK_BYTES_MAX, parse_key

SEGMENTS = "segments"
"""Where a repository keeps them."""
WINDOW_BYTES = 4 * SEGMENT_BYTES
"""What one fill fetches."""
FILLS = 4
"""Fills at the same time, at most; each has its bytes in memory."""
FILL_AFTER, FILL_AGAIN_AFTER = 2, 512
"""How many reads of a window miss before it is filled, and where its last fill was evicted before it was of use."""
WASTE = 64
"""How many bytes a fill may fetch for each that reads have missed there."""
DENSE_AFTER, DENSE_WINDOWS = 6, 4
"""How many reads of a pack miss before a fill fetches, at the first miss, so many windows with one request."""
FIRST_READS = 40
"""The first reads that miss start no fill, unless they go on where one ended: a program's first batch shares the
network with nothing. A reader of everything makes so many requests more, once."""
_NEAR_BYTES = 2 * PAGE_BYTES
"""A miss so close behind the last one in its window is taken for reading in order, which WASTE does not hold up."""
_RENEW_S = 60.0
"""How long a pack that is missing, though the newest root names it, is not asked for in the root again."""
_WINDOWS_MAX = 100_000
_WAIT_S, _DENSE_WAIT_S = 0.5, 2.0
"""How long a read waits for a fill, or for another process, that fetches the same; then it fetches for itself. Where a
pack is read as a whole, waiting is faster: what each read fetches for itself comes twice."""
K = TypeVar("K")
R = TypeVar("R")


def segments_of(root: Path) -> RootedPath:
    """Returns the directory of a repository's segments."""
    return RootedPath(root, SEGMENTS)


class _Window(NamedTuple):
    key: str
    number: int


class _Missed(NamedTuple):
    """The reads of a window that have missed: how many, their bytes, and where the last one ended."""

    reads: int
    size: int
    end: int


class _Fill:
    """A run of windows of one pack that one request is to fetch."""

    def __init__(self, windows: Sequence[_Window], *, is_dense: bool) -> None:
        self.windows = windows
        self.is_dense = is_dense
        self.has_begun = False
        self.done = threading.Event()


class LazyPacks(Wrapper):
    """The local backend, and for packs that are not there the remotes; everything else is local alone."""

    def __init__(
        self,
        local: ObjectBackend,
        root: Path,
        remotes: Callable[[], Sequence[ObjectBackend]],
        renew: Callable[[], None] | None = None,
    ) -> None:
        """`remotes`: opens the backends of the remotes, called when a pack is missing for the first time.

        `renew`: reads the remotes' roots, and has the index follow them; called when no remote has a pack. The read of
        the pack raises MissingKey all the same: its objects are elsewhere then.
        """
        super().__init__(local)
        self._renew = renew
        self._renewing = threading.Lock()
        self._renewals = 0
        # When each pack that was missing made the roots be read.
        self._missing: OrderedDict[str, float] = OrderedDict()
        self._root = root
        self._open_remotes = remotes
        self._remotes: Sequence[ObjectBackend] | None = None
        self._lock = threading.Lock()
        self._cache: SegmentCache | None = None
        self._has_opened = False
        # Packs that were not here.
        self._absent: OrderedDict[str, None] = OrderedDict()
        # What missed of each window since it was last filled.
        self._misses: OrderedDict[_Window, _Missed] = OrderedDict()
        # Reads that have missed; those of each pack, and their bytes.
        self._missed_reads = 0
        self._missed_in: OrderedDict[str, tuple[int, int]] = OrderedDict()
        # Bytes that were read of each window since it was filled.
        self._filled: OrderedDict[_Window, int] = OrderedDict()
        self._fills: deque[_Fill] = deque()
        # The fill of each window that is planned or in flight.
        self._filling: dict[_Window, _Fill] = {}
        self._fillers = 0
        self._no_fills = threading.Condition(self._lock)
        self._has_ended = False

    @property
    def is_local(self) -> bool:
        """False: a read may wait for a remote."""
        return False

    def read(self, key: str) -> bytes:
        """Returns the whole object; one of a remote is not kept."""
        try:
            return self.inner.read(key)
        except MissingKey:
            return self._ask(key, lambda remote: remote.read_range(key, 0, PACK_BYTES_MAX))

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end."""
        try:
            return self.inner.read_range(key, offset, size)
        except MissingKey:
            return self._read_far(key, offset, size)

    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns the number of bytes."""
        try:
            return self.inner.read_into(key, offset, buffer)
        except MissingKey:
            found = self._read_far(key, offset, len(buffer))
            buffer[: len(found)] = found
            return len(found)

    def read_kept(self, key: str, offset: int, size: int) -> Buffer | None:
        """Returns part of a pack that is here, or whose pages are in the cache; None for another one."""
        try:
            return self.inner.read_range(key, offset, size)
        except (MissingKey, OSError):
            # The remote may have what a local disk does not give.
            cache = self._opened() if parse_key(key) is not None and size > 0 else None
        end = min(offset + size, PACK_BYTES_MAX)
        if cache is None or not 0 <= offset < end:
            return None
        pages = _look(cache, key, offset, end)
        if None in pages:
            return None
        self._hit(key, offset, end)
        start = offset - offset // PAGE_BYTES * PAGE_BYTES
        return _joined(pages)[start : start + end - offset]

    def on_disk(self, key: str, offset: int, size: int) -> OnDisk | None:
        """Returns where part of a pack lies that is here, or in the cache."""
        # An open that fails takes longer than a look at the cache.
        was_absent = key in self._absent
        found = self._in_cache(key, offset, size) if was_absent else None
        if found is not None:
            return found
        try:
            found = self.inner.on_disk(key, offset, size)
        except (MissingKey, OSError):
            _keep(self._absent, key, None)
            return None if was_absent else self._in_cache(key, offset, size)
        self._absent.pop(key, None)
        return found

    def _in_cache(self, key: str, offset: int, size: int) -> OnDisk | None:
        cache = self._opened() if parse_key(key) is not None else None
        if cache is None or size <= 0 or not 0 <= offset <= PACK_BYTES_MAX - size:
            return None
        pieces = list(_pieces(key, offset, offset + size))
        places = [place for piece in pieces[:2] if (place := cache.find(*piece)) is not None]
        if not places or len(places) < len(pieces):
            return None
        self._hit(key, offset, offset + size)
        _, start, end = pieces[-1]
        return OnDisk(cache.data, places[0], places[-1], end - start if len(pieces) > 1 else 0)

    def hint_readahead(self, key: str, offset: int, size: int) -> None:
        """Passes a hint on for what is here."""
        with contextlib.suppress(MissingKey):
            self.inner.hint_readahead(key, offset, size)

    def drop_copy(self, key: str, offset: int, size: int) -> bool:
        """Drops what is kept of a part of a pack; returns True if there was any."""
        cache = self._opened() if parse_key(key) is not None else None
        if cache is None:
            return False
        found = False
        for segment, start, end in _pieces(key, offset, min(offset + max(1, size), PACK_BYTES_MAX)):
            found |= cache.drop(segment, start, end)
        return found

    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        try:
            return self.inner.size(key)
        except MissingKey:
            return self._ask(key, lambda remote: remote.size(key))

    def close_removed(self) -> None:
        """Passes it on: of what is at a remote, segments are kept."""
        self.inner.close_removed()

    def close(self) -> None:
        """Closes the backends of the remotes, and ends fills; the local one is its owner's."""
        with self._lock:
            self._has_ended = True
            self._cache = None
            while self._fills:
                for window in self._fills.popleft().windows:
                    self._filling.pop(window).done.set()
        for remote in self._remotes or ():
            remote.close()

    def _ask(self, key: str, ask: Callable[[ObjectBackend], R]) -> R:
        """Returns what the first remote that has a pack answers. Raises MissingKey, or why one could not be asked."""
        if parse_key(key) is None:
            raise MissingKey(key)
        with self._lock:
            if self._remotes is None:
                self._remotes = self._open_remotes()
        failure: OSError | None = None
        renewals = self._renewals
        for remote in self._remotes:
            try:
                return ask(remote)
            except MissingKey:
                continue
            except TRANSIENT as error:
                failure = error
        if failure is not None:
            raise failure
        self._renew_for(key, renewals)
        raise MissingKey(key)

    def _renew_for(self, key: str, renewals: int) -> None:
        """Reads the roots for a pack that is missing: once for all readers that have missed one meanwhile."""
        if self._renew is None:
            return
        with self._renewing:
            asked = self._missing.get(key)
            if self._renewals != renewals or (asked is not None and time.monotonic() - asked < _RENEW_S):
                return
            self._missing[key] = time.monotonic()
            if len(self._missing) > _WINDOWS_MAX:
                self._missing.popitem(last=False)
            with contextlib.suppress(OSError, VfsError):
                self._renew()
            self._renewals += 1

    @property
    def cache_bytes(self) -> int:
        """The bound of what is kept on disk; 0 where nothing can be kept."""
        cache = self._opened()
        return cache.size if cache is not None else 0

    def bring(self, key: str, offset: int, size: int) -> int:
        """Prefetches part of a pack into the cache, and no more than that; returns its bytes."""
        return len(self._read_far(key, offset, size, may_fill=False))

    def _read_far(self, key: str, offset: int, size: int, *, may_fill: bool = True) -> bytes:
        if size <= 0 or not 0 <= offset < PACK_BYTES_MAX:
            return b""
        if parse_key(key) is None:
            raise MissingKey(key)
        end = min(offset + size, PACK_BYTES_MAX)
        cache = self._opened()
        if cache is None:
            return self._ask(key, lambda remote: remote.read_range(key, offset, end - offset))
        first = offset // PAGE_BYTES
        pages = _look(cache, key, offset, end)
        if None not in pages:
            self._hit(key, offset, end)
        else:
            self._wait_for_fill(key, offset, end)
            segment, start, _ = next(_pieces(key, offset, end))
            with cache.claimed(segment, start, wait_s=_WAIT_S):
                pages = _look(cache, key, offset, end)
                if None not in pages:
                    self._hit(key, offset, end)
                else:
                    if may_fill:
                        self._missed(cache, key, offset, end)
                    self._fetch(cache, key, first, pages)
        start = offset - first * PAGE_BYTES
        return _joined(pages)[start : start + end - offset]

    def _fetch(self, cache: SegmentCache, key: str, first: int, pages: list[bytes | None]) -> None:
        """Fetches the pages that are missing, those side by side with one request."""
        at = 0
        while at < len(pages):
            end = at
            while end < len(pages) and pages[end] is None:
                end += 1
            if end > at:
                start, size = (first + at) * PAGE_BYTES, (end - at) * PAGE_BYTES
                found = self._bring(cache, key, start, start + size, is_fill=False)
                for number in range(at, end):
                    pages[number] = found[(number - at) * PAGE_BYTES : (number - at + 1) * PAGE_BYTES]
            at = max(end, at + 1)

    def _bring(self, cache: SegmentCache, key: str, start: int, end: int, *, is_fill: bool) -> bytes:
        """Fetches and keeps a range that begins and ends with a page."""
        found = self._ask(key, lambda remote: remote.read_range(key, start, end - start))
        is_end = len(found) < end - start or end == PACK_BYTES_MAX
        for segment, low, high in _pieces(key, start, start + len(found)) if found else ():
            at = segment.number * SEGMENT_BYTES + low - start
            last = is_end and at + high - low == len(found)
            cache.keep(segment, low, memoryview(found)[at : at + high - low], is_end=last, evicts_used=is_fill)
        return found

    def _opened(self) -> SegmentCache | None:
        with self._lock:
            if not self._has_opened and not self._has_ended:
                self._has_opened = True
                # A medium that takes no writes, or is full, or something planted: everything is fetched each time.
                with contextlib.suppress(OSError, VfsError):
                    self._cache = SegmentCache.open(segments_of(self._root))
            return self._cache

    # Fills.

    def _hit(self, key: str, offset: int, end: int) -> None:
        window = _Window(key, offset // WINDOW_BYTES)
        with self._lock:
            if window in self._filled:
                self._filled[window] += end - offset

    def _missed(self, cache: SegmentCache, key: str, offset: int, end: int) -> None:
        with self._lock:
            count, size = self._missed_in.pop(key, (0, 0))
            _keep(self._missed_in, key, (count + 1, size + end - offset))
            self._missed_reads += 1
            has_begun = self._missed_reads > FIRST_READS
            is_dense = has_begun and count >= DENSE_AFTER and size * WASTE >= DENSE_WINDOWS * WINDOW_BYTES
            for number in range(offset // WINDOW_BYTES, (end - 1) // WINDOW_BYTES + 1):
                window = _Window(key, number)
                missed = self._misses.pop(window, _Missed(0, 0, 0))
                is_near = 0 <= offset - missed.end <= _NEAR_BYTES
                missed = _Missed(missed.reads + 1, missed.size + end - offset, end)
                is_worth_it = missed.reads >= FILL_AFTER and (
                    is_near or (has_begun and missed.size * WASTE >= WINDOW_BYTES)
                )
                if is_dense or is_worth_it if self._was_of_use(window) else missed.reads >= FILL_AGAIN_AFTER:
                    self._plan_fill(cache, window, is_dense=is_dense)
                else:
                    _keep(self._misses, window, missed)

    def _was_of_use(self, window: _Window) -> bool:
        return self._filled.get(window, WINDOW_BYTES) >= WINDOW_BYTES // 2

    def _plan_fill(self, cache: SegmentCache, window: _Window, *, is_dense: bool) -> None:
        if self._has_ended or window in self._filling:
            return
        run = [window]
        if is_dense:
            first = window.number // DENSE_WINDOWS * DENSE_WINDOWS
            # Up to those that were filled before: they are here, or were of no use.
            for numbers in range(window.number - 1, first - 1, -1), range(window.number + 1, first + DENSE_WINDOWS):
                beside = (_Window(window.key, number) for number in numbers)
                run += takewhile(lambda one: one not in self._filled and one not in self._filling, beside)
            run.sort()
        fill = _Fill(run, is_dense=is_dense)
        self._filling.update(dict.fromkeys(run, fill))
        self._fills.append(fill)
        if self._fillers < FILLS:
            self._fillers += 1
            threading.Thread(target=self._fill_windows, args=(cache,), name="vfs-fill", daemon=True).start()

    def _fill_windows(self, cache: SegmentCache) -> None:
        try:
            while (fill := self._next_fill()) is not None:
                try:
                    # What it cannot fetch its readers request themselves, and get the error.
                    with contextlib.suppress(OSError, VfsError):
                        self._fill(cache, fill.windows)
                finally:
                    with self._lock:
                        for window in fill.windows:
                            del self._filling[window]
                    fill.done.set()
        finally:
            with self._lock:
                self._fillers -= 1
                self._no_fills.notify_all()

    def _next_fill(self) -> _Fill | None:
        with self._lock:
            if not self._fills or self._has_ended:
                return None
            fill = self._fills.popleft()
            fill.has_begun = True
            for window in fill.windows:
                self._filled[window] = 0
                if len(self._filled) > _WINDOWS_MAX:
                    self._filled.popitem(last=False)
            return fill

    def _fill(self, cache: SegmentCache, run: Sequence[_Window]) -> None:
        key, start = run[0].key, run[0].number * WINDOW_BYTES
        end = min((run[-1].number + 1) * WINDOW_BYTES, PACK_BYTES_MAX)
        segment, low, _ = next(_pieces(key, start, end))
        # Apart from the claims of reads.
        with cache.claimed(segment, low + 1, wait_s=0) as is_ours:
            if not is_ours:
                return
            missing = [
                segment.number * PAGES + page
                for segment, _, _ in _pieces(key, start, end)
                for page in cache.missing(segment)
            ]
            if missing:
                low, high = missing[0] * PAGE_BYTES, min((missing[-1] + 1) * PAGE_BYTES, PACK_BYTES_MAX)
                self._bring(cache, key, low, high, is_fill=True)

    def wait_for_fills(self) -> None:
        """Waits until no fill is in flight."""
        with self._no_fills:
            self._no_fills.wait_for(lambda: not self._fillers)

    def _wait_for_fill(self, key: str, offset: int, end: int) -> None:
        for number in range(offset // WINDOW_BYTES, (end - 1) // WINDOW_BYTES + 1):
            with self._lock:
                fill = self._filling.get(_Window(key, number))
            if fill is not None and (fill.has_begun or fill.is_dense):
                fill.done.wait(_DENSE_WAIT_S if fill.is_dense else _WAIT_S)


def _keep(table: OrderedDict[K, R], key: K, value: R) -> None:
    """Puts a value at the end of a table, and forgets what came long ago."""
    table[key] = value
    if len(table) > _WINDOWS_MAX:
        table.popitem(last=False)


def _pieces(key: str, start: int, end: int) -> Iterator[tuple[Segment, int, int]]:
    """Yields the segments that have bytes of a pack, each with where these begin and end in it."""
    pack = bytes.fromhex(key.rpartition("/")[2].removesuffix(".pack"))
    for number in range(start // SEGMENT_BYTES, (end - 1) // SEGMENT_BYTES + 1):
        base = number * SEGMENT_BYTES
        yield Segment(pack, number), max(start - base, 0), min(end - base, SEGMENT_BYTES)


def _look(cache: SegmentCache, key: str, start: int, end: int) -> list[bytes | None]:
    return [page for segment, low, high in _pieces(key, start, end) for page in cache.read(segment, low, high)]


def _joined(pages: Sequence[bytes | None]) -> bytes:
    """Returns the pages up to the end of the pack, which a short one tells."""
    found: list[bytes] = []
    for page in pages:
        found.append(page or b"")
        if len(found[-1]) < PAGE_BYTES:
            break
    return b"".join(found)
