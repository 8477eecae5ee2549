"""The native session layer alone: a socket takes the kernel's place. All of it once more under the sanitizers."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatch_build import FLAGS, compile_session

from vfs.fuse.inodes import DIRECTORY_BITS, FILE_BITS, VIRTUAL_BITS, WORKING_START
from vfs.native import session as native
from vfs.native.session import DIRECTORY, FILE, HANDLE, RING_RECORDS, Modes, NativeSession

SOURCE = Path(native.__file__).parent
GIVEN = "VFS_TEST_SESSION"

HEADER = struct.Struct("<IIQQIIIHH")
ANSWER = struct.Struct("<IiQ")
OPEN_ANSWER = struct.Struct("<QII")
READ = struct.Struct("<QQIIQII")
LOOKUP, OPEN, READ_, RELEASE, FSYNC, OPENDIR, READDIR, RELEASEDIR, READDIRPLUS = 1, 14, 15, 18, 20, 27, 28, 29, 44
KEEP_CACHE, CACHE_DIR = 2, 8
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

    def answer(self) -> tuple[int, bytes]:
        """Returns the error and the body of the answer to the last request."""
        text = self._own.recv(1 << 16)
        size, error, unique = ANSWER.unpack_from(text)
        assert (size, unique) == (len(text), self._unique)
        return -error, text[ANSWER.size :]

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


def _read(handle: int) -> bytes:
    return READ.pack(handle, 4096, 4096, 0, 0, 0, 0)


def test_files_and_directories_of_versions_are_opened_and_closed(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    assert kernel.send(OPEN, FILE_INO, _open()) is None
    assert kernel.answer() == (0, OPEN_ANSWER.pack(FILE_INO | HANDLE, KEEP_CACHE, 0))
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
        kernel.session.know_thread(thread, is_member=True)
    assert kernel.send(OPENDIR, DIRECTORY_INO, _open(), thread=2) is None
    for number in range(RING_RECORDS - 1):
        assert kernel.send(OPEN, FILE_INO + number, _open(), thread=3) is None
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
    kernel.session.know_thread(1, is_member=True)
    kernel.session.know_thread(2, is_member=False)
    assert kernel.send(OPEN, FILE_INO, _open(), thread=1) is None
    assert kernel.send(OPEN, FILE_INO, _open(), thread=2) is None
    # Outside of the daemon's process-id namespace: they cannot be told apart.
    assert kernel.send(OPEN, FILE_INO, _open(), thread=0) is not None
    # It takes the place of thread 1 in the table.
    kernel.session.know_thread(1 + 4096, is_member=True)
    assert kernel.send(OPENDIR, DIRECTORY_INO, _open(), thread=1) is not None
    kernel.session.forget_thread(1)
    assert kernel.send(OPENDIR, DIRECTORY_INO, _open(), thread=1 + 4096) is None
    kernel.session.forget_thread(1 + 4096)
    assert kernel.send(OPENDIR, DIRECTORY_INO, _open(), thread=1 + 4096) is not None
    assert [(r.thread, r.kind) for r in kernel.session.take_records()] == [(1, FILE), (1 + 4096, DIRECTORY)]
    kernel.session.know_thread(1, is_member=True)
    kernel.session.record_opens(True)
    assert kernel.send(OPEN, FILE_INO, _open(), thread=1) is not None


def test_any_bytes_are_answered_or_passed_on(kernel: Kernel) -> None:
    source = random.Random(1)
    for modes in (Modes(0), Modes.OPEN | Modes.OPENDIR, Modes.NO_OPEN | Modes.NO_OPENDIR):
        kernel.attach(modes)
        kernel.session.record_opens(True)
        kernel.session.know_thread(11, is_member=True)
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
    flags = (*FLAGS, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert compile_session(SOURCE, path, flags) == ""
    sanitizer = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {**os.environ, GIVEN: str(path), "LD_PRELOAD": sanitizer, "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not sanitizers", __file__]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
