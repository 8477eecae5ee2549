"""Streams of opens in the order of a directory, and the files that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from vfs.fuse.view.version_inodes import VersionDirectory
from vfs.model.objects import Entry, Form, Kind
from vfs.store.remote_blocks import NotLocal

NEIGHBOURS_MIN = 4
"""Opens that make a sequential stream: each was of one of the `GAP` files behind the one before. Of random opens among
200 files of a directory one in 1,500 begins a stream, in larger directories fewer (simulated)."""
GAP = 2
OTHERS_MAX = 64
"""The most other entries between two files of a stream."""
IN_CHUNKS = (Form.CHUNK, Form.LIST)
"""Forms of files that have chunks of their own."""


class Stream:
    """A stream of opens that may be sequential, and the files that follow.

    `place` identifies their directory; `directory` is None in a working layer.
    """

    def __init__(
        self,
        place: bytes,
        name: bytes,
        following: Callable[[bytes], Iterator[tuple[int, Entry]]],
        directory: VersionDirectory | None,
    ) -> None:
        """`following` returns the files behind a name; `name`: the first one opened."""
        self.place = place
        self.directory = directory
        self.opened = 1
        self.moved_at = 0
        self.batch_files = NEIGHBOURS_MIN
        # Prefetched files whose pages were left out, so that a request tells when the program is there.
        self.signals: set[bytes] = set()
        # The files behind the last one opened, as far as they are known; the first `prefetched` of them are prefetched
        # or in flight.
        self.upcoming: list[tuple[int, Entry]] = []
        self.prefetched = 0
        self._start = following
        self._following = following(name)
        self._seen = name

    def look_ahead(self, count: int) -> None:
        """Looks `count` files ahead, if there are as many and their directory is local that far."""
        try:
            for place in islice(self._following, max(0, count - len(self.upcoming))):
                self.upcoming.append(place)
                self._seen = place[1].name
        except NotLocal as missing:
            missing.prefetch()
            self._following = self._start(self._seen)

    def advance(self, name: bytes) -> None:
        """Moves behind the file of a name, which is one of `upcoming`."""
        at = next(number for number, (_, entry) in enumerate(self.upcoming) if entry.name == name) + 1
        self.signals.difference_update(entry.name for _, entry in self.upcoming[:at])
        del self.upcoming[:at]
        self.prefetched = max(0, self.prefetched - at)
        self.opened += 1

    def expected(self) -> set[bytes]:
        """Returns the names of which one is opened next if the stream continues, as far as opens are seen."""
        behind = self.upcoming[self.prefetched : self.prefetched + GAP]
        return self.signals.union(entry.name for _, entry in (*self.upcoming[:GAP], *behind))


def files_in_chunks(following: Iterable[tuple[int, Entry]]) -> Iterator[tuple[int, Entry]]:
    """Yields the entries that are files with chunks of their own; tiny files are stored with their directory.

    Ends where too many other entries lie between: finding the next file must not cost more than prefetching it saves.
    """
    others = 0
    for position, entry in following:
        if entry.kind == Kind.FILE and entry.form in IN_CHUNKS:
            others = 0
            yield position, entry
        elif (others := others + 1) > OTHERS_MAX:
            return
