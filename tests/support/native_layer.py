"""The native session layer alone: a socket takes the kernel's place."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hatch_build import compile_session

from vfs.fuse.inodes import DIRECTORY_BITS, FILE_BITS, VIRTUAL_BITS, WORKING_START
from vfs.native import session as native
from vfs.native.session import Modes, NativeSession

SOURCE = Path(native.__file__).parent
TIMEOUT_S = 60
READ_BYTES_MAX = 1 << 20
CHUNK_BYTES_MAX = 256 * 1024
READ_PIECES_MAX = 64
GIVEN = "VFS_TEST_SESSION"

HEADER = struct.Struct("<IIQQIIIHH")
ANSWER = struct.Struct("<IiQ")
OPEN_ANSWER = struct.Struct("<QII")
READ = struct.Struct("<QQIIQII")
LOOKUP, OPEN, READ_, RELEASE, FSYNC, OPENDIR, READDIR, RELEASEDIR, READDIRPLUS = 1, 14, 15, 18, 20, 27, 28, 29, 44
IOCTL = 39
FORGET, BATCH_FORGET = 2, 42
KEEP_CACHE, CACHE_DIR, NO_FLUSH = 2, 8, 32
OPCODES = (FORGET, BATCH_FORGET, LOOKUP, OPEN, READ_, RELEASE, FSYNC, OPENDIR, READDIR, RELEASEDIR, IOCTL, READDIRPLUS)

FILE_INO = (1 << FILE_BITS) + 7
DIRECTORY_INO = (1 << DIRECTORY_BITS) + 7
VIRTUAL_INO = (1 << VIRTUAL_BITS) + 7
_BEHIND = HEADER.pack(HEADER.size, LOOKUP, 1 << 40, 1, 0, 0, 11, 0, 0)
"""A request that only waits behind another one, for Python."""


class Buffer(ctypes.Structure):
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
        self._own, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._own.setblocking(False)
        for end in (self._own, self.other):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self.other.setblocking(False)
        self.session = NativeSession(library)
        self._buffer = Buffer()
        self._unique = 0
        self.is_crowded = False
        """Whether another request, for Python, waits behind each one."""

    def attach(self, modes: Modes) -> None:
        self.session.attach(self.other.fileno(), modes, WORKING_START)

    def receive(self) -> int:
        """Lets the layer read requests; returns the size of what the binding gets, or a negative error."""
        size: int = self._library.fuse_session_receive_buf(None, ctypes.byref(self._buffer))
        return size

    def end(self) -> None:
        self.session.detach()
        self._own.close()
        self.other.close()
        ctypes.CDLL(None).free(ctypes.c_void_p(self._buffer.mem))

    def send_bytes(self, request: bytes) -> bytes | None:
        """Sends a request and lets the layer read it; returns what the binding gets, if anything."""
        self._own.send(request)
        if not self.is_crowded:
            return self.take()
        self._own.send(_BEHIND)
        passed = self.take()
        if passed == _BEHIND:
            return None
        assert self.take() == _BEHIND
        return passed

    def take(self) -> bytes | None:
        """Lets the layer read requests; returns what the binding gets, if anything."""
        size = self.receive()
        if size == -errno.EINTR:
            return None
        assert size == self._buffer.size
        return ctypes.string_at(self._buffer.mem, size)

    def post(self, opcode: int, ino: int, body: bytes) -> None:
        """Sends a request that the layer reads later."""
        self._unique += 1
        self._own.send(HEADER.pack(HEADER.size + len(body), opcode, self._unique, ino, 0, 0, 11, 0, 0) + body)

    def send(self, opcode: int, ino: int, body: bytes, *, thread: int = 11) -> bytes | None:
        self._unique += 1
        size = HEADER.size + len(body)
        return self.send_bytes(HEADER.pack(size, opcode, self._unique, ino, 0, 0, thread, 0, 0) + body)

    def offer(self, ino: int) -> None:
        """Sends an open, if there is room for one."""
        with suppress(BlockingIOError):
            self._own.send(HEADER.pack(HEADER.size + 8, OPEN, 1, ino, 0, 0, 11, 0, 0) + open_body())

    def open_many(self, opens: Sequence[tuple[int, int]]) -> None:
        """Sends opens of (inode, thread), all of which the layer has to answer, and takes the answers."""
        for start in range(0, len(opens), 100):
            batch = opens[start : start + 100]
            for ino, thread in batch:
                self._unique += 1
                self._own.send(HEADER.pack(HEADER.size + 8, OPEN, self._unique, ino, 0, 0, thread, 0, 0) + open_body())
            before = self.session.counts()
            while sum(self.session.counts()) < sum(before) + len(batch):
                self.receive()
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
        answer = self.answer_at_hand()
        assert answer is not None
        return answer

    def answer_at_hand(self) -> tuple[int, int, bytes] | None:
        """Returns what `next_answer` does if the answer is there."""
        try:
            text = self._own.recv(2 << 20)
        except BlockingIOError:
            return None
        size, error, unique = ANSWER.unpack_from(text)
        assert size == len(text)
        return unique, -error, text[ANSWER.size :]

    @property
    def socket(self) -> socket.socket:
        """Where answers come."""
        return self._own

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._unique

    def has_answer(self) -> bool:
        return self.answer_at_hand() is not None


def load_layer(folder: Path) -> ctypes.PyDLL:
    """Compiles and loads the layer, or loads the one that a test has compiled in another way."""
    given = os.environ.get(GIVEN)
    path = Path(given) if given else folder / "session.so"
    if not given:
        assert compile_session(SOURCE, path) == ""
    # The binding calls the layer while it holds the interpreter's lock.
    loaded = ctypes.PyDLL(str(path))
    loaded.fuse_session_receive_buf.argtypes = (ctypes.c_void_p, ctypes.POINTER(Buffer))
    return loaded


def read_body(handle: int, offset: int = 4096, size: int = 4096) -> bytes:
    """Returns the body of a READ."""
    return READ.pack(handle, offset, size, 0, 0, 0, 0)


def open_body(flags: int = os.O_RDONLY) -> bytes:
    """Returns the body of an OPEN or OPENDIR."""
    return struct.pack("<II", flags, 0)
