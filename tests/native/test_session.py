"""The native session layer alone: a socket takes the kernel's place. All of it once more under the sanitizers."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hatch_build import FLAGS, compile_session

from vfs.fuse.inodes import DIRECTORY_BITS, FILE_BITS, VIRTUAL_BITS, WORKING_START
from vfs.model.ids import chunk_id
from vfs.native import session as native
from vfs.native.session import (
    DIRECTORY,
    FILE,
    HANDLE,
    PIECES_MAX,
    RING_RECORDS,
    Modes,
    NativeSession,
    Piece,
    Place,
    ReturnedRead,
)

SOURCE = Path(native.__file__).parent
TIMEOUT_S = 60
READ_BYTES_MAX = 256 * 1024
GIVEN = "VFS_TEST_SESSION"

HEADER = struct.Struct("<IIQQIIIHH")
ANSWER = struct.Struct("<IiQ")
OPEN_ANSWER = struct.Struct("<QII")
READ = struct.Struct("<QQIIQII")
LOOKUP, OPEN, READ_, RELEASE, FSYNC, OPENDIR, READDIR, RELEASEDIR, READDIRPLUS = 1, 14, 15, 18, 20, 27, 28, 29, 44
KEEP_CACHE, CACHE_DIR, NO_FLUSH = 2, 8, 32
OPCODES = (LOOKUP, OPEN, READ_, RELEASE, FSYNC, OPENDIR, READDIR, RELEASEDIR, READDIRPLUS)

FILE_INO = (1 << FILE_BITS) + 7
DIRECTORY_INO = (1 << DIRECTORY_BITS) + 7
VIRTUAL_INO = (1 << VIRTUAL_BITS) + 7


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("mem", ctypes.c_void_p),
        ("fd", ctypes.c_int),
        ("pos", ctypes.c_int64),
        ("mem_size", ctypes.c_size_t),
    )


class Kernel:
    """Sends requests and reads answers."""

    def __init__(self, library: ctypes.PyDLL) -> None:
        self._library = library
        self._own, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._own.setblocking(False)
        for end in (self._own, self._other):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self._other.setblocking(False)
        self.session = NativeSession(library)
        self._buffer = _Buffer()
        self._unique = 0

    def attach(self, modes: Modes) -> None:
        self.session.attach(self._other.fileno(), modes, WORKING_START)

    def end(self) -> None:
        self.session.detach()
        self._own.close()
        self._other.close()
        ctypes.CDLL(None).free(ctypes.c_void_p(self._buffer.mem))

    def send_bytes(self, request: bytes) -> bytes | None:
        """Sends a request and lets the layer read it; returns what the binding gets, if anything."""
        self._own.send(request)
        size = self._library.fuse_session_receive_buf(None, ctypes.byref(self._buffer))
        if size == -errno.EINTR:
            return None
        assert size == self._buffer.size
        return ctypes.string_at(self._buffer.mem, size)

    def send(self, opcode: int, ino: int, body: bytes, *, thread: int = 11) -> bytes | None:
        self._unique += 1
        size = HEADER.size + len(body)
        return self.send_bytes(HEADER.pack(size, opcode, self._unique, ino, 0, 0, thread, 0, 0) + body)

    def open_many(self, opens: Sequence[tuple[int, int]]) -> None:
        """Sends opens of (inode, thread), all of which the layer has to answer, and takes the answers."""
        for start in range(0, len(opens), 100):
            batch = opens[start : start + 100]
            for ino, thread in batch:
                self._unique += 1
                self._own.send(HEADER.pack(HEADER.size + 8, OPEN, self._unique, ino, 0, 0, thread, 0, 0) + _open())
            before = self.session.counts()
            while sum(self.session.counts()) < sum(before) + len(batch):
                self._library.fuse_session_receive_buf(None, ctypes.byref(self._buffer))
            assert self.session.counts() == (before[0] + len(batch), before[1])
            while self.has_answer():
                pass

    def answer(self) -> tuple[int, bytes]:
        """Returns the error and the body of the answer to the last request."""
        unique, error, body = self.next_answer()
        assert unique == self._unique
        return error, body

    def next_answer(self) -> tuple[int, int, bytes]:
        """Waits for an answer; returns the number of its request, the error and the body."""
        assert select.select([self._own], [], [], TIMEOUT_S)[0]
        text = self._own.recv(1 << 20)
        size, error, unique = ANSWER.unpack_from(text)
        assert size == len(text)
        return unique, -error, text[ANSWER.size :]

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._unique

    def has_answer(self) -> bool:
        try:
            self._own.recv(1 << 16)
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.PyDLL:
    given = os.environ.get(GIVEN)
    path = Path(given) if given else tmp_path_factory.mktemp("session") / "session.so"
    if not given:
        assert compile_session(SOURCE, path) == ""
    # The binding calls the layer while it holds the interpreter's lock.
    loaded = ctypes.PyDLL(str(path))
    loaded.fuse_session_receive_buf.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Buffer))
    return loaded


@pytest.fixture
def kernel(library: ctypes.PyDLL) -> Iterator[Kernel]:
    made = Kernel(library)
    yield made
    made.end()


def _open(flags: int = os.O_RDONLY) -> bytes:
    return struct.pack("<II", flags, 0)


def _release(handle: int) -> bytes:
    return struct.pack("<QIIQ", handle, 0, 0, 0)


def _read(handle: int, offset: int = 4096, size: int = 4096) -> bytes:
    return READ.pack(handle, offset, size, 0, 0, 0, 0)


class Pack:
    """A file of bytes, of which reads are answered natively, and the read that is given back."""

    def __init__(self, kernel: Kernel, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.data = data
        self._file = path.open("rb")
        self.places: dict[int, Place | None] = {}
        self._kernel = kernel
        event = kernel.session.serve_reads(lambda ino, _offset, _size: self.places.get(ino))
        assert event is not None
        self.event = event

    def piece(self, start: int, size: int) -> Piece:
        return Piece(start, size, self._file.fileno(), chunk_id(self.data[start : start + size]))

    def asked(self, ino: int, place: Place | None) -> bytes | None:
        """Asks for a file's bytes; returns what the binding gets, if anything."""
        self.places[ino] = place
        return self._kernel.send(READ_, ino, _read(ino | HANDLE, 0, READ_BYTES_MAX))

    def given_back(self) -> ReturnedRead:
        assert select.select([self.event], [], [], TIMEOUT_S)[0]
        (read,) = self._kernel.session.take_returned()
        return read

    def close(self) -> None:
        self._kernel.session.detach()
        self._file.close()


@pytest.fixture
def pack(kernel: Kernel, tmp_path: Path) -> Iterator[Pack]:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    made = Pack(kernel, tmp_path / "pack", random.Random(3).randbytes(2 * READ_BYTES_MAX))
    yield made
    made.close()


def test_files_and_directories_of_versions_are_opened_and_closed(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    assert kernel.send(OPEN, FILE_INO, _open()) is None
    assert kernel.answer() == (0, OPEN_ANSWER.pack(FILE_INO | HANDLE, KEEP_CACHE | NO_FLUSH, 0))
    assert kernel.send(RELEASE, FILE_INO, _release(FILE_INO | HANDLE)) is None
    assert kernel.answer() == (0, b"")
    assert kernel.send(OPENDIR, DIRECTORY_INO, _open()) is None
    assert kernel.answer() == (0, OPEN_ANSWER.pack(DIRECTORY_INO | HANDLE, KEEP_CACHE | CACHE_DIR, 0))
    assert kernel.send(RELEASEDIR, DIRECTORY_INO, _release(DIRECTORY_INO | HANDLE)) is None
    assert kernel.answer() == (0, b"")
    assert kernel.session.counts() == (4, 0)


@pytest.mark.parametrize(
    ("opcode", "ino", "body"),
    [
        (OPEN, FILE_INO, _open(os.O_WRONLY)),
        (OPEN, FILE_INO, _open(os.O_RDWR)),
        (OPEN, FILE_INO, _open(os.O_TRUNC)),
        (OPEN, WORKING_START, _open()),
        (OPEN, FILE_INO, b""),
        (OPENDIR, 1, _open()),
        (OPENDIR, VIRTUAL_INO, _open()),
        (OPENDIR, WORKING_START, _open()),
        (RELEASE, FILE_INO, _release(3)),
        (RELEASE, FILE_INO, b""),
        (LOOKUP, DIRECTORY_INO, b"name\0"),
        (READ_, FILE_INO, _read(3)),
        (READ_, FILE_INO, _read(FILE_INO | HANDLE)),
        (READ_, FILE_INO, b""),
    ],
)
def test_what_python_has_to_answer_reaches_the_binding_as_it_is(
    kernel: Kernel, opcode: int, ino: int, body: bytes
) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    kernel.session.record_opens(True)
    passed = kernel.send(opcode, ino, body)
    assert passed is not None
    assert passed[HEADER.size :] == body
    assert not kernel.has_answer()
    assert kernel.session.take_records() == []


def test_without_opens_a_request_gets_the_inode_as_its_handle(kernel: Kernel) -> None:
    kernel.attach(Modes.NO_OPEN | Modes.NO_OPENDIR)
    for opcode, ino in ((OPEN, FILE_INO), (OPENDIR, DIRECTORY_INO), (OPENDIR, VIRTUAL_INO), (OPENDIR, 1)):
        assert kernel.send(opcode, ino, _open()) is None
        assert kernel.answer() == (errno.ENOSYS, b"")
    for opcode, ino in ((READ_, FILE_INO), (READDIR, 1), (READDIRPLUS, DIRECTORY_INO)):
        passed = kernel.send(opcode, ino, _read(0))
        assert passed is not None
        assert passed[HEADER.size :] == _read(ino | HANDLE)
    for opcode in (FSYNC,):
        assert kernel.send(opcode, FILE_INO, struct.pack("<QII", 0, 0, 0)) is None
        assert kernel.answer() == (0, b"")


def test_opens_are_recorded_in_their_order_and_none_is_lost_when_the_ring_is_full(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    assert kernel.send(OPEN, FILE_INO, _open(), thread=1) is None
    assert kernel.session.take_records() == []
    kernel.session.record_opens(True)
    for thread in (2, 3, 4, 5):
        kernel.session.know_thread(thread, run=thread)
    assert kernel.send(OPENDIR, DIRECTORY_INO, _open(), thread=2) is None
    kernel.open_many([(FILE_INO + number, 3) for number in range(RING_RECORDS - 1)])
    assert kernel.send(OPEN, FILE_INO, _open(), thread=4) is not None
    taken = kernel.session.take_records()
    assert [(r.ino, r.thread, r.kind) for r in taken] == [
        (DIRECTORY_INO, 2, DIRECTORY),
        *((FILE_INO + number, 3, FILE) for number in range(RING_RECORDS - 1)),
    ]
    assert [r.time_ns for r in taken] == sorted(r.time_ns for r in taken)
    assert kernel.send(OPEN, FILE_INO, _open(), thread=5) is None
    assert [r.thread for r in kernel.session.take_records()] == [5]


def test_opens_of_unknown_threads_reach_python(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    kernel.session.record_opens(True)
    assert kernel.send(OPEN, FILE_INO, _open(), thread=1) is not None
    kernel.session.know_thread(1, run=1)
    kernel.session.know_thread(2, run=None)
    assert kernel.send(OPEN, FILE_INO, _open(), thread=1) is None
    assert kernel.send(OPEN, FILE_INO, _open(), thread=2) is None
    # Outside of the daemon's process-id namespace: they cannot be told apart.
    assert kernel.send(OPEN, FILE_INO, _open(), thread=0) is not None
    # It takes the place of thread 1 in the table.
    kernel.session.know_thread(1 + 4096, run=1)
    assert kernel.send(OPENDIR, DIRECTORY_INO, _open(), thread=1) is not None
    kernel.session.forget_thread(1)
    assert kernel.send(OPENDIR, DIRECTORY_INO, _open(), thread=1 + 4096) is None
    kernel.session.forget_thread(1 + 4096)
    assert kernel.send(OPENDIR, DIRECTORY_INO, _open(), thread=1 + 4096) is not None
    assert [(r.thread, r.kind) for r in kernel.session.take_records()] == [(1, FILE), (1 + 4096, DIRECTORY)]
    kernel.session.know_thread(1, run=1)
    kernel.session.record_opens(True)
    assert kernel.send(OPEN, FILE_INO, _open(), thread=1) is not None


def test_a_run_has_the_first_open_of_each_inode_whichever_thread_makes_it(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)

    def opened(*threads: int) -> list[tuple[int, int]]:
        for thread in threads:
            for opcode, ino in ((OPEN, FILE_INO), (OPENDIR, DIRECTORY_INO), (OPEN, FILE_INO)):
                assert kernel.send(opcode, ino, _open(), thread=thread) is None
        return [(r.thread, r.kind) for r in kernel.session.take_records()]

    def begin(**runs: int | None) -> None:
        kernel.session.record_opens(True)
        for thread, run in runs.items():
            kernel.session.know_thread(int(thread[1:]), run)

    begin(t1=1, t2=1, t3=None)
    assert opened(3, 1, 2, 3) == [(1, FILE), (1, DIRECTORY)]
    # A thread ends, and another process of another run gets its number.
    kernel.session.forget_thread(1)
    kernel.session.know_thread(1, run=2)
    assert opened(2, 1, 2, 1) == [(1, FILE), (1, DIRECTORY)]
    # A run begins within the first one, whose threads are asked for anew.
    begin(t1=3, t2=1)
    assert opened(2, 1) == [(1, FILE), (1, DIRECTORY)]
    # All runs have ended, and one begins.
    kernel.session.record_opens(False)
    assert opened(1) == []
    begin(t1=4)
    assert opened(1) == [(1, FILE), (1, DIRECTORY)]


def test_no_first_open_of_more_inodes_than_are_remembered_is_lost(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN)
    kernel.session.record_opens(True)
    source = random.Random(2)
    runs = {thread: 1 + thread % 3 for thread in range(1, 10)}
    for thread, run in runs.items():
        kernel.session.know_thread(thread, run)
    opens = [(FILE_INO + number, thread) for number in range(23_000) for thread in (1, 2, 3)]
    opens += [(ino, source.choice((thread, thread + 3, thread + 6))) for ino, thread in source.sample(opens, 10_000)]
    records: list[tuple[int, int]] = []
    for start in range(0, len(opens), RING_RECORDS):
        kernel.open_many(opens[start : start + RING_RECORDS])
        records += [(r.ino, runs[r.thread]) for r in kernel.session.take_records()]
    assert set(records) == {(ino, runs[thread]) for ino, thread in opens}
    assert len(records) < len(opens)


SIZES = (1, 63, 64, 65, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 8191, 8192, 8193, 9216, 16385, 31744, 65536, 100_001)


@pytest.mark.parametrize("size", [*SIZES, READ_BYTES_MAX - 1, READ_BYTES_MAX])
def test_a_read_is_answered_from_a_pack_if_the_bytes_have_their_id(kernel: Kernel, pack: Pack, size: int) -> None:
    assert pack.asked(FILE_INO, Place(0, size, [pack.piece(5, size)])) is None
    assert kernel.answer() == (0, pack.data[5 : 5 + size])


def test_a_read_of_some_pieces_is_answered_without_what_it_does_not_ask_for(kernel: Kernel, pack: Pack) -> None:
    pieces = [pack.piece(7, 5000), pack.piece(100_000, 1), pack.piece(20_000, 70_000)]
    whole = pack.data[7:5007] + pack.data[100_000:100_001] + pack.data[20_000:90_000]
    assert pack.asked(FILE_INO, Place(4096, 8192, pieces)) is None
    assert kernel.answer() == (0, whole[4096 : 4096 + 8192])
    many = [pack.piece(at, 3) for at in range(PIECES_MAX)]
    assert pack.asked(FILE_INO, Place(0, 3 * PIECES_MAX, many)) is None
    assert kernel.answer() == (0, b"".join(pack.data[at : at + 3] for at in range(PIECES_MAX)))


def test_bytes_with_another_id_are_not_answered_but_given_back(kernel: Kernel, pack: Pack) -> None:
    right, wrong = pack.piece(0, 1000), pack.piece(1000, 3000)
    for piece in (wrong._replace(offset=1001), wrong._replace(size=2999), wrong._replace(offset=2 * READ_BYTES_MAX)):
        assert pack.asked(FILE_INO, Place(0, 1000 + piece.size, [right, piece])) is None
        read = pack.given_back()
        assert read == ReturnedRead(kernel.requests, FILE_INO, 0, READ_BYTES_MAX)
        assert not kernel.has_answer()
        kernel.session.answer(read.unique, errno.EIO)
        assert kernel.answer() == (errno.EIO, b"")
    assert pack.asked(FILE_INO, Place(0, 3000, [wrong])) is None
    assert kernel.answer() == (0, pack.data[1000:4000])


def test_reads_that_are_not_located_reach_the_binding(kernel: Kernel, pack: Pack) -> None:
    piece = pack.piece(0, 1000)
    for place in (
        None,
        Place(0, 0, []),
        Place(0, 1001, [piece]),
        Place(1001, 0, [piece]),
        Place(0, 1, [piece._replace(size=READ_BYTES_MAX + 1)]),
        Place(0, 1, [pack.piece(0, READ_BYTES_MAX), piece]),
        Place(0, 1, [piece] * (PIECES_MAX + 1)),
        Place(0, 1000, [piece, piece._replace(descriptor=-1)]),
    ):
        passed = pack.asked(FILE_INO, place)
        assert passed is not None
        assert passed[HEADER.size :] == _read(FILE_INO | HANDLE, 0, READ_BYTES_MAX)
    for ino in (DIRECTORY_INO, WORKING_START):
        assert pack.asked(ino, Place(0, 1000, [piece])) is not None
    assert kernel.send(READ_, FILE_INO, _read(3)) is not None
    assert not kernel.has_answer()


def test_what_is_under_way_is_answered_when_the_layer_ends(kernel: Kernel, pack: Pack) -> None:
    # Short answers: all of them have to fit into the socket.
    place = Place(100_000, 100, [pack.piece(0, 200_000)])
    begun = set()
    for ino in range(FILE_INO, FILE_INO + 20):
        kernel.session.hint(place)
        if pack.asked(ino, place) is None:
            begun.add(kernel.requests)
    kernel.session.detach()
    assert begun
    assert {kernel.next_answer() for _ in begun} == {(unique, 0, pack.data[100_000:100_100]) for unique in begun}


def test_any_bytes_are_answered_or_passed_on(kernel: Kernel) -> None:
    source = random.Random(1)
    for modes in (Modes(0), Modes.OPEN | Modes.OPENDIR, Modes.NO_OPEN | Modes.NO_OPENDIR):
        kernel.attach(modes)
        kernel.session.record_opens(True)
        kernel.session.know_thread(11, run=1)
        for count in range(1, 3001):
            ino = source.choice((1, FILE_INO, DIRECTORY_INO, VIRTUAL_INO, WORKING_START, source.getrandbits(64)))
            opcode = source.choice((*OPCODES, source.getrandbits(32)))
            body = source.randbytes(source.choice((0, 1, 7, 8, 15, 16, 24, 39, 40, 41, 5000)))
            passed = kernel.send(opcode, ino, body)
            assert (passed is None) == kernel.has_answer()
            assert sum(kernel.session.counts()) == count


def test_requests_reach_libfuse_again_after_the_end(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN)
    kernel.session.detach()
    # No libfuse is loaded that could read from the socket, or one that has no session.
    if "libfuse3" not in Path("/proc/self/maps").read_text():
        buffer = _Buffer()
        assert kernel._library.fuse_session_receive_buf(None, ctypes.byref(buffer)) == -errno.ENOSYS  # noqa: SLF001


def test_the_sanitizers_find_nothing(tmp_path: Path) -> None:
    path = tmp_path / "session.so"
    # With -O1 it is compiled in half the time, and less of what is undefined is optimized away.
    flags = (*FLAGS, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert compile_session(SOURCE, path, flags) == ""
    sanitizer = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {**os.environ, GIVEN: str(path), "LD_PRELOAD": sanitizer, "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not sanitizers", __file__]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
