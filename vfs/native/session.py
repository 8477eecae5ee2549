"""The interface to the native session layer, a shared library that answers some kernel requests without Python.

`session.h` describes the functions. The library has to be loaded before the binding, whose calls it intercepts; where
it was not compiled, or `VFS_NATIVE=0` is in the environment, the binding answers all requests.
"""

from __future__ import annotations

import ctypes
import logging
import os
import struct
from collections.abc import Iterator, Sequence
from enum import IntFlag
from pathlib import Path
from typing import Any, NamedTuple, Protocol

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


class _Record(ctypes.Structure):
    _fields_ = (
        ("time_ns", ctypes.c_uint64),
        ("ino", ctypes.c_uint64),
        ("thread", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
    )


class _Counts(ctypes.Structure):
    _fields_ = (("answered", ctypes.c_uint64), ("passed_on", ctypes.c_uint64))


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
        """Called after each `locate`, when the read is begun or answered: what is done here delays it no more."""
        ...


class NameSource(Protocol):
    """Knows versions' directories and counts look-ups. Called in the thread of the event loop; raises nothing."""

    def open_leaf(self, directory: int, name: bytes) -> bool:
        """Hands over the leaf that a name belongs in, by `keep_leaf`; returns False where Python has to answer."""
        ...

    def admit(self, directory: int, position: int, ino: int, check: int, name: bytes, encoded: bytes) -> int:
        """Counts a look-up of the entry at a position in a directory; returns the inode, 0 where Python has to answer.

        `ino` and `check` are derived from the entry as InodeTable does; 0 for a directory.
        """
        ...

    def find_attributes(self, ino: int) -> bool:
        """Hands over an inode's attributes, by `keep_attributes`; returns False where Python has to answer."""
        ...

    def admitted(self) -> None:
        """Called when a look-up that was admitted is answered."""
        ...


_OpenLeafFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_char_p)
_AdmitFunction = ctypes.CFUNCTYPE(
    ctypes.c_uint64,
    ctypes.c_uint64,
    ctypes.c_uint64,
    ctypes.c_uint64,
    ctypes.c_uint32,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_uint32,
)
_FindAttributesFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64)
_AdmittedFunction = ctypes.CFUNCTYPE(None)


def _encode(place: Place) -> bytes:
    """Returns a place as session.h has it."""
    head = _PLACE.pack(place.start, place.size, len(place.pieces), place.is_kept)
    return head + b"".join([_PIECE.pack(*piece) for piece in place.pieces])


class _Read(ctypes.Structure):
    _fields_ = (
        ("unique", ctypes.c_uint64),
        ("ino", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
    )


class ReturnedRead(NamedTuple):
    """A read that was begun natively and has to be answered by Python: the bytes were not what they must be."""

    unique: int
    ino: int
    offset: int
    size: int


_LocatedFunction = ctypes.CFUNCTYPE(None)
_LocateFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)


class NativeSession:
    """The loaded library. All methods run in the thread of the event loop."""

    def __init__(self, library: Any) -> None:
        self._library = library
        library.session_attach.argtypes = (ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64)
        library.session_attach.restype = None
        library.session_detach.argtypes = ()
        library.session_detach.restype = None
        library.session_set_recording.argtypes = (ctypes.c_int,)
        library.session_set_recording.restype = None
        library.session_know_thread.argtypes = (ctypes.c_uint32, ctypes.c_uint32)
        library.session_know_thread.restype = None
        library.session_forget_thread.argtypes = (ctypes.c_uint32,)
        library.session_forget_thread.restype = None
        library.session_take_records.argtypes = (ctypes.POINTER(_Record), ctypes.c_size_t)
        library.session_take_records.restype = ctypes.c_size_t
        library.session_get_counts.argtypes = ()
        library.session_get_counts.restype = _Counts
        library.session_has_requests.argtypes = ()
        library.session_has_requests.restype = ctypes.c_int
        library.session_serve_reads.argtypes = (_LocateFunction, _LocatedFunction)
        library.session_serve_reads.restype = ctypes.c_int
        library.session_drop_places.argtypes = ()
        library.session_drop_places.restype = None
        library.session_prepare.argtypes = (ctypes.c_uint64, ctypes.c_char_p)
        library.session_prepare.restype = ctypes.c_int
        library.session_give.argtypes = (ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint32)
        library.session_give.restype = None
        library.session_take_first_reads.argtypes = (ctypes.POINTER(ctypes.c_uint64), ctypes.c_uint32)
        library.session_take_first_reads.restype = ctypes.c_uint32
        library.session_serve_names.argtypes = (
            _OpenLeafFunction,
            _AdmitFunction,
            _FindAttributesFunction,
            _AdmittedFunction,
        )
        library.session_serve_names.restype = None
        library.session_keep_leaf.argtypes = (
            ctypes.c_uint64,
            ctypes.c_uint64,
            ctypes.c_char_p,
            ctypes.c_uint32,
            ctypes.c_char_p,
            ctypes.c_uint32,
        )
        library.session_keep_leaf.restype = ctypes.c_int
        library.session_drop_leaves.argtypes = (ctypes.c_uint64,)
        library.session_drop_leaves.restype = None
        library.session_keep_attributes.argtypes = (ctypes.c_uint64, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint32)
        library.session_keep_attributes.restype = ctypes.c_int
        library.session_returned_event.argtypes = ()
        library.session_returned_event.restype = ctypes.c_int
        library.session_take_returned.argtypes = (ctypes.POINTER(_Read),)
        library.session_take_returned.restype = ctypes.c_int
        library.session_answer.argtypes = (ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
        library.session_answer.restype = None
        self._records = (_Record * 1024)()
        self._inos = (ctypes.c_uint64 * 256)()
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
        self._locate, self._located = _LocateFunction(find), _LocatedFunction(locator.located)
        if not self._library.session_serve_reads(self._locate, self._located):
            log.info("the system has no " + ZSTD + ": what is compressed is read without the native layer")
        event = self._library.session_returned_event()
        return event if event >= 0 else None

    def serve_names(self, source: NameSource) -> None:
        """Begins to answer look-ups in versions' directories, and requests for attributes, until `detach`."""

        def admit(
            directory: int, position: int, ino: int, check: int, name: bytes, entry: int, entry_bytes: int
        ) -> int:
            return give(directory, position, ino, check, name, string_at(entry, entry_bytes))

        string_at, give = ctypes.string_at, source.admit
        # The library calls them: they must not be freed before.
        self._name_functions = (
            _OpenLeafFunction(source.open_leaf),
            _AdmitFunction(admit),
            _FindAttributesFunction(source.find_attributes),
            _AdmittedFunction(source.admitted),
        )
        self._library.session_serve_names(*self._name_functions)

    def keep_leaf(self, directory: int, position: int, prefix: bytes, node: bytes) -> bool:
        """Keeps a verified node of entries of a directory, of which look-ups there are answered.

        `position` is that of its first entry; a file's number is derived from `prefix` and the file's entry. Returns
        False if the node is not kept: it is no leaf, holds what cannot be, or is encoded as Python would not do.
        """
        return bool(self._library.session_keep_leaf(directory, position, prefix, len(prefix), node, len(node)))

    def drop_leaves(self, directory: int) -> None:
        """Drops what is kept of a directory that the kernel has forgotten: another one may get its number."""
        self._library.session_drop_leaves(directory)

    def keep_attributes(self, ino: int, links: int, encoded: bytes) -> bool:
        """Keeps what `stat` shows of an inode, given its entry, until the kernel forgets it or room is needed."""
        return bool(self._library.session_keep_attributes(ino, links, encoded, len(encoded)))

    def prepare(self, ino: int, place: Place) -> bool:
        """Gives the place of a small file that will probably be read in a moment, and has the disk begin to read.

        Returns False if it is not kept.
        """
        return len(place.pieces) <= PIECES_MAX and bool(self._library.session_prepare(ino, _encode(place)))

    def give(self, ino: int, content: bytes) -> None:
        """Gives the verified content of a file, of up to CONTENT_BYTES_MAX, for the read that asks for it next."""
        self._library.session_give(ino, content, len(content))

    def take_first_reads(self) -> list[int]:
        """Returns the files that were read as `prepare` and `give` have told, once for each time, oldest first."""
        return self._inos[: self._library.session_take_first_reads(self._inos, len(self._inos))]

    def drop_places(self) -> None:
        """Drops all places that are kept: `locate` is asked again, and no pack stays open for them."""
        self._library.session_drop_places()

    def take_returned(self) -> Iterator[ReturnedRead]:
        """Yields the reads that were begun natively and that Python has to `answer`."""
        read = _Read()
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
        return NativeSession(ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL))
    except OSError as error:
        log.warning("the native session layer does not load: %s", error)
        return None
