"""The interface to the native session layer, a shared library that answers some kernel requests without Python.

`session.h` describes the functions. The library has to be loaded before the binding, whose calls it intercepts; where
it was not compiled, or `VFS_NATIVE=0` is in the environment, the binding answers all requests.
"""

from __future__ import annotations

import ctypes
import logging
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vfs.native.known_files import KnownFiles
from vfs.native.leaf_source import LeafSource
from vfs.native.signatures import (
    AdmitDirectoryFunction,
    AdmittedFunction,
    CFile,
    CFirstRead,
    CNameSource,
    CPack,
    CRead,
    CRecord,
    FindAttributesFunction,
    LocatedFunction,
    LocateFunction,
    OpenLeafAtFunction,
    OpenLeafFunction,
    declare,
)

log = logging.getLogger(__name__)

LIBRARY = Path(__file__).with_name("_session.so")
ZSTD = "libzstd.so.1"
SWITCH = "VFS_NATIVE"
HANDLE = 1 << 63
"""A handle with this bit is the number of an inode, which was opened natively or without a request."""
FILE, DIRECTORY = 1, 2
"""Kinds of records."""
RING_RECORDS = 65536
_NO_RUN = 0
PIECES_MAX = 640
"""The most chunks that a place names."""
WINDOW_BYTES = 16 << 20
"""The bytes of a file of which all chunks are named at once, if more than one read asks for them."""
CONTENT_BYTES_MAX = 4096
"""The most bytes of a file that are given as they are."""
_ID_BYTES = 32
_LEAF_CHUNKS = 1024
"""The most chunks of a leaf's small files that are looked up; of chunk lists there are fewer."""
_BLOCK, _LIST = 1, 2
"""What a leaf's location asks for next."""
_PLACE = struct.Struct("<QQII")
_PIECE = struct.Struct("<QIIIi32sQI4x")


class Modes(IntFlag):
    """What the layer answers on a connection. The first two are for the connection's whole life."""

    NO_OPEN = 1
    """The kernel opens files without a request; it keeps their pages."""
    NO_OPENDIR = 2
    """... and directories; it keeps their listings."""
    OPEN = 4
    """Files of versions are opened natively."""
    OPENDIR = 8
    """Directories of versions are opened natively; the kernel keeps their listings."""
    RELIST = 16
    """... unless many of their files were read: then it forgets access times, as the mount is writable."""


class Prepared(IntEnum):
    """What became of a file that is to be read without asking."""

    NO = 0
    YES = 1
    WORTH_LOCATING = 2
    """It is time to locate the files of its leaf."""


BEHIND = 2
"""Stands for a leaf that is not there, as a directory ends before it."""
NO_POSITION = (1 << 64) - 1
"""Stands for the position of a file that is never the next one of another."""


class Found(IntEnum):
    """What is known of a file at a position."""

    NOT_LOCATED = 0
    """It has no place, and no leaf whose files were all located is kept there."""
    NO_PLACE = 1
    PLACE = 2
    KNOWN = 3
    """It has a place, and the kernel knows its number, and no other file by it."""


class FoundFile(NamedTuple):
    """A file at a position of a directory: what its number and check are derived to be, and a Found."""

    position: int
    ino: int
    check: int
    found: int


class FirstRead(NamedTuple):
    """A file that was read without asking.

    `ino` is 0 if the kernel has forgotten it. `kind`: a ReadKind. `begun`: how many were of the kind BEGIN.
    """

    ino: int
    kind: int
    begun: int


class ReadKind(IntEnum):
    """What the layer knows of the place of a first read."""

    BEGIN = 0
    """None of the two files before it in its directory was read lately: others may follow it."""
    SECOND = 1
    """One of them was. It is noted no more."""
    WATCHED = 2
    """It is in a watched directory."""
    PREFETCHED = 3
    """It was prefetched, or given; it is not the one whose read is told."""


class Opened(NamedTuple):
    """An open that was answered natively: wall clock, inode, the caller's thread id, FILE or DIRECTORY."""

    time_ns: int
    ino: int
    thread: int
    kind: int


class Piece(NamedTuple):
    """A chunk: its block's offset and bytes in an open file, its size, number of the pack, the descriptor, its id.

    The last `rest_bytes` of the block lie at `rest_offset`.
    """

    offset: int
    block_bytes: int
    size: int
    pack: int
    descriptor: int
    id: bytes
    rest_offset: int = 0
    rest_bytes: int = 0


class Place(NamedTuple):
    """Where the bytes of a file of `size` lie from `start` on: chunks, one behind the other.

    They are kept for later reads if `is_kept`: then they are those of a window, which begins at a multiple of
    WINDOW_BYTES, and reach as far behind it as the read that is located.
    """

    start: int
    size: int
    pieces: Sequence[Piece]
    is_kept: bool = False


class Locator(Protocol):
    """Tells where the bytes of versions' files lie. Called in the thread of the event loop; raises nothing."""

    def locate(self, ino: int, offset: int, size: int) -> Place | None:
        """Returns where the answer's bytes lie, None where Python has to answer, or has given the content.

        The descriptors have to stay open until the next call.
        """
        ...

    def located(self) -> None:
        """Called after each `locate`, when the read is begun or answered: what is done here delays it no more.

        Also called when first reads have to be taken.
        """
        ...


class NameSource(Protocol):
    """Knows versions' directories. Called in the thread of the event loop; raises nothing."""

    known_files: KnownFiles
    """The table in which look-ups of files are counted."""

    def open_leaf(self, directory: int, name: bytes) -> bool:
        """Hands over the leaf that a name belongs in, by `keep_leaf`; returns False where Python has to answer."""
        ...

    def open_leaf_at(self, directory: int, position: int) -> int:
        """Does so for the leaf that a position is in; BEHIND if the directory has fewer entries."""
        ...

    def admit_directory(self, directory: int, position: int, encoded: bytes) -> int:
        """Counts a look-up of the directory at a position in another; returns the inode, 0 for Python to answer."""
        ...

    def find_attributes(self, ino: int) -> bool:
        """Hands over an inode's attributes, by `keep_attributes`; returns False where Python has to answer."""
        ...

    def admitted(self, ino: int, prepared: int) -> None:
        """Called when a look-up is answered; `prepared`, a Prepared but YES, says what is left to do.

        NO, WORTH_LOCATING: to have read what will probably be read soon, a file or a directory.
        """
        ...


def _split(ids: ctypes.Array[ctypes.c_char], count: int) -> list[bytes]:
    raw = bytes(memoryview(ids)[: count * _ID_BYTES])
    return [raw[at : at + _ID_BYTES] for at in range(0, len(raw), _ID_BYTES)]


def _encode(place: Place) -> bytes:
    """Returns a place as session.h has it."""
    head = _PLACE.pack(place.start, place.size, len(place.pieces), place.is_kept)
    return head + b"".join([_PIECE.pack(*piece) for piece in place.pieces])


class ReturnedRead(NamedTuple):
    """A read that was begun natively and has to be answered by Python: the bytes were not what they must be."""

    unique: int
    ino: int
    offset: int
    size: int


class NativeSession:
    """The loaded library. All methods run in the thread of the event loop."""

    def __init__(self, library: Any, quick: Any = None) -> None:
        """`quick`: the same library, whose functions are called without a release of the interpreter's lock."""
        self._library = library
        declare(library)
        self._quick = quick if quick is not None else library
        declare(self._quick)
        self._records = (CRecord * 1024)()
        self._first_reads = (CFirstRead * 256)()
        self._list_id = ctypes.create_string_buffer(_ID_BYTES)
        self._ids = ctypes.create_string_buffer(_LEAF_CHUNKS * _ID_BYTES)
        self._locate: Any = None
        self._located: Any = None
        self._name_functions: tuple[Any, ...] = ()

    def attach(self, connection: int, modes: Modes, committed_end: int) -> None:
        """Begins to answer requests of a connection about inodes below `committed_end`, after its handshake."""
        self._library.session_attach(connection, int(modes), committed_end)

    def detach(self) -> None:
        """Leaves all requests to the binding."""
        self._library.session_detach()

    def record_opens(self, is_recording: bool) -> None:
        """Sets whether opens are recorded; no thread is known at first, and Python gets the opens of unknown ones.

        While RING_RECORDS wait to be taken, Python gets all opens.
        """
        self._library.session_set_recording(int(is_recording))

    def know_thread(self, thread: int, run: int | None) -> None:
        """Lets the layer answer opens of a thread from now on, and record them if it belongs to a run.

        `run` is a number of 32 bits above 0 that never means another run. Of a run's opens of one inode the first is
        recorded; others may be.
        """
        self._library.session_know_thread(thread, _NO_RUN if run is None else run)

    def forget_thread(self, thread: int) -> None:
        """Lets Python answer the opens of a thread."""
        self._library.session_forget_thread(thread)

    def take_records(self) -> list[Opened]:
        """Returns the opens that were recorded and not yet taken, oldest first."""
        taken: list[Opened] = []
        while count := self._library.session_take_records(self._records, len(self._records)):
            taken += [Opened(r.time_ns, r.ino, r.thread, r.kind) for r in self._records[:count]]
        return taken

    def serve_reads(self, locator: Locator) -> int | None:
        """Begins to answer reads of versions' files natively, in threads, until `detach`.

        Returns a descriptor that is readable when `take_returned` has reads; None if the system refuses one.
        """

        def find(ino: int, offset: int, size: int, found: int) -> int:
            place = locator.locate(ino, offset, size)
            if place is None or len(place.pieces) > PIECES_MAX:
                return 0
            text = _encode(place)
            ctypes.memmove(found, text, len(text))
            return 1

        # The library calls them: they must not be freed before.
        self._locate, self._located = LocateFunction(find), LocatedFunction(locator.located)
        if not self._library.session_serve_reads(self._locate, self._located):
            log.info("the system has no " + ZSTD + ": what is compressed is read without the native layer")
        event = self._library.session_returned_event()
        return event if event >= 0 else None

    def serve_names(self, source: NameSource) -> None:
        """Begins to answer look-ups, listings and requests for attributes in versions' directories, until `detach`."""

        def admit_directory(directory: int, position: int, entry: int, entry_bytes: int) -> int:
            return give(directory, position, string_at(entry, entry_bytes))

        string_at, give = ctypes.string_at, source.admit_directory
        functions = CNameSource(
            OpenLeafFunction(source.open_leaf),
            OpenLeafAtFunction(source.open_leaf_at),
            AdmitDirectoryFunction(admit_directory),
            FindAttributesFunction(source.find_attributes),
            AdmittedFunction(source.admitted),
        )
        # The library uses them: they must not be freed before.
        self._name_functions = functions, source.known_files
        self._library.session_serve_names(functions, source.known_files.pointer)

    def known_files(self, freed: Callable[[int], None]) -> KnownFiles:
        """Returns a new table of files; `freed` as KnownFiles has it."""
        return KnownFiles(self._quick, freed)

    def keep_leaf(
        self, directory: int, slot: int, position: int, prefix: bytes, node: bytes, *, is_last: bool = False
    ) -> bool:
        """Keeps a verified node of entries of a directory, of which look-ups there are answered.

        `slot`: the directory's in the table of known files, held; `position` is that of its first entry; a file's
        number is derived from `prefix` and the file's entry. `is_last`: the directory ends with it. Returns False if
        the node is not kept: it is no leaf, holds what cannot be, or is encoded as Python would not do.
        """
        sizes = len(prefix), len(node)
        return bool(
            self._library.session_keep_leaf(directory, slot, position, prefix, sizes[0], node, sizes[1], is_last)
        )

    def find_entry(self, directory: int, position: int, ino: int) -> bytes | None:
        """Returns a directory's entry at a position, encoded, if a leaf with it is kept and it has this number."""
        size = ctypes.c_uint32()
        found = self._quick.session_find_entry(directory, position, ino, size)
        return ctypes.string_at(found, size.value) if found else None

    def drop_leaves(self, directory: int) -> None:
        """Drops what is kept of a directory that the kernel has forgotten: another one may get its number."""
        self._library.session_drop_leaves(directory)

    def keep_attributes(self, ino: int, links: int, encoded: bytes) -> bool:
        """Keeps what `stat` shows of an inode, given its entry, until the kernel forgets it or room is needed."""
        return bool(self._library.session_keep_attributes(ino, links, encoded, len(encoded)))

    def prepare(self, ino: int, place: Place, directory: int = 0, position: int = NO_POSITION) -> bool:
        """Gives the place of a small file that will probably be read in a moment, and has the disk begin to read.

        Returns False if it is not kept. `position`: its own in a directory.
        """
        return len(place.pieces) <= PIECES_MAX and bool(
            self._library.session_prepare(ino, directory, position, _encode(place))
        )

    def prepare_at(self, directory: int, position: int, ino: int) -> int:
        """Does so for the file at a position of a directory, where `locate_leaf` was called. Returns a Prepared."""
        return int(self._library.session_prepare_at(directory, position, ino))

    def locate_leaf(self, directory: int, position: int, source: LeafSource) -> bool:
        """Looks up where the small files of a leaf that is kept lie; returns False if none is found.

        The list of the file at the position is asked for first. Raises what the source raises: then, as where none is
        found, the leaf's files have no place until it is dropped.
        """
        library, list_id, ids = self._library, self._list_id, self._ids
        is_kept = library.session_leaf_begin(directory, position)
        while is_kept and (wanted := library.session_leaf_next_list(list_id)):
            block = source.read_block(list_id.raw) if wanted == _BLOCK else None
            if block is not None:
                library.session_leaf_take_block(*block)
            else:
                node = source.read_list(list_id.raw) if wanted == _LIST else b""
                library.session_leaf_take_list(node, len(node))
        count = library.session_leaf_chunks(directory, position, source.is_partial, ids)
        if not count:
            return False
        rows, packs = source.find(_split(ids, count))
        given = (CPack * len(packs))(*[CPack(*pack) for pack in packs])
        return bool(library.session_locate_leaf(directory, position, rows, count, given, len(packs)))

    def find_files(self, directory: int, positions: Sequence[int]) -> list[FoundFile]:
        """Returns what is known of the files at positions of a directory."""
        files = (CFile * len(positions))(*[CFile(position) for position in positions])
        self._library.session_find_files(directory, files, len(files))
        return [FoundFile(file.position, file.ino, file.check, file.found) for file in files]

    def prefetch(self, directory: int, files: Sequence[FoundFile], told: int) -> int:
        """Has files that were found prefetched in this order, and returns how many are: there may be no room for all.

        Of their first reads that of `told` is noted as one of no prefetched file. Each is KNOWN, or the kernel knows no
        file by its number: no file whose number is another one's.
        """
        given = (CFile * len(files))(*[CFile(*file) for file in files])
        return int(self._library.session_prefetch(directory, given, len(given), told))

    def give(self, ino: int, content: bytes) -> None:
        """Gives the verified content of a file, of up to CONTENT_BYTES_MAX, for the read that asks for it next."""
        self._library.session_give(ino, content, len(content))

    def take_first_reads(self) -> list[FirstRead]:
        """Returns the files that were read as `prepare` and `give` have told, once for each time, oldest first."""
        count = self._library.session_take_first_reads(self._first_reads, len(self._first_reads))
        return [FirstRead(read.ino, read.kind, read.begun) for read in self._first_reads[:count]]

    def looked_up(self, ino: int) -> bool:
        """Records a look-up of a file that the layer has not recorded. Returns True if it will probably be read."""
        return bool(self._library.session_looked_up(ino))

    def opened(self, ino: int) -> None:
        """Records that a file is opened, or read for the first time."""
        self._library.session_opened(ino)

    def forget_first_reads(self) -> None:
        """Forgets look-ups, opens, first reads and which directories are watched, for another mount."""
        self._library.session_forget_first_reads()

    def watch(self, directory: int, *, is_watched: bool) -> None:
        """Sets whether each first read in a directory is to be taken at once, of the kind WATCHED."""
        self._library.session_watch(directory, is_watched)

    def drop_places(self) -> None:
        """Drops all places that are kept: `locate` is asked again, and no pack stays open for them."""
        self._library.session_drop_places()

    def take_returned(self) -> Iterator[ReturnedRead]:
        """Yields the reads that were begun natively and that Python has to `answer`."""
        read = CRead()
        while self._library.session_take_returned(read):
            yield ReturnedRead(read.unique, read.ino, read.offset, read.size)

    def answer(self, unique: int, error: int, data: bytes = b"") -> None:
        """Answers a request, with an error if that is not 0."""
        self._library.session_answer(unique, error, data, len(data))

    def has_requests(self) -> bool:
        """Whether requests were read that the binding has not got yet: the connection may have no other one."""
        return bool(self._library.session_has_requests())

    def counts(self) -> tuple[int, int]:
        """Returns how many requests were answered natively, and how many the binding got, since `attach`."""
        counts = self._library.session_get_counts()
        return counts.answered, counts.passed_on


def can_decompress() -> bool:
    """Returns True if the library that the layer decompresses with can be loaded."""
    try:
        ctypes.CDLL(ZSTD)
    except OSError:
        return False
    return True


def load() -> NativeSession | None:
    """Loads the library, or returns None where it is missing, does not load or is switched off."""
    if os.environ.get(SWITCH) == "0" or not LIBRARY.exists():
        return None
    try:
        # Global: the dynamic linker then finds its functions before those of libfuse.
        return NativeSession(ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL), ctypes.PyDLL(str(LIBRARY)))
    except OSError as error:
        log.warning("the native session layer does not load: %s", error)
        return None
